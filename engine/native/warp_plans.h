// What the loops of a warp or a resize read beside the pixels: where each output's source pixels begin, their weights,
// and room to work in. Made once for each image, by the scalar code of warp.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "warp.h"

namespace faceembed {
namespace {

// Of the loops in fixed point.
constexpr int kDownBits = 16;      // behind the point of weights that rows are multiplied with; 1 is 2^16 - 1
constexpr int kAcrossBits = 15;    // of columns, in numbers with a sign; 1 is 2^15 - 1
constexpr int kFractionBits = 14;  // of the four weights of 2 x 2 pixels, whose sum is exactly 1
constexpr int kFixedWidth = 22;    // least source width in pixels: 64 bytes of a row are summed at once
constexpr int kFixedRows = 64;     // source rows, or columns, of an output: of more, roundings add up to half a level
constexpr double kFar = 1 << 28;   // pixels: from there on a row of outputs is outside any image
constexpr double kFixedReach = 4096.0;  // pixels from a row's first output to its last: float32 places them to 1/4096

// A weight with so many bits behind the point; 1 does not fit.
template <int bits>
int fixed_weight(float weight) {
    return std::min(static_cast<int>(weight * float(1 << bits) + 0.5f), (1 << bits) - 1);
}

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

// The same for the loops in fixed point; vectors of weights and of pixels may be read, or stored, beyond the row's end.
struct FixedScratch {
    explicit FixedScratch(int width) : ints_(5 * std::size_t(width)), words_(2 * std::size_t(width) + 4) {
        left = ints_.data();
        top = left + width;
        x_place = top + width;
        y_place = x_place + width;
        at = y_place + width;
        upper = words_.data();
        lower = upper + width;
        levels_.resize(3 * std::size_t(width) + 16);
        levels = levels_.data();
    }

    int *left, *top, *x_place, *y_place;
    int* at;  // bytes from the image's first
    std::uint32_t *upper, *lower;
    unsigned char* levels;

  private:
    std::vector<int> ints_;
    std::vector<std::uint32_t> words_;
    std::vector<unsigned char> levels_;
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

// The source positions of each output of a resize along one axis, all of them inside the image.
struct Spans {
    int most = 0;                // positions of the widest output
    std::vector<int> first;      // position of each output
    std::vector<float> weights;  // `most` for each, which add up to 1; those behind an output's last are 0
};

// The same columns as the loops in fixed point take them, one output or several `together`: pixels in pairs, each pair of
// weights three times.
struct FixedColumns {
    int together = 1;                   // outputs to a group
    int blocks = 0;                     // of four pixels for each output; or pairs of pixels for each group
    std::vector<int> first;             // where an output's, or a group's, columns begin: numbers from the row's first
    std::vector<std::int16_t> order;    // of groups, for each pair: which of 64 numbers comes where
    std::vector<std::int16_t> weights;  // 16 to a block, or 32 to a pair
};

constexpr int kRegisters = 64;  // numbers in the two registers that a group's source pixels must fit

// Axis i of n, by `axis_of(i)` -> Axis.
template <typename AxisOf>
std::vector<Axis> make_axes(int n, const AxisOf& axis_of) {
    std::vector<Axis> axes;
    axes.reserve(n);
    for (int i = 0; i < n; ++i) axes.push_back(axis_of(i));
    return axes;
}

inline Rows make_rows(const std::vector<Axis>& axes) {
    Rows rows;
    for (const Axis& axis : axes) {
        rows.first.push_back(axis.begin);
        rows.count.push_back(std::max(axis.end - axis.begin, 0));
        rows.at.push_back(rows.weights.size());
        for (int p = axis.begin; p < axis.end; ++p)
            rows.weights.push_back(static_cast<float>(axis.weight(p) / axis.sum));
    }
    return rows;
}

inline Columns make_columns(const std::vector<Axis>& axes, int size) {
    Columns columns;
    columns.begin = size;
    for (const Axis& axis : axes) {
        if (axis.begin >= axis.end) continue;
        columns.begin = std::min(columns.begin, axis.begin);
        columns.end = std::max(columns.end, axis.end);
        columns.most = std::max(columns.most, axis.end - axis.begin);
    }
    columns.blocks = std::max(1, (columns.most + 4) / 5);
    columns.first.assign(axes.size(), 0);
    columns.weights.assign(axes.size() * columns.blocks * 16, 0.0f);
    for (std::size_t i = 0; i < axes.size(); ++i) {
        if (axes[i].begin >= axes[i].end) continue;
        columns.first[i] = 3 * (axes[i].begin - columns.begin);
        float* block = columns.weights.data() + i * columns.blocks * 16;
        for (int k = 0; k < axes[i].end - axes[i].begin; ++k) {
            float* w = block + k / 5 * 16 + k % 5 * 3;
            w[0] = w[1] = w[2] = static_cast<float>(axes[i].weight(axes[i].begin + k) / axes[i].sum);
        }
    }
    return columns;
}

// `resize_axis` for all outputs, in float32.
inline Spans make_spans(int source, int target) {
    const double ratio = static_cast<double>(source) / target, r = std::max(ratio, 1.0);
    const float inverse_r = static_cast<float>(1.0 / r);
    Spans spans;
    spans.most = std::min(static_cast<int>(std::ceil(2.0 * r)), source);
    spans.first.resize(target);
    spans.weights.resize(std::size_t(target) * spans.most);
    for (int i = 0; i < target; ++i) {
        const double centre = (i + 0.5) * ratio - 0.5;
        const int from = static_cast<int>(std::floor(centre - r)) + 1;
        const int first = std::max(0, std::min(from, source - spans.most));
        const float offset = static_cast<float>(centre - first);
        float* const weights = spans.weights.data() + std::size_t(i) * spans.most;
        float sum = 0.0f;
        for (int k = 0; k < spans.most; ++k) {
            const float weight = std::max(0.0f, 1.0f - std::fabs(k - offset) * inverse_r);
            sum += weights[k] = weight;
        }
        for (int k = 0; k < spans.most; ++k) weights[k] /= sum;
        spans.first[i] = first;
    }
    return spans;
}

inline std::vector<std::uint16_t> down_weights(const Spans& rows) {
    std::vector<std::uint16_t> weights(rows.weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<std::uint16_t>(fixed_weight<kDownBits>(rows.weights[i]));
    return weights;
}

// Pixels four by four; `x` is the first of the outputs.
inline void put_blocks(const Spans& spans, FixedColumns& columns) {
    const int outputs = static_cast<int>(spans.first.size());
    columns.blocks = (spans.most + 3) / 4;
    columns.weights.assign(std::size_t(outputs) * columns.blocks * 16, 0);
    for (int x = 0; x < outputs; ++x) {
        columns.first.push_back(3 * spans.first[x]);
        for (int k = 0; k < spans.most; ++k) {
            std::int16_t* w = columns.weights.data() + (std::size_t(x) * columns.blocks + k / 4) * 16;
            w += k % 4 / 2 * 8 + k % 2;  // a pair's half, and its first or second
            const float weight = spans.weights[std::size_t(x) * spans.most + k];
            w[0] = w[2] = w[4] = static_cast<std::int16_t>(fixed_weight<kAcrossBits>(weight));
        }
    }
}

inline void put_groups(const Spans& spans, FixedColumns& columns) {
    const int outputs = static_cast<int>(spans.first.size()), together = columns.together;
    const int groups = (outputs + together - 1) / together;
    columns.blocks = (spans.most + 1) / 2;
    columns.order.assign(std::size_t(groups) * columns.blocks * 32, 0);
    columns.weights.assign(std::size_t(groups) * columns.blocks * 32, 0);
    for (int x = 0; x < outputs; ++x) {
        const int group = x / together, from = spans.first[group * together];
        if (x % together == 0) columns.first.push_back(3 * from);
        for (int k = 0; k < spans.most; ++k) {
            const std::size_t place = (std::size_t(group) * columns.blocks + k / 2) * 32 + x % together * 6 + k % 2;
            const float weight = spans.weights[std::size_t(x) * spans.most + k];
            const auto fixed = static_cast<std::int16_t>(fixed_weight<kAcrossBits>(weight));
            for (int channel = 0; channel < 3; ++channel) {
                columns.order[place + 2 * channel] =
                    static_cast<std::int16_t>(3 * (spans.first[x] + k - from) + channel);
                columns.weights[place + 2 * channel] = fixed;
            }
        }
    }
}

// `gather`: whether groups are to be made where they fit.
inline FixedColumns make_fixed_columns(const Spans& spans, bool gather) {
    const int outputs = static_cast<int>(spans.first.size());
    const auto fits = [&](int together) {
        for (int x = 0; x < outputs; x += together)
            if (3 * (spans.first[std::min(x + together, outputs) - 1] + spans.most - spans.first[x]) > kRegisters)
                return false;
        return true;
    };
    FixedColumns columns;
    columns.together = gather ? 5 : 1;
    while (columns.together > 1 && !fits(columns.together)) --columns.together;
    if (columns.together > 1)
        put_groups(spans, columns);
    else
        put_blocks(spans, columns);
    return columns;
}

// The weights of a turned warp, for each of `places` + 1 places of a centre between two pixels.
struct Tents {
    int count = 0, blocks = 0;         // source pixels of an output along an axis; blocks of four of them
    int places = 0;                    // steps from a pixel to the next
    std::vector<std::uint32_t> down;   // `count` for each place: the weight twice, to be multiplied with pairs
    std::vector<std::int16_t> across;  // 16 to a block, pixels in pairs as for FixedColumns
};

inline Tents make_tents(double r) {
    Tents tents;
    tents.count = static_cast<int>(std::ceil(2.0 * r));
    if (tents.count == 2) {
        tents.places = 1 << kFractionBits;
        return tents;
    }
    tents.places = tents.count <= 4 ? 512 : 256;  // the wider a tent, the less a place decides
    tents.blocks = (tents.count + 3) / 4;
    tents.down.resize(std::size_t(tents.places + 1) * tents.count);
    tents.across.assign(std::size_t(tents.places + 1) * tents.blocks * 16, 0);
    float weights[kFixedRows];
    const float inverse_r = static_cast<float>(1.0 / r);
    for (int place = 0; place <= tents.places; ++place) {
        const float offset = static_cast<float>(r - 1.0 + double(place) / tents.places);
        float sum = 0.0f;
        for (int k = 0; k < tents.count; ++k)
            sum += weights[k] = std::max(0.0f, 1.0f - std::fabs(k - offset) * inverse_r);
        const float scale = 1.0f / sum;
        std::uint32_t* down = tents.down.data() + std::size_t(place) * tents.count;
        std::int16_t* across = tents.across.data() + std::size_t(place) * tents.blocks * 16;
        for (int k = 0; k < tents.count; ++k) {
            down[k] = static_cast<std::uint32_t>(fixed_weight<kDownBits>(weights[k] * scale)) * 0x10001u;
            std::int16_t* pair = across + k / 2 * 8 + k % 2;
            pair[0] = pair[2] = pair[4] = static_cast<std::int16_t>(fixed_weight<kAcrossBits>(weights[k] * scale));
        }
    }
    return tents;
}

}  // namespace
}  // namespace faceembed
