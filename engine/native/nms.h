// Greedy non-maximum suppression within groups (a group is a photo, or a photo and pyramid level). Boxes only: it knows
// nothing of images or detectors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "overlap.h"

namespace faceembed {

// The boxes of one group that were kept so far, in blocks of 16, one array a coordinate.
//
// Most pairs do not touch at all, so a block is first asked whether any box in it touches (four comparisons a pair,
// which vectorise); areas are compared only if so. Comparing areas right away took ten times as long on 5,000 boxes a
// group.
class KeptBoxes {
  public:
    void clear() { count_ = 0; }

    void add(const float* box) {
        const std::size_t slot = count_ % kBlock;
        if (count_ / kBlock == blocks_.size()) blocks_.emplace_back();
        Block& block = blocks_[count_ / kBlock];
        if (slot == 0) block = Block();
        block.x1[slot] = box[0];
        block.y1[slot] = box[1];
        block.x2[slot] = box[2];
        block.y2[slot] = box[3];
        ++count_;
    }

    // Does a kept box cover more than `threshold` of the union with `box`, or of the smaller of the two?
    bool suppress(const float* box, double threshold, Overlap overlap) const {
        const std::size_t blocks = (count_ + kBlock - 1) / kBlock;
        for (std::size_t i = 0; i < blocks; ++i) {
            const std::size_t filled = std::min(kBlock, count_ - i * kBlock);
            if (touches(blocks_[i], box) && any_over(blocks_[i], filled, box, threshold, overlap)) return true;
        }
        return false;
    }

  private:
    static constexpr std::size_t kBlock = 16;

    struct Block {
        Block() {  // empty slots touch nothing
            for (auto* column : {x1, y1, x2, y2})
                std::fill(column, column + kBlock, std::numeric_limits<float>::quiet_NaN());
        }
        float x1[kBlock], y1[kBlock], x2[kBlock], y2[kBlock];
    };

    static bool touches(const Block& block, const float* box) {
        const float x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
        int found = 0;
        for (std::size_t i = 0; i < kBlock; ++i)
            found |= int(x1 < block.x2[i]) & int(block.x1[i] < x2) & int(y1 < block.y2[i]) & int(block.y1[i] < y2);
        return found != 0;
    }

    static bool any_over(const Block& block, std::size_t filled, const float* box, double threshold, Overlap overlap) {
        const Box own{box[0], box[1], box[2], box[3]};
        for (std::size_t i = 0; i < filled; ++i)
            if (covers(own, Box{block.x1[i], block.y1[i], block.x2[i], block.y2[i]}, threshold, overlap)) return true;
        return false;
    }

    std::vector<Block> blocks_;  // never shrinks: the next group uses them again
    std::size_t count_ = 0;
};

// Indices of the kept boxes, by group and then by descending score; of equal scores the lower index wins.
//
// A box goes if an already kept one of its group covers more than `threshold` of their union (or of the smaller one).
// `boxes` is (count, 4) as x1 y1 x2 y2; nothing may be NaN.
inline std::vector<std::int64_t> nms(const float* boxes, const float* scores, const std::int32_t* groups,
                                     std::size_t count, double threshold, Overlap overlap) {
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
