// The antialiased similarity warp: what one output pixel is.
//
// Everything here is `__host__ __device__`, scalar, and free of the standard library's containers: the CPU module and
// the CUDA kernels compile this same code. `warp_host.cpp` holds a faster arrangement of the same sums. It knows
// nothing of faces, Python or threads.
//
// The filter. A matrix A = [[a, b, tx], [c, d, ty]] maps an output pixel (x, y) to source coordinates; pixel centres
// lie at whole numbers. With s = sqrt(|ad - bc|) (source pixels per output pixel) and r = max(s, 1), the output is
//     sum_p w(p) src(p) / sum_p w(p),    w(p) = tent((px - cx) / r) tent((py - cy) / r),    tent(t) = max(0, 1 - |t|)
// over all whole source positions p, where (cx, cy) = A (x, y, 1). The tent follows the source's axes, not the
// output's: it is then separable in the source, its shape does not depend on the rotation, and at r = 1 it *is*
// bilinear interpolation, so nothing jumps at s = 1. Positions outside the image have value 0 (`Border::constant`) or
// the value of the nearest pixel (`Border::replicate`); they count in both sums.
#pragma once

#include "host_device.h"

namespace faceembed {

// The widest tent: far beyond any photo, and small enough that every index below fits in 32 bits.
constexpr double kMaxScale = 1e6;
// How far a matrix may be from a similarity, relative to its scale.
constexpr double kSimilarityTolerance = 1e-6;

// What lies outside the image: 0, the nearest pixel, or nothing. With `inside` only pixels inside count, in both sums:
// for `resize`, whose centres never leave the image. Where a footprint barely touches it, that would be 0 / 0.
enum class Border { constant, replicate, inside };

// 8-bit RGB pixels that somebody else owns. Rows may be further apart than `3 * width` bytes.
struct Image {
    const unsigned char* data;
    int height;
    int width;
    long long stride;  // bytes from one row to the next
};

// Output pixel -> source coordinates.
struct Matrix {
    double a, b, tx;
    double c, d, ty;
};

enum class MatrixCheck { ok, not_finite, not_similarity, zero_scale, too_large };

// Rotation, uniform scale and mirror images pass; shear and unequal scales do not.
FE_HD MatrixCheck check_matrix(const Matrix& m) {
    const double sum = m.a + m.b + m.tx + m.c + m.d + m.ty;
    if (!(sum - sum == 0.0)) return MatrixCheck::not_finite;  // NaN and infinity survive a sum
    const double size = sqrt(0.5 * (m.a * m.a + m.b * m.b + m.c * m.c + m.d * m.d));
    if (size > kMaxScale) return MatrixCheck::too_large;
    if (!(size > 1e-12)) return MatrixCheck::zero_scale;
    const double turned = fmax(fabs(m.a - m.d), fabs(m.b + m.c));
    const double mirrored = fmax(fabs(m.a + m.d), fabs(m.b - m.c));
    return fmin(turned, mirrored) <= kSimilarityTolerance * size ? MatrixCheck::ok : MatrixCheck::not_similarity;
}

// Half the width of the tent, in source pixels.
FE_HD double tent_radius(const Matrix& m) { return fmax(sqrt(fabs(m.a * m.d - m.b * m.c)), 1.0); }

// One axis of one output pixel: whole positions `first + k`, k = 0 .. count - 1, at distance |k - offset| from the
// centre.
struct Footprint {
    int first;
    int count;     // the same for all pixels of a warp: ceil(2 r); the last position may have weight 0
    float offset;  // centre - first, in [r - 1, r)
};

// The footprint of a tent of radius `r` at `centre`, moved to where it just misses the image if it lies further out.
FE_HD Footprint footprint(double centre, double r, int size) {
    centre = fmin(fmax(centre, -r), size - 1 + r);  // the pixel's value is the same there, and the index stays small
    const int first = static_cast<int>(floor(centre - r)) + 1;
    return {first, static_cast<int>(ceil(2.0 * r)), static_cast<float>(centre - first)};
}

FE_HD float tent_weight(float k, float offset, float inverse_r) {
    return fmaxf(0.0f, 1.0f - fabsf(k - offset) * inverse_r);
}

// Sum of |k - offset| for the whole numbers k in [low, high]; 0 if there are none.
FE_HD double sum_of_distances(double low, double high, double offset) {
    if (high < low) return 0.0;
    const double split = floor(offset);  // the last k on the left
    const double left_high = fmin(split, high), right_low = fmax(split + 1.0, low);
    double sum = 0.0;
    if (left_high >= low) sum += (left_high - low + 1.0) * (offset - 0.5 * (low + left_high));
    if (right_low <= high) sum += (high - right_low + 1.0) * (0.5 * (right_low + high) - offset);
    return sum;
}

// Sum of the weights of positions k in [low, high] within the footprint, in closed form: it also covers positions
// outside the image.
FE_HD double sum_of_weights(const Footprint& f, double r, double low, double high) {
    low = fmax(low, 0.0);
    high = fmin(fmin(high, f.count - 1.0), floor(f.offset + r));  // beyond that the tent is 0
    if (high < low) return 0.0;
    return (high - low + 1.0) - sum_of_distances(low, high, f.offset) / r;
}

FE_HD unsigned char round_half_up(float value) {
    return static_cast<unsigned char>(fminf(fmaxf(value + 0.5f, 0.0f), 255.0f));
}

// One axis of one output pixel, with the border taken into account: the positions inside the image and their weights.
struct Axis {
    Footprint at;
    int begin, end;  // positions [begin, end) inside the image
    int last;        // the image's last position
    float inverse_r;
    float beyond_low, beyond_high;  // weight of all positions below 0 and above `last`, for Border::replicate
    double sum;                     // of all the weights that count

    FE_HD float weight(int p) const {
        float w = p < at.first || p >= at.first + at.count
                      ? 0.0f
                      : tent_weight(static_cast<float>(p - at.first), at.offset, inverse_r);
        if (p == 0) w += beyond_low;
        if (p == last) w += beyond_high;
        return w;
    }
};

FE_HD Axis make_axis(double centre, double r, int size, Border border) {
    Axis axis;
    axis.at = footprint(centre, r, size);
    axis.last = size - 1;
    axis.inverse_r = static_cast<float>(1.0 / r);
    axis.beyond_low = axis.beyond_high = 0.0f;
    const int first = axis.at.first, end = first + axis.at.count;
    axis.begin = first > 0 ? first : 0;
    axis.end = end < size ? end : size;
    double low = 0.0, high = axis.at.count;
    if (border == Border::replicate) {
        axis.beyond_low = static_cast<float>(sum_of_weights(axis.at, r, 0.0, -1.0 - first));
        axis.beyond_high =
            static_cast<float>(sum_of_weights(axis.at, r, static_cast<double>(size) - first, axis.at.count));
        axis.begin = axis.begin < size ? axis.begin : size - 1;
        axis.end = axis.end > 0 ? axis.end : 1;
    } else if (border == Border::inside) {
        low = axis.begin - first;
        high = axis.end - 1.0 - first;
    }
    axis.sum = sum_of_weights(axis.at, r, low, high);
    return axis;
}

// One axis of one output pixel of a resize. Pixel areas correspond: see `resize` in warp_host.h.
FE_HD Axis resize_axis(int i, int source, int target) {
    const double ratio = static_cast<double>(source) / target;
    return make_axis((i + 0.5) * ratio - 0.5, fmax(ratio, 1.0), source, Border::inside);
}

// One output pixel, anywhere: inside the image, across its border or outside. `value` is not yet rounded.
FE_HD void sample(const Image& image, double cx, double cy, double r, Border border, float* value) {
    const Axis horizontal = make_axis(cx, r, image.width, border), vertical = make_axis(cy, r, image.height, border);
    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (int y = vertical.begin; y < vertical.end; ++y) {
        const unsigned char* row = image.data + y * image.stride;
        float row_sum[3] = {0.0f, 0.0f, 0.0f};
        for (int x = horizontal.begin; x < horizontal.end; ++x) {
            const float w = horizontal.weight(x);
            for (int channel = 0; channel < 3; ++channel) row_sum[channel] += w * row[3 * x + channel];
        }
        const float w = vertical.weight(y);
        for (int channel = 0; channel < 3; ++channel) sum[channel] += w * row_sum[channel];
    }
    const double weight = horizontal.sum * vertical.sum;
    const float scale = weight > 0.0 ? static_cast<float>(1.0 / weight) : 0.0f;
    for (int channel = 0; channel < 3; ++channel) value[channel] = sum[channel] * scale;
}

}  // namespace faceembed
