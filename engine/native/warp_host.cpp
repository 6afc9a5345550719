// Chooses, for each warp, between two arrangements of the same sums: row and column weights made once where the matrix
// does not turn the image, and pixel by pixel where it does. The loops themselves are in warp_kernels.h.
#include "warp_host.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "warp_plans.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FE_X86_CLONES 1
#include <immintrin.h>
#endif

namespace faceembed {
namespace {

struct Kernels {
    void (*warp_turned)(const Image&, const Matrix&, Border, const Canvas&, WarpScratch&);
    void (*resample)(const Image&, const Rows&, const Columns&, const Canvas&, float* line, float* row);
};

// The same in fixed point, for what `fit` and `fits` let pass.
struct FixedKernels {
    void (*warp_turned)(const Image&, const Matrix&, Border, const Canvas&, const Tents&, FixedScratch&);
    void (*resize)(const Image&, const Spans&, const FixedColumns&, const Canvas&);
    bool gather;  // for `make_fixed_columns`
};

inline __attribute__((always_inline)) void round_row(const float* values, int count, unsigned char* out) {
    for (int i = 0; i < count; ++i) out[i] = static_cast<unsigned char>(static_cast<int>(values[i] + 0.5f));
}

// A pixel whose footprint is not, or not surely, inside the image. Out of line: it would take the inner loop's
// registers.
__attribute__((noinline)) void border_pixel(const Image& image, double cx, double cy, double r, Border border, int left,
                                            int top, int count, float* value) {
    const bool outside = left >= image.width || top >= image.height || left + count <= 0 || top + count <= 0;
    if (outside && border == Border::constant) {
        value[0] = value[1] = value[2] = 0.0f;
    } else {
        sample(image, cx, cy, r, border, value);
    }
}

}  // namespace
}  // namespace faceembed

// Lanes i, j, k, l of the eight of two quads a and b.
#if defined(__clang__) || __GNUC__ >= 12
#define FE_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
using QuadLanes = std::int32_t __attribute__((vector_size(16)));
#define FE_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, QuadLanes{i, j, k, l})
#endif

// The same source, compiled for what the processor has. Done with pragmas, not with flags for whole files: those would
// let the linker pick an AVX-512 copy of some inline function of the standard library for everybody.
#define FE_ISA baseline
#define FE_WIDTH 4
#include "warp_kernels.h"
#undef FE_ISA
#undef FE_WIDTH
#ifdef FE_X86_CLONES
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define FE_ISA avx2
#define FE_WIDTH 8
#include "warp_kernels.h"
#include "warp_fixed.h"
#undef FE_ISA
#undef FE_WIDTH
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define FE_ISA avx512
#define FE_WIDTH 16
#include "warp_kernels.h"
#include "warp_fixed.h"
#undef FE_ISA
#undef FE_WIDTH
#pragma GCC pop_options
#endif
#undef FE_SHUFFLE

namespace faceembed {
namespace {

const Kernels& kernels_of(InstructionSet set) {
#ifdef FE_X86_CLONES
    if (set == InstructionSet::avx512) return avx512::kernels;
    if (set == InstructionSet::avx2) return avx2::kernels;
#endif
    (void)set;
    return baseline::kernels;
}

std::atomic<InstructionSet>& chosen() {
    static std::atomic<InstructionSet> set{best_instruction_set()};
    return set;
}

// Null where there are none, or they are not wanted.
const FixedKernels* fixed_kernels_of(InstructionSet set, Arithmetic arithmetic) {
    if (arithmetic == Arithmetic::floats) return nullptr;
#ifdef FE_X86_CLONES
    if (set == InstructionSet::avx512) return &avx512::fixed_kernels;
    if (set == InstructionSet::avx2) return &avx2::fixed_kernels;
#endif
    (void)set;
    return nullptr;
}

void resample(const Image& image, const Rows& rows, const Columns& columns, const Canvas& out) {
    const std::size_t needed = 3 * std::size_t(std::max(columns.end - columns.begin, 0));
    // The last output's blocks may reach past the needed columns, with weights 0; what they find there must be a
    // number.
    std::vector<float> line(needed + 15 * std::size_t(columns.blocks) + 16, 0.0f), row(3 * std::size_t(out.width) + 1);
    kernels_of(chosen()).resample(image, rows, columns, out, line.data(), row.data());
}

// Whether the loops in fixed point may take an image: their offsets are 32-bit numbers, and they read in vectors.
bool fits_vectors(const Image& image) {
    return image.width >= kFixedWidth && image.stride <= (std::int64_t{1} << 30) / image.height;
}

// Whether they may make a warp of it.
bool fits_warp(const Image& image, double r, const Canvas& out) {
    return fits_vectors(image) && std::ceil(2.0 * r) <= kFixedRows && r * out.width <= kFixedReach && out.width >= 4;
}

// Whether they may resize it.
bool fits_resize(const Image& image, const Canvas& out) {
    const auto few = [](std::int64_t source, std::int64_t target) { return 2 * source <= kFixedRows * target; };
    return fits_vectors(image) && few(image.height, out.height) && few(image.width, out.width);
}

}  // namespace

InstructionSet best_instruction_set() {
#ifdef FE_X86_CLONES
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (has_avx2) return has_avx512 ? InstructionSet::avx512 : InstructionSet::avx2;
#endif
    return InstructionSet::baseline;
}

InstructionSet instruction_set() { return chosen(); }

void use_instruction_set(InstructionSet set) { chosen() = std::min(set, best_instruction_set()); }

void warp(const Image& image, const Matrix& m, Border border, const Canvas& out, Arithmetic arithmetic) {
    const double r = tent_radius(m);
    if (m.b == 0.0 && m.c == 0.0) {
        const auto rows =
            make_axes(out.height, [&](int y) { return make_axis(m.d * y + m.ty, r, image.height, border); });
        const auto columns =
            make_axes(out.width, [&](int x) { return make_axis(m.a * x + m.tx, r, image.width, border); });
        return resample(image, make_rows(rows), make_columns(columns, image.width), out);
    }
    if (const FixedKernels* const fixed = fixed_kernels_of(chosen(), arithmetic); fixed && fits_warp(image, r, out)) {
        FixedScratch scratch(out.width);
        return fixed->warp_turned(image, m, border, out, make_tents(r), scratch);
    }
    // A footprint as large as the image is never inside it, so its scratch need not grow beyond the image.
    const int count = static_cast<int>(std::min(std::ceil(2.0 * r), double(std::min(image.width, image.height))));
    WarpScratch scratch(out.width, count);
    kernels_of(chosen()).warp_turned(image, m, border, out, scratch);
}

void resize(const Image& image, const Canvas& out, Arithmetic arithmetic) {
    if (image.height == out.height && image.width == out.width) {
        for (int y = 0; y < out.height; ++y)
            std::memcpy(out.data + y * out.stride, image.data + y * image.stride, 3 * std::size_t(out.width));
        return;
    }
    if (const FixedKernels* const fixed = fixed_kernels_of(chosen(), arithmetic); fixed && fits_resize(image, out)) {
        const FixedColumns columns = make_fixed_columns(make_spans(image.width, out.width), fixed->gather);
        return fixed->resize(image, make_spans(image.height, out.height), columns, out);
    }
    const auto rows = make_axes(out.height, [&](int y) { return resize_axis(y, image.height, out.height); });
    const auto columns = make_axes(out.width, [&](int x) { return resize_axis(x, image.width, out.width); });
    resample(image, make_rows(rows), make_columns(columns, image.width), out);
}

}  // namespace faceembed
