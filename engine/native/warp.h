// The antialiased similarity warp: what one output pixel is.
//
// Everything here is `__host__ __device__`, scalar, and free of the standard library's containers: the CPU module and the
// CUDA kernels compile this same code. `warp_host.cpp` holds a faster arrangement of the same sums. It knows nothing of
// faces, Python or threads.
//
// The filter. A matrix A = [[a, b, tx], [c, d, ty]] maps an output pixel (x, y) to source coordinates; pixel centres lie at
// whole numbers. With s = sqrt(|ad - bc|) (source pixels per output pixel) and r = max(s, 1), the output is
//     sum_p w(p) src(p) / sum_p w(p),    w(p) = tent((px - cx) / r) tent((py - cy) / r),    tent(t) = max(0, 1 - |t|)
// over all whole source positions p, where (cx, cy) = A (x, y, 1). The tent follows the source's axes, not the output's:
// it is then separable in the source, its shape does not depend on the rotation, and at r = 1 it *is* bilinear
// interpolation, so nothing jumps at s = 1. Positions outside the image have value 0 (`Border::constant`) or the value of
// the nearest pixel (`Border::replicate`); they count in both sums.
#pragma once

#if !defined(__CUDACC_RTC__)
#include <cmath>
#include <cstddef>
#include <cstdint>
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FE_HD __host__ __device__ __forceinline__
#else
#define FE_HD inline
#endif

namespace faceembed {

// The widest tent: far beyond any photo, and small enough that every index below fits in 32 bits.
constexpr double kMaxScale = 1e6;
// How far a matrix may be from a similarity, relative to its scale.
constexpr double kSimilarityTolerance = 1e-6;

enum class Border { constant, replicate };

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

// One axis of one output pixel: whole positions `first + k`, k = 0 .. count - 1, at distance |k - offset| from the centre.
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

FE_HD float tent_weight(float k, float offset, float inverse_r) { return fmaxf(0.0f, 1.0f - fabsf(k - offset) * inverse_r); }

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

// Sum of the weights of positions k in [low, high] within the footprint, in closed form: it also covers positions outside the image.
FE_HD double sum_of_weights(const Footprint& f, double r, double low, double high) {
    low = fmax(low, 0.0);
    high = fmin(fmin(high, f.count - 1.0), floor(f.offset + r));  // beyond that the tent is 0
    if (high < low) return 0.0;
    return (high - low + 1.0) - sum_of_distances(low, high, f.offset) / r;
}

FE_HD unsigned char round_half_up(float value) { return static_cast<unsigned char>(fminf(fmaxf(value + 0.5f, 0.0f), 255.0f)); }

// One output pixel, anywhere: inside the image, across its border or outside. Slow and general.
FE_HD void sample(const Image& image, double cx, double cy, double r, Border border, unsigned char* out) {
    const Footprint fx = footprint(cx, r, image.width), fy = footprint(cy, r, image.height);
    const int x_low = fx.first > 0 ? fx.first : 0, y_low = fy.first > 0 ? fy.first : 0;
    int x_high = fx.first + fx.count - 1, y_high = fy.first + fy.count - 1;
    x_high = x_high < image.width ? x_high : image.width - 1;
    y_high = y_high < image.height ? y_high : image.height - 1;
    const float inverse_r = static_cast<float>(1.0 / r);

    // With Border::replicate the pixels at the edge stand for all positions beyond it.
    float beyond_left = 0.0f, beyond_right = 0.0f, beyond_top = 0.0f, beyond_bottom = 0.0f;
    int x_begin = x_low, x_end = x_high, y_begin = y_low, y_end = y_high;
    if (border == Border::replicate) {
        beyond_left = static_cast<float>(sum_of_weights(fx, r, 0.0, -1.0 - fx.first));
        beyond_right = static_cast<float>(sum_of_weights(fx, r, static_cast<double>(image.width) - fx.first, fx.count));
        beyond_top = static_cast<float>(sum_of_weights(fy, r, 0.0, -1.0 - fy.first));
        beyond_bottom = static_cast<float>(sum_of_weights(fy, r, static_cast<double>(image.height) - fy.first, fy.count));
        x_begin = x_begin < image.width ? x_begin : image.width - 1;
        y_begin = y_begin < image.height ? y_begin : image.height - 1;
        x_end = x_end > 0 ? x_end : 0;
        y_end = y_end > 0 ? y_end : 0;
    }

    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (int y = y_begin; y <= y_end; ++y) {
        float wy = tent_weight(static_cast<float>(y - fy.first), fy.offset, inverse_r);
        if (y < fy.first || y >= fy.first + fy.count) wy = 0.0f;
        if (y == 0) wy += beyond_top;
        if (y == image.height - 1) wy += beyond_bottom;
        const unsigned char* row = image.data + y * image.stride;
        float row_sum[3] = {0.0f, 0.0f, 0.0f};
        for (int x = x_begin; x <= x_end; ++x) {
            float wx = tent_weight(static_cast<float>(x - fx.first), fx.offset, inverse_r);
            if (x < fx.first || x >= fx.first + fx.count) wx = 0.0f;
            if (x == 0) wx += beyond_left;
            if (x == image.width - 1) wx += beyond_right;
            for (int channel = 0; channel < 3; ++channel) row_sum[channel] += wx * row[3 * x + channel];
        }
        for (int channel = 0; channel < 3; ++channel) sum[channel] += wy * row_sum[channel];
    }
    const double weight = sum_of_weights(fx, r, 0.0, fx.count) * sum_of_weights(fy, r, 0.0, fy.count);
    const float scale = static_cast<float>(1.0 / weight);
    for (int channel = 0; channel < 3; ++channel) out[channel] = round_half_up(sum[channel] * scale);
}

}  // namespace faceembed
