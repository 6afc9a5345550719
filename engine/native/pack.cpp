#include "pack.h"

#include <cstddef>
#include <cstring>

#include "inlined.h"
#include "warp_host.h"

namespace faceembed {
namespace {

FE_INLINE void store(float value, float* out) { *out = value; }

FE_INLINE void store(float value, BFloat16* out) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out->bits = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename Number>
FE_INLINE void normalised(const unsigned char* row, int count, const float* means, float scale, Number* out) {
    for (int i = 0; i < count; ++i) store((static_cast<float>(row[i]) - means[i]) * scale, out + i);
}

// The same loop, compiled for what the processor has.
template <typename Number>
void baseline(const unsigned char* row, int count, const float* means, float scale, Number* out) {
    normalised(row, count, means, scale, out);
}
#if defined(__x86_64__) && defined(__GNUC__)
template <typename Number>
__attribute__((target("avx2"))) void avx2(const unsigned char* row, int count, const float* means, float scale,
                                          Number* out) {
    normalised(row, count, means, scale, out);
}
template <typename Number>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void avx512(const unsigned char* row, int count,
                                                                          const float* means, float scale, Number* out) {
    normalised(row, count, means, scale, out);
}
#endif

template <typename Number>
using Row = void (*)(const unsigned char*, int, const float*, float, Number*);

template <typename Number>
Row<Number> best() {
#if defined(__x86_64__) && defined(__GNUC__)
    const InstructionSet set = instruction_set();
    if (set == InstructionSet::avx512) return avx512<Number>;
    if (set == InstructionSet::avx2) return avx2<Number>;
#endif
    return baseline<Number>;
}

// Spread a row's pieces of `step` pixels over its blocks; a constant size makes the copies single moves.
template <int known, typename Number>
FE_INLINE void spread(const Number* line, int blocks, int step, Number* out) {
    const std::size_t piece = 3 * std::size_t(known ? known : step), block = piece * std::size_t(known ? known : step);
    for (int x = 0; x < blocks; ++x) std::memcpy(out + x * block, line + x * piece, piece * sizeof(Number));
}

template <typename Number>
void pack_as(const unsigned char* pixels, int height, int width, int step, const float* means, float scale, Number* line,
             Number* out) {
    const Row<Number> row = best<Number>();
    const int blocks = width / step;
    for (int y = 0; y < height; ++y) {
        row(pixels + 3 * std::size_t(y) * std::size_t(width), 3 * width, means, scale, line);
        Number* const first = out + 3 * std::size_t(step) * (std::size_t(y / step) * std::size_t(width) + std::size_t(y % step));
        if (step == 2)
            spread<2>(line, blocks, step, first);
        else if (step == 4)
            spread<4>(line, blocks, step, first);
        else
            spread<0>(line, blocks, step, first);
    }
}

}  // namespace

void pack(const unsigned char* pixels, int height, int width, int step, const float* means, float scale, BFloat16* line,
          BFloat16* out) {
    pack_as(pixels, height, width, step, means, scale, line, out);
}

void pack(const unsigned char* pixels, int height, int width, int step, const float* means, float scale, float* line,
          float* out) {
    pack_as(pixels, height, width, step, means, scale, line, out);
}

}  // namespace faceembed
