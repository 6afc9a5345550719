#include "warp_host.h"

#include <algorithm>
#include <vector>

namespace faceembed {

void warp(const Image& image, const Matrix& m, Border border, const Canvas& out) {
    const double r = tent_radius(m);
    for (int y = 0; y < out.height; ++y)
        for (int x = 0; x < out.width; ++x)
            sample(image, m.a * x + m.b * y + m.tx, m.c * x + m.d * y + m.ty, r, border, out.data + y * out.stride + 3 * x);
}

namespace {
struct Taps { int first; std::vector<float> w; };
std::vector<Taps> resize_taps(int source, int target) {
    const double ratio = double(source) / target, r = std::max(ratio, 1.0);
    std::vector<Taps> taps(target);
    for (int i = 0; i < target; ++i) {
        const double centre = (i + 0.5) * ratio - 0.5;
        const int low = std::max(0, int(std::floor(centre - r)) + 1), high = std::min(source - 1, int(std::ceil(centre + r)) - 1);
        double sum = 0;
        taps[i].first = low;
        for (int p = low; p <= high; ++p) sum += 1.0 - std::fabs(p - centre) / r;
        for (int p = low; p <= high; ++p) taps[i].w.push_back(float((1.0 - std::fabs(p - centre) / r) / sum));
    }
    return taps;
}
}  // namespace

void resize(const Image& image, const Canvas& out) {
    const auto rows = resize_taps(image.height, out.height), columns = resize_taps(image.width, out.width);
    std::vector<float> line(3 * std::size_t(image.width));
    for (int y = 0; y < out.height; ++y) {
        std::fill(line.begin(), line.end(), 0.0f);
        for (std::size_t k = 0; k < rows[y].w.size(); ++k) {
            const unsigned char* row = image.data + (rows[y].first + static_cast<long long>(k)) * image.stride;
            for (std::size_t j = 0; j < line.size(); ++j) line[j] += rows[y].w[k] * row[j];
        }
        for (int x = 0; x < out.width; ++x) {
            float sum[3] = {0, 0, 0};
            const float* from = line.data() + 3 * columns[x].first;
            for (std::size_t k = 0; k < columns[x].w.size(); ++k)
                for (int c = 0; c < 3; ++c) sum[c] += columns[x].w[k] * from[3 * k + c];
            for (int c = 0; c < 3; ++c) out.data[y * out.stride + 3 * x + c] = round_half_up(sum[c]);
        }
    }
}

}  // namespace faceembed
