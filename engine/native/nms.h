// Greedy non-maximum suppression within groups (a group is a photo, or a photo and pyramid level). Boxes only: it knows
// nothing of images or detectors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace faceembed {

enum class Overlap { over_union, over_smaller };

// The boxes of one group that were kept so far, one array a coordinate so that the comparison loop vectorises.
class KeptBoxes {
  public:
    void clear() {
        for (auto* column : {&x1_, &y1_, &x2_, &y2_}) column->clear();
        area_.clear();
    }

    void add(const float* box) {
        x1_.push_back(box[0]);
        y1_.push_back(box[1]);
        x2_.push_back(box[2]);
        y2_.push_back(box[3]);
        area_.push_back(area(box));
    }

    // Does a kept box overlap `box` by more than `threshold`?
    bool suppress(const float* box, double threshold, Overlap overlap) const {
        return overlap == Overlap::over_union ? any_over<Overlap::over_union>(box, threshold)
                                              : any_over<Overlap::over_smaller>(box, threshold);
    }

  private:
    // Areas are real-valued (no +1 for whole pixels) and 0 for a box turned inside out.
    static double area(const float* box) {
        return std::max(0.0, double(box[2]) - box[0]) * std::max(0.0, double(box[3]) - box[1]);
    }

    template <Overlap overlap>
    bool any_over(const float* box, double threshold) const {
        constexpr std::size_t kBlock = 16;  // look at the verdict once a block: a branch a box would stop vectorisation
        const double x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3], own = area(box);
        const std::size_t count = x1_.size();
        for (std::size_t begin = 0; begin < count; begin += kBlock) {
            const std::size_t end = std::min(count, begin + kBlock);
            int found = 0;
            for (std::size_t i = begin; i < end; ++i) {
                const double width = std::max(0.0, std::min<double>(x2, x2_[i]) - std::max<double>(x1, x1_[i]));
                const double height = std::max(0.0, std::min<double>(y2, y2_[i]) - std::max<double>(y1, y1_[i]));
                const double shared = width * height;
                const double whole = overlap == Overlap::over_union ? own + area_[i] - shared : std::min(own, area_[i]);
                found |= shared > threshold * whole;
            }
            if (found) return true;
        }
        return false;
    }

    std::vector<float> x1_, y1_, x2_, y2_;
    std::vector<double> area_;
};

// Indices of the kept boxes, by group and then by descending score; of equal scores the lower index wins.
//
// A box goes if an already kept one of its group covers more than `threshold` of their union (or of the smaller one).
// `boxes` is (count, 4) as x1 y1 x2 y2; nothing may be NaN.
inline std::vector<std::int64_t> nms(const float* boxes, const float* scores, const std::int32_t* groups, std::size_t count,
                                     double threshold, Overlap overlap) {
    std::vector<std::int64_t> order(count);
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
        if (groups[i] != groups[j]) return groups[i] < groups[j];
        if (scores[i] != scores[j]) return scores[i] > scores[j];
        return i < j;
    });
    std::vector<std::int64_t> kept;
    KeptBoxes in_group;
    for (std::size_t k = 0; k < count; ++k) {
        if (k == 0 || groups[order[k]] != groups[order[k - 1]]) in_group.clear();
        const float* box = boxes + 4 * order[k];
        if (in_group.suppress(box, threshold, overlap)) continue;
        in_group.add(box);
        kept.push_back(order[k]);
    }
    return kept;
}

}  // namespace faceembed
