// From the one-shot network's outputs to faces: decode, non-maximum suppression, and the mean of the answers that agree.
// engine/detect/oneshot.py defines what the outputs mean; this is its `decode` and `_merge` for one canvas.
//
// A canvas is worked on by a team: the 256 threads of a block on a card, or one thread on the CPU, which is a team of
// one. The result does not depend on the team's size: candidates are listed in the order of their cells, ties go to the
// lower one, and each sum is made by one thread in that order.
#pragma once

#include "half.h"
#include "overlap.h"

namespace faceembed {

constexpr int kLevels = 3, kFirstStride = 8;  // strides 8, 16, 32
constexpr int kAnswers = 15;                  // channels of a level: score, four sides, five points
constexpr float kReach = 6.0f;                // of the logarithm of a distance, so that nothing overflows

template <typename Number>
struct Outputs {
    const Number* level[kLevels];  // (canvases, 15, height / stride, width / stride)
    int height, width;             // of a canvas, multiples of 32
};

// A canvas's cells over all levels.
FE_HD int cell_count(int height, int width) {
    int cells = 0;
    for (int level = 0, stride = kFirstStride; level < kLevels; ++level, stride *= 2)
        cells += (height / stride) * (width / stride);
    return cells;
}

struct Thresholds {
    float logit;     // least score of a candidate, as a logit
    double overlap;  // intersection over union above which two boxes are one face
    double blend;    // and from which another answer is averaged into it
};

// What one canvas needs to work in, one row of `cells` numbers after another.
struct Scratch {
    float* answers;  // (15, cells): score, x1, y1, x2, y2, ten coordinates
    int* state;      // (2, cells): 1 while a candidate is neither kept nor suppressed; the kept ones in their order
    int cells;

    FE_HD float& answer(int which, int candidate) const {
        return answers[static_cast<long long>(which) * cells + candidate];
    }
    FE_HD Box box(int i) const { return {answer(1, i), answer(2, i), answer(3, i), answer(4, i)}; }
};

// A face as it leaves: score, x1, y1, x2, y2, five points.
struct Found {
    float value[kAnswers];
};

// How many faces, and how many cells whose answer is not a number: anything but 0 means that the network overflowed.
struct Counts {
    int faces;
    int broken;
};

// The best candidate that a thread has seen.
struct Best {
    float score;
    int index;  // -1: none
};

FE_HD bool is_better(const Best& a, const Best& b) {
    if (a.index < 0 || b.index < 0) return b.index < 0 && a.index >= 0;
    return a.score > b.score || (a.score == b.score && a.index < b.index);
}

// A team of one.
struct Alone {
    FE_HD int rank() const { return 0; }
    FE_HD int size() const { return 1; }
    // How many of the members before this one say yes; `total`: of all. This and `best` are barriers: what anybody wrote
    // before, everybody sees after.
    FE_HD int count_before(bool yes, int* total) const {
        *total = yes;
        return 0;
    }
    FE_HD Best best(const Best& mine) const { return mine; }
};

// In float64, so that both devices get the same float32.
FE_HD float sigmoid(float logit) { return static_cast<float>(1.0 / (1.0 + exp(-static_cast<double>(logit)))); }

// Where a cell's answers lie.
template <typename Number>
struct Cell {
    const Number* first;  // channel 0
    long long plane;      // from one channel to the next
    int row, column, stride;
};

template <typename Number>
FE_HD Cell<Number> find_cell(const Outputs<Number>& outputs, int canvas, int cell) {
    int level = 0, stride = kFirstStride;
    int rows = outputs.height / stride, columns = outputs.width / stride;
    while (level + 1 < kLevels && cell >= rows * columns) {
        cell -= rows * columns;
        ++level;
        stride *= 2;
        rows = outputs.height / stride;
        columns = outputs.width / stride;
    }
    const long long plane = static_cast<long long>(rows) * columns;
    const Number* const data = level == 0 ? outputs.level[0] : level == 1 ? outputs.level[1] : outputs.level[2];
    return {data + canvas * kAnswers * plane + cell, plane, cell / columns, cell % columns, stride};
}

// One candidate in pixels of its photo. `scale`: canvas pixels per photo pixel, x and y. False: not all numbers.
template <typename Number>
FE_HD bool decode_cell(const Cell<Number>& cell, const float* scale, const Scratch& scratch, int slot) {
    const float stride = static_cast<float>(cell.stride);
    const float point[2] = {(cell.column + 0.5f) * stride, (cell.row + 0.5f) * stride};
    bool sound = true;
    for (int k = 0; k < kAnswers; ++k) {
        const float answer = to_float(cell.first[k * cell.plane]);
        const int axis = (k - 1) & 1;
        float value;
        if (k == 0) {
            value = sigmoid(answer);
        } else if (k < 5) {
            // The comparison lets NaN through: fminf would hide it.
            const double limited = answer > kReach ? kReach : answer;
            const float reach = static_cast<float>(exp(limited)) * stride;
            value = (k < 3 ? point[axis] - reach : point[axis] + reach) / scale[axis];
        } else {
            value = (point[axis] + answer * stride) / scale[axis];
        }
        sound = sound && is_finite(value) && is_finite(answer);
        scratch.answer(k, slot) = value;
    }
    return sound;
}

// List the candidates of a canvas in the order of their cells.
template <typename Team, typename Number>
FE_HD int list_candidates(Team& team, const Outputs<Number>& outputs, int canvas, const float* scale, float logit,
                          const Scratch& scratch, int* broken) {
    int listed = 0;
    *broken = 0;
    for (int start = 0; start < scratch.cells; start += team.size()) {
        const int index = start + team.rank();
        bool wanted = false, is_broken = false;
        Cell<Number> cell = {};
        if (index < scratch.cells) {
            cell = find_cell(outputs, canvas, index);
            const float score = to_float(*cell.first);
            wanted = score >= logit;
            is_broken = score != score;
        }
        int total, unsound;
        const int slot = listed + team.count_before(wanted, &total);
        if (wanted) {
            is_broken = !decode_cell(cell, scale, scratch, slot);
            scratch.state[slot] = is_broken ? 0 : 1;
            if (is_broken) scratch.answer(1, slot) = static_cast<float>(not_a_number());  // so that it touches nobody
        }
        team.count_before(is_broken, &unsound);
        *broken += unsound;
        listed += total;
    }
    return listed;  // everybody sees the list: counting is a barrier
}

// Keep the best candidate that is left and drop those it covers, until none is left. The kept ones' indices end up in
// the second row of `scratch.state`.
template <typename Team>
FE_HD int suppress(Team& team, const Scratch& scratch, int candidates, double threshold) {
    int* kept = scratch.state + scratch.cells;
    int faces = 0;
    for (;;) {
        Best mine = {0.0f, -1};
        for (int i = team.rank(); i < candidates; i += team.size()) {
            const Best other = {scratch.answer(0, i), i};
            if (scratch.state[i] && is_better(other, mine)) mine = other;
        }
        const Best best = team.best(mine);
        if (best.index < 0) break;
        if (team.rank() == 0) kept[faces] = best.index;
        ++faces;
        const Box box = scratch.box(best.index);
        for (int i = team.rank(); i < candidates; i += team.size()) {
            if (!scratch.state[i]) continue;
            const Box other = scratch.box(i);
            if (i == best.index || (touch(box, other) && covers(box, other, threshold, Overlap::over_union)))
                scratch.state[i] = 0;
        }
        // Every thread asks and answers for its own candidates only, and `best` is a barrier for what was kept.
    }
    return faces;
}

// The weighted mean of one number over all answers for a face. The score, number 0, stays the best one's.
FE_HD float blend_answer(const Scratch& scratch, int candidates, int best, int which, double least) {
    const float own = scratch.answer(which, best);
    if (which == 0) return own;
    const Box box = scratch.box(best);
    double sum = 0.0, weight = 0.0;
    for (int i = 0; i < candidates; ++i) {
        const Box other = scratch.box(i);
        if (!touch(box, other) || !(overlap_over_union(box, other) >= least)) continue;
        const double w = scratch.answer(0, i);
        weight += w;
        sum += w * scratch.answer(which, i);
    }
    return weight > 0.0 ? static_cast<float>(sum / weight) : own;  // a box without area agrees not even with itself
}

// The faces of one canvas, by falling score. `found` has room for one a cell.
template <typename Team, typename Number>
FE_HD void find_faces(Team& team, const Outputs<Number>& outputs, int canvas, const float* scale,
                      const Thresholds& thresholds, const Scratch& scratch, Found* found, Counts* counts) {
    int broken;
    const int candidates = list_candidates(team, outputs, canvas, scale, thresholds.logit, scratch, &broken);
    const int faces = suppress(team, scratch, candidates, thresholds.overlap);
    const int* kept = scratch.state + scratch.cells;
    // A thread a number, not a face: most photos have one face, and fifteen sums at once take too many registers.
    for (int i = team.rank(); i < faces * kAnswers; i += team.size())
        found[i / kAnswers].value[i % kAnswers] =
            blend_answer(scratch, candidates, kept[i / kAnswers], i % kAnswers, thresholds.blend);
    if (team.rank() == 0) *counts = {faces, broken};
}

}  // namespace faceembed
