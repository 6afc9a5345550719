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

// In which numbers sums are made: floats round to the level that warp.h's do, but where that is nearly half-way; fixed
// point is one level away at most, and two to five times as fast. Where there are no loops in fixed point (not x86-64,
// no AVX2), and for what they cannot take (an upright warp, very small images, footprints of more than 64 pixels), it is
// floats.
enum class Arithmetic { floats, fixed };

// Fill `out` with the antialiased warp of `image`. `matrix` has passed `check_matrix`.
void warp(const Image& image, const Matrix& matrix, Border border, const Canvas& out,
          Arithmetic arithmetic = Arithmetic::floats);

// Fill `out` with `image`, resized. Pixel areas correspond: source x = (x + 0.5) * width / out width - 0.5; the tent's
// radius is max(source / output size, 1) along each axis, and its weights are normalised over the pixels inside the
// image.
void resize(const Image& image, const Canvas& out, Arithmetic arithmetic = Arithmetic::floats);

// The loops are compiled for several instruction sets and the best one the processor has is used. Sums are made in
// another order, and fused or not, so that a value may round to the neighbouring level. Tests and benchmarks may ask
// for a lesser one, here and in `pack`, `sharpness` and `blake3`, whose results do not depend on it.
enum class InstructionSet { baseline, avx2, avx512 };
InstructionSet best_instruction_set();
InstructionSet instruction_set();  // that is used
void use_instruction_set(InstructionSet set);

}  // namespace faceembed
