// What one pixel of a chip, or of a canvas, is: the filter of warp.h at the photo's own resolution, rounded to 8 bits,
// and written as a network wants it. It knows nothing of threads: a kernel calls it once a pixel, the CPU in loops.
//
// A chip is rounded to the 256 levels that the CPU path rounds it to, whatever the output's type, so that a photo has
// one embedding on both devices.
#pragma once

#include "half.h"
#include "warp.h"

namespace faceembed {

// ---- chips --------------------------------------------------------------------------------------------------------

// One face's warp, prepared once for all its pixels.
struct Warp {
    Image image;
    Matrix matrix;
    double r;
    float inverse_r;
    int count;   // of a footprint, along each axis
    bool sound;  // otherwise the chip is black: the face has no similarity, or an index names no photo
};

FE_HD Warp prepare_warp(const Image* images, int image_count, int which, const Matrix& matrix) {
    Warp warp = {};
    warp.sound = which >= 0 && which < image_count && check_matrix(matrix) == MatrixCheck::ok;
    if (!warp.sound) return warp;
    warp.image = images[which];
    warp.matrix = matrix;
    warp.r = tent_radius(matrix);
    warp.inverse_r = static_cast<float>(1.0 / warp.r);
    warp.count = static_cast<int>(ceil(2.0 * warp.r));
    return warp;
}

// Sum of a footprint's weights where all its positions count, in closed form; float32 is enough for what gets 8 bits.
FE_HD float whole_weight(float offset, float radius, float inverse_r, int count) {
    const float split = floorf(offset), end = fminf(static_cast<float>(count - 1), floorf(offset + radius));
    const float distances =
        (split + 1.0f) * (offset - 0.5f * split) + (end - split) * (0.5f * (split + 1.0f + end) - offset);
    return end + 1.0f - distances * inverse_r;
}

// A pixel whose footprint, `count` x `count` from `first`, lies inside the image.
FE_HD void sample_inside(const Warp& warp, const Footprint& horizontal, const Footprint& vertical, float* value) {
    const unsigned char* row = warp.image.data + vertical.first * warp.image.stride + 3LL * horizontal.first;
    float red = 0.0f, green = 0.0f, blue = 0.0f;
    for (int j = 0; j < warp.count; ++j, row += warp.image.stride) {
        const unsigned char* pixel = row;
        float row_red = 0.0f, row_green = 0.0f, row_blue = 0.0f;
        for (int i = 0; i < warp.count; ++i, pixel += 3) {
            const float w = tent_weight(static_cast<float>(i), horizontal.offset, warp.inverse_r);
            row_red = multiply_add(w, pixel[0], row_red);
            row_green = multiply_add(w, pixel[1], row_green);
            row_blue = multiply_add(w, pixel[2], row_blue);
        }
        const float w = tent_weight(static_cast<float>(j), vertical.offset, warp.inverse_r);
        red = multiply_add(w, row_red, red);
        green = multiply_add(w, row_green, green);
        blue = multiply_add(w, row_blue, blue);
    }
    const float radius = static_cast<float>(warp.r);
    const float scale = 1.0f / (whole_weight(horizontal.offset, radius, warp.inverse_r, warp.count) *
                                whole_weight(vertical.offset, radius, warp.inverse_r, warp.count));
    value[0] = red * scale;
    value[1] = green * scale;
    value[2] = blue * scale;
}

// Pixel (x, y) of a chip: three levels, 0 outside the photo.
FE_HD void chip_pixel(const Warp& warp, int x, int y, unsigned char* level) {
    level[0] = level[1] = level[2] = 0;
    if (!warp.sound) return;
    const double cx = warp.matrix.a * x + (warp.matrix.b * y + warp.matrix.tx);
    const double cy = warp.matrix.c * x + (warp.matrix.d * y + warp.matrix.ty);
    const Footprint horizontal = footprint(cx, warp.r, warp.image.width);
    const Footprint vertical = footprint(cy, warp.r, warp.image.height);
    const int left = horizontal.first, top = vertical.first;
    if (left >= warp.image.width || top >= warp.image.height || left + warp.count <= 0 || top + warp.count <= 0) return;
    float value[3];
    if (left >= 0 && top >= 0 && left <= warp.image.width - warp.count && top <= warp.image.height - warp.count) {
        sample_inside(warp, horizontal, vertical, value);
    } else {
        sample(warp.image, cx, cy, warp.r, Border::constant, value);
    }
    for (int channel = 0; channel < 3; ++channel) level[channel] = round_half_up(value[channel]);
}

// What a network is promised: (level - mean) * scale, channels in its order. `ModelSpec` has the numbers.
struct Normalisation {
    float mean[3];  // in the network's order
    float scale;
    bool bgr;
};

FE_HD void store(float value, float* out) { *out = value; }
FE_HD void store(float value, Half* out) { *out = to_half(value); }

// float16 or float32, (faces, 3, height, width).
template <typename Number>
FE_HD void store_pixel(const unsigned char* level, const Normalisation& n, long long face, int x, int y, int height,
                       int width, Number* out) {
    const long long plane = static_cast<long long>(height) * width;
    Number* at = out + 3 * face * plane + static_cast<long long>(y) * width + x;
    const float first = n.bgr ? level[2] : level[0], second = level[1], third = n.bgr ? level[0] : level[2];
    store((first - n.mean[0]) * n.scale, at);
    store((second - n.mean[1]) * n.scale, at + plane);
    store((third - n.mean[2]) * n.scale, at + 2 * plane);
}

// uint8 RGB, (faces, height, width, 3): for a network that has its normalisation inside.
FE_HD void store_pixel(const unsigned char* level, const Normalisation&, long long face, int x, int y, int height,
                       int width, unsigned char* out) {
    unsigned char* at = out + 3 * ((face * height + y) * width + x);
    for (int channel = 0; channel < 3; ++channel) at[channel] = level[channel];
}

// ---- canvases -----------------------------------------------------------------------------------------------------

// A photo's copy in the top-left corner of a canvas.
struct Copy {
    int photo;
    int height;
    int width;
};

// Pixel (x, y) of `image` resized to height x width, as `resize` in warp_host.h.
FE_HD void resized_pixel(const Image& image, int height, int width, int x, int y, unsigned char* level) {
    const Axis horizontal = resize_axis(x, image.width, width), vertical = resize_axis(y, image.height, height);
    float sum[3] = {0.0f, 0.0f, 0.0f};
    for (int v = vertical.begin; v < vertical.end; ++v) {
        const unsigned char* row = image.data + v * image.stride;
        float row_sum[3] = {0.0f, 0.0f, 0.0f};
        for (int u = horizontal.begin; u < horizontal.end; ++u) {
            const float w = tent_weight(static_cast<float>(u - horizontal.at.first), horizontal.at.offset,
                                        horizontal.inverse_r);
            for (int channel = 0; channel < 3; ++channel)
                row_sum[channel] = multiply_add(w, row[3LL * u + channel], row_sum[channel]);
        }
        const float w =
            tent_weight(static_cast<float>(v - vertical.at.first), vertical.at.offset, vertical.inverse_r);
        for (int channel = 0; channel < 3; ++channel) sum[channel] = multiply_add(w, row_sum[channel], sum[channel]);
    }
    const float scale = static_cast<float>(1.0 / (horizontal.sum * vertical.sum));
    for (int channel = 0; channel < 3; ++channel) level[channel] = round_half_up(sum[channel] * scale);
}

FE_HD void canvas_pixel(const Image* images, int image_count, const Copy& copy, unsigned char grey, int x, int y,
                        unsigned char* level) {
    level[0] = level[1] = level[2] = grey;
    if (copy.photo >= 0 && copy.photo < image_count && x < copy.width && y < copy.height)
        resized_pixel(images[copy.photo], copy.height, copy.width, x, y, level);
}

}  // namespace faceembed
