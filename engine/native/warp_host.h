// The filter of warp.h on the CPU, whole images at a time. Nothing here throws but std::bad_alloc, knows Python, or
// starts threads.
#pragma once

#include <cstdint>

#include "warp.h"

namespace faceembed {

// 8-bit RGB pixels to write.
struct Canvas {
    unsigned char* data;
    int height;
    int width;
    long long stride;  // bytes from one row to the next
};

// Fill `out` with the antialiased warp of `image`. `matrix` has passed `check_matrix`.
void warp(const Image& image, const Matrix& matrix, Border border, const Canvas& out);

// Fill `out` with `image`, resized. Pixel areas correspond: source x = (x + 0.5) * width / out width - 0.5; the tent's
// radius is max(source / output size, 1) along each axis, and its weights are normalised over the pixels inside the
// image.
void resize(const Image& image, const Canvas& out);

// The loops are compiled for several instruction sets and the best one the processor has is used. Sums are made in
// another order, and fused or not, so that a value may round to the neighbouring level. Tests and benchmarks may ask
// for a lesser one.
enum class InstructionSet { baseline, avx2, avx512 };
InstructionSet best_instruction_set();
void use_instruction_set(InstructionSet set);

}  // namespace faceembed
