// The inner loops, in vectors. No include guard: warp_host.cpp includes it once for each instruction set, within a
// `#pragma GCC target`, with FE_ISA the namespace to put it in and FE_WIDTH the floats in a vector (4, 8 or 16).
//
// Both loops work on 16 consecutive bytes of a row: five RGB pixels and one byte to spare. Sums run down the rows
// first, where bytes are multiplied by one weight and need no unzipping; the column weights, each three times, come
// last.

namespace faceembed::FE_ISA {

#define FE_INLINE inline __attribute__((always_inline))

constexpr int kWidth = FE_WIDTH;
constexpr int kParts = 16 / kWidth;
using Vector = float __attribute__((vector_size(4 * FE_WIDTH)));
using Quad = float __attribute__((vector_size(16)));

// Up to 16 floats in `parts` vectors.
template <int parts>
struct Lanes {
    Vector part[parts];
};

FE_INLINE Vector load_bytes(const unsigned char* p) {
#if FE_WIDTH == 16
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif FE_WIDTH == 8
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    using Bytes = std::uint8_t __attribute__((vector_size(4)));
    using Words = std::uint16_t __attribute__((vector_size(8)));
    using Ints = std::int32_t __attribute__((vector_size(16)));
    Bytes bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    // In two steps: GCC 12 takes the bytes apart one by one when asked for floats at once.
    return __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(bytes, Words), Ints), Quad);
#endif
}

FE_INLINE Vector load_floats(const float* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

FE_INLINE Vector maximum(Vector a, Vector b) {
#if FE_WIDTH == 16
    return _mm512_max_ps(a, b);
#elif FE_WIDTH == 8
    return _mm256_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

FE_INLINE Vector absolute(Vector a) { return maximum(a, -a); }

// Four floats, `quad` x 4 lanes into the vectors.
template <int quad, int parts>
FE_INLINE Quad quad_of(const Lanes<parts>& lanes) {
    constexpr int p = quad * 4 / kWidth, from = quad * 4 % kWidth;
    if constexpr (p >= parts) {
        return Quad{};
    } else {
        Quad q;
        std::memcpy(&q, reinterpret_cast<const char*>(&lanes.part[p]) + 4 * from, sizeof q);
        return q;
    }
}

// lanes[3 k + channel] summed over k < pixels (at most 5) -> [r, g, b, anything].
template <int pixels, int parts>
FE_INLINE Quad sum_pixels(const Lanes<parts>& lanes) {
    const Quad a = quad_of<0>(lanes), b = quad_of<1>(lanes), c = quad_of<2>(lanes), d = quad_of<3>(lanes);
    Quad sum = a + FE_SHUFFLE(a, b, 3, 4, 5, 6);
    if constexpr (pixels > 2) sum += FE_SHUFFLE(b, c, 2, 3, 4, 5);
    if constexpr (pixels > 3) sum += FE_SHUFFLE(c, d, 1, 2, 3, 4);
    if constexpr (pixels > 4) sum += d;
    return sum;
}

// In a block of five pixels: which one each of the 16 lanes belongs to. The last lane is nobody's: so far off that its
// weight is 0.
alignas(64) constexpr float kPixelOfLane[16] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 1e30f};
alignas(64) constexpr float kRamp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// One output pixel whose footprint lies inside the image, `count` x `count` source pixels from `base`. `count` is
// `fixed` where that is not 0. `row_weights` is scratch, `count` rounded up to 16.
template <int fixed>
FE_INLINE Quad inside_pixel(const unsigned char* base, long long stride, int count, float x_offset, float y_offset,
                            float inverse_r, float* row_weights) {
    constexpr int parts = fixed == 0 ? kParts : (3 * fixed + kWidth - 1) / kWidth;
    if constexpr (fixed != 0) count = fixed;
    const Vector zero = {};
    for (int k = 0; k < count; k += kWidth) {
        const Vector w = maximum(1.0f - absolute(load_floats(kRamp) + (k - y_offset)) * inverse_r, zero);
        std::memcpy(row_weights + k, &w, sizeof w);
    }
    Lanes<parts> total = {};
    for (int block = 0; block < count; block += 5) {
        Lanes<parts> sum = {};
        const unsigned char* p = base + 3 * block;
        for (int k = 0; k < count; ++k, p += stride)
            for (int i = 0; i < parts; ++i) sum.part[i] += load_bytes(p + i * kWidth) * row_weights[k];
        for (int i = 0; i < parts; ++i) {
            const Vector w =
                maximum(1.0f - absolute(load_floats(kPixelOfLane + i * kWidth) + (block - x_offset)) * inverse_r, zero);
            total.part[i] += sum.part[i] * w;
        }
    }
    return sum_pixels<fixed == 0 ? 5 : fixed>(total);
}

// Footprints of one row of outputs, one axis.
FE_INLINE void row_footprints(double centre, double step, double r, int size, int count, int n, int* first,
                              float* offset, float* scale) {
    const double low = -r, high = size - 1 + r;
    const float radius = static_cast<float>(r), inverse_r = static_cast<float>(1.0 / r),
                last = static_cast<float>(count - 1);
    for (int i = 0; i < n;
         ++i) {  // the arithmetic of `footprint` and `sum_of_weights`, without calls, so that it vectorises
        const double c = std::min(std::max(centre + step * i, low), high);
        const double edge = c - r;
        int floor_of_edge = static_cast<int>(edge);
        floor_of_edge -= floor_of_edge > edge;
        first[i] = floor_of_edge + 1;
        const float at = static_cast<float>(c - first[i]);
        offset[i] = at;
        const float split = static_cast<float>(static_cast<int>(at)),
                    end = std::min(last, static_cast<float>(static_cast<int>(at + radius)));
        const float distances =
            (split + 1.0f) * (at - 0.5f * split) + (end - split) * (0.5f * (split + 1.0f + end) - at);
        scale[i] = 1.0f / (end + 1.0f - distances * inverse_r);
    }
}

template <int fixed>
void warp_rows(const Image& image, const Matrix& m, Border border, const Canvas& out, WarpScratch& scratch) {
    const double r = tent_radius(m);
    const float inverse_r = static_cast<float>(1.0 / r);
    const int count = static_cast<int>(std::ceil(2.0 * r));
    const long long bytes = (image.height - 1) * image.stride + 3LL * image.width;
    const long long reach =
        (count - 1) * image.stride + 15LL * ((count - 1) / 5) + 16;  // bytes read from a footprint's first
    // Locals, because a store into a row of floats could change a pointer inside `scratch`, as far as the compiler
    // knows.
    int *const x_first = scratch.x_first, *const y_first = scratch.y_first;
    float *const x_offset = scratch.x_offset, *const y_offset = scratch.y_offset;
    float *const x_scale = scratch.x_scale, *const y_scale = scratch.y_scale;
    float *const row = scratch.row, *const row_weights = scratch.row_weights;
    const unsigned char* const data = image.data;
    const long long stride = image.stride;
    const int width = out.width, x_last = image.width - count, y_last = image.height - count;
    for (int y = 0; y < out.height; ++y) {
        const double cx = m.b * y + m.tx, cy = m.d * y + m.ty;
        row_footprints(cx, m.a, r, image.width, count, width, x_first, x_offset, x_scale);
        row_footprints(cy, m.c, r, image.height, count, width, y_first, y_offset, y_scale);
        for (int x = 0; x < width; ++x) {
            const int left = x_first[x], top = y_first[x];
            const long long at = top * stride + 3LL * left;
            const bool inside = (left >= 0) & (top >= 0) & (left <= x_last) & (top <= y_last) & (at + reach <= bytes);
            if (__builtin_expect(inside, true)) {
                Quad sum =
                    inside_pixel<fixed>(data + at, stride, count, x_offset[x], y_offset[x], inverse_r, row_weights);
                sum *= x_scale[x] * y_scale[x];
                std::memcpy(row + 3 * x, &sum,
                            sizeof sum);  // the fourth float belongs to the next pixel, which comes later
            } else {
                border_pixel(image, cx + m.a * x, cy + m.c * x, r, border, left, top, count, row + 3 * x);
            }
        }
        round_row(row, 3 * width, out.data + y * out.stride);
    }
}

void warp_turned(const Image& image, const Matrix& m, Border border, const Canvas& out, WarpScratch& scratch) {
    switch (static_cast<int>(std::ceil(2.0 * tent_radius(m)))) {
        case 2: return warp_rows<2>(image, m, border, out, scratch);
        case 3: return warp_rows<3>(image, m, border, out, scratch);
        case 4: return warp_rows<4>(image, m, border, out, scratch);
        case 5: return warp_rows<5>(image, m, border, out, scratch);
        default: return warp_rows<0>(image, m, border, out, scratch);
    }
}

// line[j] = sum over rows of weights[k] * row k's byte j.
FE_INLINE void sum_rows(const unsigned char* first_row, long long stride, const float* weights, int rows, int bytes,
                        float* line) {
    constexpr int vectors = FE_WIDTH == 4 ? 8 : 4, step = vectors * kWidth;
    const auto sum_at = [&](int j, auto number) __attribute__((always_inline)) {
        constexpr int n = decltype(number)::value;
        Vector sum[n] = {};
        const unsigned char* p = first_row + j;
        for (int k = 0; k < rows; ++k, p += stride)
            for (int i = 0; i < n; ++i) sum[i] += load_bytes(p + i * kWidth) * weights[k];
        std::memcpy(line + j, sum, sizeof sum);
    };
    int j = 0;
    for (; j + step <= bytes; j += step) sum_at(j, std::integral_constant<int, vectors>());
    for (; j + kWidth <= bytes; j += kWidth) sum_at(j, std::integral_constant<int, 1>());
    if (j < bytes && bytes >= kWidth) {
        sum_at(bytes - kWidth, std::integral_constant<int, 1>());  // the last vector again, a little earlier: nothing
                                                                   // is read beyond the row
        return;
    }
    for (; j < bytes; ++j) {
        line[j] = 0.0f;
        for (int k = 0; k < rows; ++k) line[j] += weights[k] * first_row[k * stride + j];
    }
}

template <int fixed>
FE_INLINE void sum_columns(const float* line, const Columns& columns, int width, float* out) {
    constexpr int parts = fixed == 0 ? kParts : (3 * fixed + kWidth - 1) / kWidth;
    const int blocks = fixed == 0 ? columns.blocks : 1;
    const float* w = columns.weights.data();
    for (int x = 0; x < width; ++x, w += 16 * columns.blocks) {
        const float* p = line + columns.first[x];
        Lanes<parts> total = {};
        for (int block = 0; block < blocks; ++block)
            for (int i = 0; i < parts; ++i)
                total.part[i] += load_floats(p + 15 * block + i * kWidth) * load_floats(w + 16 * block + i * kWidth);
        const Quad sum = sum_pixels<fixed == 0 ? 5 : fixed>(total);
        std::memcpy(out + 3 * x, &sum, sizeof sum);
    }
}

void resample(const Image& image, const Rows& rows, const Columns& columns, const Canvas& out, float* line,
              float* row) {
    const int bytes = 3 * (columns.end - columns.begin);
    for (int y = 0; y < out.height; ++y) {
        unsigned char* target = out.data + y * out.stride;
        if (bytes <= 0 || rows.count[y] <= 0) {
            std::fill(target, target + 3LL * out.width, static_cast<unsigned char>(0));
            continue;
        }
        const unsigned char* first_row = image.data + rows.first[y] * image.stride + 3LL * columns.begin;
        sum_rows(first_row, image.stride, rows.weights.data() + rows.at[y], rows.count[y], bytes, line);
        if (columns.most <= 2) {
            sum_columns<2>(line, columns, out.width, row);
        } else if (columns.most <= 3) {
            sum_columns<3>(line, columns, out.width, row);
        } else if (columns.most <= 4) {
            sum_columns<4>(line, columns, out.width, row);
        } else if (columns.most <= 5) {
            sum_columns<5>(line, columns, out.width, row);
        } else {
            sum_columns<0>(line, columns, out.width, row);
        }
        round_row(row, 3 * out.width, target);
    }
}

constexpr Kernels kernels = {&warp_turned, &resample};

#undef FE_INLINE

}  // namespace faceembed::FE_ISA
