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

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FE_X86_CLONES 1
#include <immintrin.h>
#endif

namespace faceembed {
namespace {

// Per output row: footprints, and values before rounding. Pointers into one block, so that the loops see plain arrays.
struct WarpScratch {
    WarpScratch(int width, int count)
        : ints_(2 * std::size_t(width)),
          floats_(4 * std::size_t(width) + 3 * std::size_t(width) + 1 + std::size_t(count) + 16) {
        x_first = ints_.data();
        y_first = x_first + width;
        x_offset = floats_.data();
        y_offset = x_offset + width;
        x_scale = y_offset + width;
        y_scale = x_scale + width;
        row = y_scale + width;  // 3 width + 1: pixels are stored four floats at a time
        row_weights = row + 3 * std::size_t(width) + 1;
    }

    int *x_first, *y_first;
    float *x_offset, *y_offset, *x_scale, *y_scale, *row, *row_weights;

  private:
    std::vector<int> ints_;
    std::vector<float> floats_;
};

// The source rows of each output row.
struct Rows {
    std::vector<int> first, count;
    std::vector<std::size_t> at;  // where a row's weights begin
    std::vector<float> weights;
};

// The source columns of each output column, as `sum_columns` wants them: blocks of five pixels, each weight three
// times, and a 0.
struct Columns {
    int begin = 0, end = 0;      // source columns that are needed at all
    int most = 0, blocks = 0;    // source columns of the widest output; five to a block
    std::vector<int> first;      // where an output's columns begin: floats from `begin`
    std::vector<float> weights;  // 16 floats a block
};

struct Kernels {
    void (*warp_turned)(const Image&, const Matrix&, Border, const Canvas&, WarpScratch&);
    void (*resample)(const Image&, const Rows&, const Columns&, const Canvas&, float* line, float* row);
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
#undef FE_ISA
#undef FE_WIDTH
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define FE_ISA avx512
#define FE_WIDTH 16
#include "warp_kernels.h"
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

// Axis i of n, by `axis_of(i)` -> Axis.
template <typename AxisOf>
Rows make_rows(int n, const AxisOf& axis_of) {
    Rows rows;
    for (int i = 0; i < n; ++i) {
        const Axis axis = axis_of(i);
        rows.first.push_back(axis.begin);
        rows.count.push_back(std::max(axis.end - axis.begin, 0));
        rows.at.push_back(rows.weights.size());
        for (int p = axis.begin; p < axis.end; ++p)
            rows.weights.push_back(static_cast<float>(axis.weight(p) / axis.sum));
    }
    return rows;
}

template <typename AxisOf>
Columns make_columns(int n, int size, const AxisOf& axis_of) {
    std::vector<Axis> axes;
    Columns columns;
    columns.begin = size;
    for (int i = 0; i < n; ++i) {
        axes.push_back(axis_of(i));
        if (axes[i].begin >= axes[i].end) continue;
        columns.begin = std::min(columns.begin, axes[i].begin);
        columns.end = std::max(columns.end, axes[i].end);
        columns.most = std::max(columns.most, axes[i].end - axes[i].begin);
    }
    columns.blocks = std::max(1, (columns.most + 4) / 5);
    columns.first.assign(n, 0);
    columns.weights.assign(std::size_t(n) * columns.blocks * 16, 0.0f);
    for (int i = 0; i < n; ++i) {
        if (axes[i].begin >= axes[i].end) continue;
        columns.first[i] = 3 * (axes[i].begin - columns.begin);
        float* block = columns.weights.data() + std::size_t(i) * columns.blocks * 16;
        for (int k = 0; k < axes[i].end - axes[i].begin; ++k) {
            float* w = block + k / 5 * 16 + k % 5 * 3;
            w[0] = w[1] = w[2] = static_cast<float>(axes[i].weight(axes[i].begin + k) / axes[i].sum);
        }
    }
    return columns;
}

void resample(const Image& image, const Rows& rows, const Columns& columns, const Canvas& out) {
    const std::size_t needed = 3 * std::size_t(std::max(columns.end - columns.begin, 0));
    // The last output's blocks may reach past the needed columns, with weights 0; what they find there must be a
    // number.
    std::vector<float> line(needed + 15 * std::size_t(columns.blocks) + 16, 0.0f), row(3 * std::size_t(out.width) + 1);
    kernels_of(chosen()).resample(image, rows, columns, out, line.data(), row.data());
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

void use_instruction_set(InstructionSet set) { chosen() = std::min(set, best_instruction_set()); }

void warp(const Image& image, const Matrix& m, Border border, const Canvas& out) {
    const double r = tent_radius(m);
    if (m.b == 0.0 && m.c == 0.0) {
        const Rows rows =
            make_rows(out.height, [&](int y) { return make_axis(m.d * y + m.ty, r, image.height, border); });
        const Columns columns = make_columns(out.width, image.width,
                                             [&](int x) { return make_axis(m.a * x + m.tx, r, image.width, border); });
        return resample(image, rows, columns, out);
    }
    // A footprint as large as the image is never inside it, so its scratch need not grow beyond the image.
    const int count = static_cast<int>(std::min(std::ceil(2.0 * r), double(std::min(image.width, image.height))));
    WarpScratch scratch(out.width, count);
    kernels_of(chosen()).warp_turned(image, m, border, out, scratch);
}

void resize(const Image& image, const Canvas& out) {
    const Rows rows = make_rows(out.height, [&](int y) { return resize_axis(y, image.height, out.height); });
    const Columns columns =
        make_columns(out.width, image.width, [&](int x) { return resize_axis(x, image.width, out.width); });
    resample(image, rows, columns, out);
}

}  // namespace faceembed
