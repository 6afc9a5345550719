// When two boxes are one face. It knows nothing of scores, images or detectors.
#pragma once

#include "host_device.h"

namespace faceembed {

enum class Overlap { over_union, over_smaller };

struct Box {
    float x1, y1, x2, y2;
};

// Areas are real-valued (no +1 for whole pixels) and 0 for a box turned inside out. In float64 the products are exact.
FE_HD double area(double x1, double y1, double x2, double y2) { return fmax(0.0, x2 - x1) * fmax(0.0, y2 - y1); }

FE_HD double area(const Box& box) { return area(box.x1, box.y1, box.x2, box.y2); }

FE_HD double shared_area(const Box& a, const Box& b) {
    return area(fmaxf(a.x1, b.x1), fmaxf(a.y1, b.y1), fminf(a.x2, b.x2), fminf(a.y2, b.y2));
}

// Most pairs do not touch at all, and this is all that they cost.
FE_HD bool touch(const Box& a, const Box& b) { return a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2; }

// Do the two share more than `threshold` of their union, or of the smaller one?
FE_HD bool covers(const Box& a, const Box& b, double threshold, Overlap overlap) {
    const double own = area(a), other = area(b), shared = shared_area(a, b);
    const double whole = overlap == Overlap::over_union ? own + other - shared : fmin(own, other);
    return shared > threshold * whole;
}

// Intersection over union.
FE_HD double overlap_over_union(const Box& a, const Box& b) {
    const double shared = shared_area(a, b);
    return shared / fmax(area(a) + area(b) - shared, 1e-6);
}

}  // namespace faceembed
