#include "sharpness.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "inlined.h"
#include "warp_host.h"

namespace faceembed {
namespace {

constexpr int kRed = 9798, kGreen = 19235, kBlue = 3735, kShift = 15;

// Grey levels of a row, with one mirrored level on each side.
FE_INLINE void grey_row(const unsigned char* row, int width, short* out) {
    for (int x = 0; x < width; ++x)
        out[x + 1] = static_cast<short>(
            (row[3 * x] * kRed + row[3 * x + 1] * kGreen + row[3 * x + 2] * kBlue + (1 << (kShift - 1))) >> kShift);
    out[0] = out[2];
    out[width + 1] = out[width - 1];
}

FE_INLINE double variance(const unsigned char* pixels, int height, int width, short* room) {
    short *above = room, *here = above + width + 2, *below = here + width + 2;
    const auto row = [&](int y) { return pixels + 3 * std::size_t(y) * std::size_t(width); };
    grey_row(row(1), width, above);
    grey_row(row(0), width, here);
    std::int64_t sum = 0, squares = 0;
    for (int y = 0; y < height; ++y) {
        grey_row(row(y + 1 < height ? y + 1 : height - 2), width, below);
        for (int from = 0; from < width; from += 1024) {  // so few that 32 bits hold their squares
            const int to = from + 1024 < width ? from + 1024 : width;
            std::int32_t some = 0, more = 0;
            for (int x = from + 1; x <= to; ++x) {
                const std::int32_t value = above[x] + below[x] + here[x - 1] + here[x + 1] - 4 * here[x];
                some += value;
                more += value * value;
            }
            sum += some;
            squares += more;
        }
        std::swap(above, here);
        std::swap(here, below);
    }
    const double count = double(height) * width, mean = double(sum) / count;
    return double(squares) / count - mean * mean;
}

// The same, compiled for what the processor has.
double baseline(const unsigned char* pixels, int height, int width, short* room) {
    return variance(pixels, height, width, room);
}
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) double avx2(const unsigned char* pixels, int height, int width, short* room) {
    return variance(pixels, height, width, room);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) double avx512(const unsigned char* pixels, int height,
                                                                            int width, short* room) {
    return variance(pixels, height, width, room);
}
#endif

}  // namespace

double sharpness(const unsigned char* pixels, int height, int width, short* room) {
#if defined(__x86_64__) && defined(__GNUC__)
    const InstructionSet set = instruction_set();
    if (set == InstructionSet::avx512) return avx512(pixels, height, width, room);
    if (set == InstructionSet::avx2) return avx2(pixels, height, width, room);
#endif
    return baseline(pixels, height, width, room);
}

}  // namespace faceembed
