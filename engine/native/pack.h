// Pixels as a network's first convolution takes them: normalised, and blocks of `step` x `step` pixels next to each other,
// so that a convolution with that stride is one with stride 1 over 3 * step * step channels.
#pragma once

#include <cstdint>

namespace faceembed {

// The upper half of a float32, rounded to the nearest, to even where two are.
struct BFloat16 {
    std::uint16_t bits;
};

// One photo, 8-bit packed RGB, whose sides are multiples of `step`: out[by][bx][dy][dx][c] = (pixel - mean[c]) * scale,
// the pixel at row by * step + dy, column bx * step + dx.
//
// `means` holds the three means over and over, 3 * width of them; `line` is room for as many numbers as a row has.
void pack(const unsigned char* pixels, int height, int width, int step, const float* means, float scale, BFloat16* line,
          BFloat16* out);
void pack(const unsigned char* pixels, int height, int width, int step, const float* means, float scale, float* line,
          float* out);

}  // namespace faceembed
