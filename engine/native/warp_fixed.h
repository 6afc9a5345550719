// The inner loops in fixed point, for x86-64 with AVX2 or AVX-512. No include guard: warp_host.cpp includes it once for
// each instruction set, after warp_kernels.h and in the same way; FE_WIDTH is 8 or 16.
//
// Rows are summed first: levels become the high bytes of 16-bit numbers, so that one instruction multiplies twice as
// many as in floats and keeps the high half, with 8 bits behind the point. Columns come last, in pairs and in 32 bits.
// A row's product is off by 1/512 level at most, once half of what cutting off takes is given back; weights are off by
// 2^-17 and 2^-16; and in a turned warp a footprint's place by 1/1024 pixel along each axis, or 1/512 where it is wide.
// Together that is less than a level from the sums in warp.h before rounding, so that levels differ by one at most.
// More rows than kFixedRows would add up to more: those stay with floats.

namespace faceembed::FE_ISA {

#define FE_INLINE inline __attribute__((always_inline))

constexpr int kSumBits = kAcrossBits + 7;  // behind the point of a sum over rows and columns

FE_INLINE __m256i load16(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

FE_INLINE __m256i twice(__m128i half) { return _mm256_broadcastsi128_si256(half); }

// Sums [r g b .] as levels into three bytes; the fourth that is written belongs to the next pixel, which comes later.
FE_INLINE void store_pixel(__m256i sums, unsigned char* out) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(1 << (kSumBits - 1))), kSumBits);
    const __m128i words = _mm_packus_epi32(sum, sum);
    const int level = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(out, &level, sizeof level);
}

// ---- upright: rows, then columns

#if FE_WIDTH == 16
constexpr int kBytes = 64;
struct Words {
    __m512i v;
};
FE_INLINE Words same(int word) { return {_mm512_set1_epi16(static_cast<std::int16_t>(word))}; }
FE_INLINE Words plus(Words a, Words b) { return {_mm512_add_epi16(a.v, b.v)}; }
FE_INLINE Words times(Words a, Words b) { return {_mm512_mulhi_epu16(a.v, b.v)}; }
FE_INLINE Words load_all(const unsigned char* p) { return {_mm512_loadu_si512(p)}; }
FE_INLINE Words evens(Words a) { return {_mm512_slli_epi16(a.v, 8)}; }
FE_INLINE Words odds(Words a) { return {_mm512_and_si512(a.v, _mm512_set1_epi16(static_cast<std::int16_t>(0xff00)))}; }
// Even and odd bytes' numbers, halved, in the order of the bytes.
FE_INLINE void store_in_order(Words even, Words odd, std::int16_t* line) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a = _mm512_avg_epu16(even.v, zero), b = _mm512_avg_epu16(odd.v, zero);
    const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);  // within each quarter
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(line, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(line + 32, _mm512_permutex2var_epi64(low, second, high));
}
#else
constexpr int kBytes = 32;
struct Words {
    __m256i v;
};
FE_INLINE Words same(int word) { return {_mm256_set1_epi16(static_cast<std::int16_t>(word))}; }
FE_INLINE Words plus(Words a, Words b) { return {_mm256_add_epi16(a.v, b.v)}; }
FE_INLINE Words times(Words a, Words b) { return {_mm256_mulhi_epu16(a.v, b.v)}; }
FE_INLINE Words load_all(const unsigned char* p) { return {load16(p)}; }
FE_INLINE Words evens(Words a) { return {_mm256_slli_epi16(a.v, 8)}; }
FE_INLINE Words odds(Words a) { return {_mm256_and_si256(a.v, _mm256_set1_epi16(static_cast<std::int16_t>(0xff00)))}; }
FE_INLINE void store_in_order(Words even, Words odd, std::int16_t* line) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i a = _mm256_avg_epu16(even.v, zero), b = _mm256_avg_epu16(odd.v, zero);
    const __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(line), _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(line + 16), _mm256_permute2x128_si256(low, high, 0x31));
}
#endif

// line[j] = sum over rows of weights[k] * row k's byte j, 7 bits behind the point. `bytes` is a vector at least.
FE_INLINE void sum_rows_fixed(const unsigned char* first_row, long long stride, const std::uint16_t* weights, int rows,
                              int bytes, std::int16_t* line) {
    const auto sum_at = [&](int j, auto number) __attribute__((always_inline)) {
        constexpr int n = decltype(number)::value;
        Words even[n], odd[n];
        for (int i = 0; i < n; ++i) even[i] = odd[i] = same(rows / 2);  // half of what cutting off takes
        const unsigned char* p = first_row + j;
        for (int k = 0; k < rows; ++k, p += stride) {
            const Words weight = same(weights[k]);
            for (int i = 0; i < n; ++i) {
                const Words levels = load_all(p + i * kBytes);
                even[i] = plus(even[i], times(evens(levels), weight));
                odd[i] = plus(odd[i], times(odds(levels), weight));
            }
        }
        for (int i = 0; i < n; ++i) store_in_order(even[i], odd[i], line + j + i * kBytes);
    };
    int j = 0;
    for (; j + 4 * kBytes <= bytes; j += 4 * kBytes) sum_at(j, std::integral_constant<int, 4>());
    for (; j + kBytes <= bytes; j += kBytes) sum_at(j, std::integral_constant<int, 1>());
    if (j < bytes) sum_at(bytes - kBytes, std::integral_constant<int, 1>());  // the last vector again, a little earlier
}

// One output after the other, four source pixels at a time.
FE_INLINE void sum_columns_fixed(const std::int16_t* line, const FixedColumns& columns, int width, unsigned char* out) {
    // (r0 g0 b0 r1 ...) in pairs: [r0 r1 g0 g1 b0 b1 . . | r2 r3 g2 g3 b2 b3 . .].
    const __m256i halves = _mm256_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5);
    const __m256i pairs = twice(_mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1));
    const std::int16_t* w = columns.weights.data();
    const int blocks = columns.blocks;
    for (int x = 0; x < width; ++x) {
        const std::int16_t* p = line + columns.first[x];
        __m256i sums = _mm256_setzero_si256();
        for (int block = 0; block < blocks; ++block, w += 16) {
            const __m256i words = _mm256_permutevar8x32_epi32(load16(p + 12 * block), halves);
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_shuffle_epi8(words, pairs), load16(w)));
        }
        store_pixel(sums, out + 3 * x);
    }
}

#if FE_WIDTH == 16
// Up to five outputs at once, whose source pixels all lie in two registers: `order` picks a pair of them for each.
FE_INLINE void sum_gathered(const std::int16_t* line, const FixedColumns& columns, unsigned char* out) {
    const std::int16_t *w = columns.weights.data(), *order = columns.order.data();
    const int groups = static_cast<int>(columns.first.size()), pairs = columns.blocks, step = 3 * columns.together;
    for (int group = 0; group < groups; ++group) {
        const std::int16_t* p = line + columns.first[group];
        const __m512i low = _mm512_loadu_si512(p), high = _mm512_loadu_si512(p + 32);
        __m512i sums = _mm512_set1_epi32(1 << (kSumBits - 1));
        for (int pair = 0; pair < pairs; ++pair, order += 32, w += 32) {
            const __m512i words = _mm512_permutex2var_epi16(low, _mm512_loadu_si512(order), high);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(words, _mm512_loadu_si512(w)));
        }
        const __m128i levels = _mm512_cvtusepi32_epi8(_mm512_srai_epi32(sums, kSumBits));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + group * step), levels);
    }
}
#endif

void resize_fixed(const Image& image, const Spans& rows, const FixedColumns& columns, const Canvas& out) {
    const std::vector<std::uint16_t> weights = down_weights(rows);
    // What the last outputs' vectors find beyond the row counts for nothing. Two lines: one is summed while the other's
    // stores are on their way, which its loads, across them, would wait for.
    const std::size_t room = 3 * std::size_t(image.width) + kRegisters + 12 * std::size_t(columns.blocks);
    std::vector<std::int16_t> lines(2 * room);
    std::vector<unsigned char> levels(3 * std::size_t(out.width) + 16);
    const auto sum_rows = [&](int y) __attribute__((always_inline)) {
        sum_rows_fixed(image.data + rows.first[y] * image.stride, image.stride,
                       weights.data() + std::size_t(y) * rows.most, rows.most, 3 * image.width,
                       lines.data() + y % 2 * room);
    };
    sum_rows(0);
    for (int y = 0; y < out.height; ++y) {
        if (y + 1 < out.height) sum_rows(y + 1);
        const std::int16_t* line = lines.data() + y % 2 * room;
#if FE_WIDTH == 16
        if (columns.together > 1)
            sum_gathered(line, columns, levels.data());
        else
#endif
            sum_columns_fixed(line, columns, out.width, levels.data());
        std::memcpy(out.data + y * out.stride, levels.data(), 3 * std::size_t(out.width));
    }
}

// ---- turned: pixel by pixel

// Where the footprints of a row of outputs begin along one axis, and how far on the way to the next pixel their centres
// are, in `steps`. In float32 from the first output's pixel on: `fits_warp` keeps the others near it.
FE_INLINE void fixed_footprints(double centre, double step, double r, int steps, int n, int* first, int* place) {
    const double whole = std::floor(centre - r);
    const int base = static_cast<int>(whole) + 1;
    const float start = static_cast<float>(centre - r - whole), slope = static_cast<float>(step);
    const float places = static_cast<float>(steps);
    for (int i = 0; i < n; ++i) {
        const float edge = start + slope * static_cast<float>(i);
        int floor_of_edge = static_cast<int>(edge);
        floor_of_edge -= floor_of_edge > edge;
        first[i] = base + floor_of_edge;
        place[i] = static_cast<int>((edge - static_cast<float>(floor_of_edge)) * places + 0.5f);
    }
}

// At scales up to 1: 2 x 2 pixels, whose four weights are made of two fractions with 14 bits.
FE_INLINE void bilinear_weights(const int* x, const int* y, int n, std::uint32_t* upper, std::uint32_t* lower) {
    constexpr int one = 1 << kFractionBits;
    for (int i = 0; i < n; ++i) {
        const int both = (x[i] * y[i] + one / 2) >> kFractionBits, right = x[i] - both, below = y[i] - both;
        upper[i] = static_cast<std::uint32_t>(one - x[i] - below) | static_cast<std::uint32_t>(right) << 16;
        lower[i] = static_cast<std::uint32_t>(below) | static_cast<std::uint32_t>(both) << 16;
    }
}

// Two pixels of a row and of the next.
FE_INLINE __m128i two_rows(const unsigned char* p, long long stride) {
    const __m128i upper = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(upper), reinterpret_cast<const __m64*>(p + stride)));
}

// Outputs [begin, end) of a row, four at least and all inside the image; eight bytes are read of each of two rows.
FE_INLINE void bilinear_row(const unsigned char* data, long long stride, const int* at, const std::uint32_t* upper,
                            const std::uint32_t* lower, int begin, int end, unsigned char* out) {
    const __m128i first = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m128i second = _mm_setr_epi8(8, -1, 11, -1, 9, -1, 12, -1, 10, -1, 13, -1, -1, -1, -1, -1);
    const auto pair = [&](int x) __attribute__((always_inline)) {
        const __m256i one = _mm256_castsi128_si256(two_rows(data + at[x], stride));
        return _mm256_inserti128_si256(one, two_rows(data + at[x + 1], stride), 1);
    };
#if FE_WIDTH == 16
    constexpr int together = 4;
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i above = _mm512_broadcast_i32x4(first), under = _mm512_broadcast_i32x4(second);
    const __m128i packed = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const auto weights = [&](const std::uint32_t* p) __attribute__((always_inline)) {
        const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm512_permutexvar_epi32(pick, _mm512_castsi128_si512(four));
    };
#else
    constexpr int together = 2;
    const __m256i pick = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i above = twice(first), under = twice(second);
    const auto weights = [&](const std::uint32_t* p) __attribute__((always_inline)) {
        const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(two), pick);
    };
#endif
    for (int start = begin; start < end; start += together) {
        const int x = std::min(start, end - together);  // the last ones again, a little earlier
#if FE_WIDTH == 16
        const __m512i pixels = _mm512_inserti64x4(_mm512_castsi256_si512(pair(x)), pair(x + 2), 1);
        __m512i sums = _mm512_madd_epi16(_mm512_shuffle_epi8(pixels, above), weights(upper + x));
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_shuffle_epi8(pixels, under), weights(lower + x)));
        sums = _mm512_add_epi32(sums, _mm512_set1_epi32(1 << (kFractionBits - 1)));
        const __m128i levels = _mm512_cvtepi32_epi8(_mm512_srli_epi32(sums, kFractionBits));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * x), _mm_shuffle_epi8(levels, packed));
#else
        const __m256i pixels = pair(x);
        __m256i sums = _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, above), weights(upper + x));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, under), weights(lower + x)));
        sums = _mm256_add_epi32(sums, _mm256_set1_epi32(1 << (kFractionBits - 1)));
        sums = _mm256_packus_epi32(_mm256_srli_epi32(sums, kFractionBits), _mm256_setzero_si256());
        sums = _mm256_packus_epi16(sums, _mm256_setzero_si256());
        const int one = _mm256_extract_epi32(sums, 0), two = _mm256_extract_epi32(sums, 4);
        std::memcpy(out + 3 * x, &one, sizeof one);
        std::memcpy(out + 3 * x + 3, &two, sizeof two);
#endif
    }
}

// Outputs [begin, end) of a row at scales above 1, all inside the image: `fixed` x `fixed` source pixels, or, where that
// is 0, as many as `tents` has; four at a time.
template <int fixed>
FE_INLINE void tent_row(const unsigned char* data, long long stride, const int* at, const int* x_place,
                        const int* y_place, const Tents& tents, int begin, int end, unsigned char* out) {
    // Bytes (r0 g0 b0 r1 ...) as the high halves of numbers in pairs: [r0 r1 g0 g1 b0 b1 . . | r2 r3 g2 g3 b2 b3 . .].
    const __m256i pairs = _mm256_setr_epi8(-1, 0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1,  //
                                           -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1);
    const int rows = fixed ? fixed : tents.count, blocks = fixed ? (fixed + 3) / 4 : tents.blocks;
    const __m256i half = _mm256_set1_epi16(static_cast<std::int16_t>(rows / 2));  // of what cutting off takes
    for (int x = begin; x < end; ++x) {
        const unsigned char* base = data + at[x];
        const std::uint32_t* down = tents.down.data() + y_place[x] * rows;
        const std::int16_t* across = tents.across.data() + std::ptrdiff_t(x_place[x]) * blocks * 16;
        __m256i sums = _mm256_setzero_si256();
        for (int block = 0; block < blocks; ++block, base += 12, across += 16) {
            __m256i sum = half;
            const unsigned char* p = base;
            for (int k = 0; k < rows; ++k, p += stride) {
                const __m256i levels = twice(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
                const __m256i weight = _mm256_set1_epi32(static_cast<int>(down[k]));
                sum = _mm256_add_epi16(sum, _mm256_mulhi_epu16(_mm256_shuffle_epi8(levels, pairs), weight));
            }
            sum = _mm256_avg_epu16(sum, _mm256_setzero_si256());  // 7 bits behind the point, and a sign
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(sum, load16(across)));
        }
        store_pixel(sums, out + 3 * x);
    }
}

// All rows of a turned warp. `row(begin, end)` fills the outputs that lie inside the image, if there are `least`;
// `reach`: how many pixels are read from a footprint's first. The others are made one by one, in floats.
template <typename Row>
FE_INLINE void turned_rows(const Image& image, const Matrix& m, Border border, const Canvas& out, const Tents& tents,
                           int reach, int least, FixedScratch& scratch, const Row& row) {
    const double r = tent_radius(m);
    const int width = out.width, count = tents.count, stride = static_cast<int>(image.stride);
    int *const left = scratch.left, *const top = scratch.top, *const at = scratch.at;
    for (int y = 0; y < out.height; ++y) {
        const double cx = m.b * y + m.tx, cy = m.d * y + m.ty;
        const bool near = std::fabs(cx) < kFar && std::fabs(cy) < kFar;
        // What is read beyond a row's end is the next row's begin, and counts for nothing; beyond the last row's, nobody's.
        int begin = 0, end = 0;
        if (near) {
            fixed_footprints(cx, m.a, r, tents.places, width, left, scratch.x_place);
            fixed_footprints(cy, m.c, r, tents.places, width, top, scratch.y_place);
            const bool last = std::max(top[0], top[width - 1]) + count >= image.height;
            const int x_last = image.width - (last ? reach : count), y_last = image.height - count;
            const auto inside = [&](int x) __attribute__((always_inline)) {
                return (left[x] >= 0) & (top[x] >= 0) & (left[x] <= x_last) & (top[x] <= y_last);
            };
            end = width;  // a line through a rectangle: what is inside is one piece
            while (begin < end && !inside(begin)) ++begin;
            while (end > begin && !inside(end - 1)) --end;
            if (end - begin < least) end = begin;
        }
        if (end > begin) {
            for (int x = begin; x < end; ++x) at[x] = top[x] * stride + 3 * left[x];
            row(begin, end);
        }
        for (int x = 0; x < width; ++x) {
            if (x == begin) x = end;
            if (x >= width) break;
            float value[3];
            border_pixel(image, cx + m.a * x, cy + m.c * x, r, border, near ? left[x] : -count, near ? top[x] : -count,
                         count, value);
            round_row(value, 3, scratch.levels + 3 * x);
        }
        std::memcpy(out.data + y * out.stride, scratch.levels, 3 * std::size_t(width));
    }
}

void warp_fixed(const Image& image, const Matrix& m, Border border, const Canvas& out, const Tents& tents,
                FixedScratch& scratch) {
    const unsigned char* const data = image.data;
    const long long stride = image.stride;
    const int *const at = scratch.at, *const x = scratch.x_place, *const y = scratch.y_place;
    unsigned char* const levels = scratch.levels;
    if (tents.count == 2) {
        const auto row = [&](int begin, int end) __attribute__((always_inline)) {
            bilinear_weights(x, y, out.width, scratch.upper, scratch.lower);
            bilinear_row(data, stride, at, scratch.upper, scratch.lower, begin, end, levels);
        };
        return turned_rows(image, m, border, out, tents, 3, 4, scratch, row);
    }
    const auto run = [&](auto rows) __attribute__((always_inline)) {
        const auto row = [&](int begin, int end) __attribute__((always_inline)) {
            tent_row<decltype(rows)::value>(data, stride, at, x, y, tents, begin, end, levels);
        };
        turned_rows(image, m, border, out, tents, 4 * tents.blocks + 2, 1, scratch, row);
    };
    switch (tents.count) {
        case 3: return run(std::integral_constant<int, 3>());
        case 4: return run(std::integral_constant<int, 4>());
        case 5: return run(std::integral_constant<int, 5>());
        case 6: return run(std::integral_constant<int, 6>());
        case 7: return run(std::integral_constant<int, 7>());
        case 8: return run(std::integral_constant<int, 8>());
        case 9: return run(std::integral_constant<int, 9>());
        case 10: return run(std::integral_constant<int, 10>());
        case 11: return run(std::integral_constant<int, 11>());
        case 12: return run(std::integral_constant<int, 12>());
        default: return run(std::integral_constant<int, 0>());
    }
}

constexpr FixedKernels fixed_kernels = {&warp_fixed, &resize_fixed, FE_WIDTH == 16};

#undef FE_INLINE

}  // namespace faceembed::FE_ISA
