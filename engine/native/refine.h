// The refiner's answers for a face, back in its photo. engine/detect/refine.py defines what they mean.
#pragma once

#include "half.h"
#include "oneshot.h"
#include "similarity.h"

namespace faceembed {

constexpr int kRefinements = 11;  // a logit, and where each landmark lies from where the template has it

// Five points as a face has them, float32 with pixel centres at half numbers, onto a template.
FE_HD Matrix fit_face(const float* landmarks, const double* goal) {
    double points[2 * kPoints];
    for (int k = 0; k < 2 * kPoints; ++k) points[k] = landmarks[k] - 0.5;
    return fit_similarity(points, goal);
}

// Move a face's landmarks and lower its score. A face without a similarity keeps its landmarks and gets the score 0.
template <typename Number>
FE_HD void refine_face(const Number* answers, const Matrix& matrix, const double* goal, float* score,
                       float* landmarks) {
    if (check_matrix(matrix) == MatrixCheck::not_finite) {
        *score = 0.0f;
        return;
    }
    for (int k = 0; k < kPoints; ++k) {
        const double x = goal[2 * k] + to_float(answers[2 * k + 1]), y = goal[2 * k + 1] + to_float(answers[2 * k + 2]);
        landmarks[2 * k] = static_cast<float>(matrix.a * x + matrix.b * y + matrix.tx + 0.5);
        landmarks[2 * k + 1] = static_cast<float>(matrix.c * x + matrix.d * y + matrix.ty + 0.5);
    }
    const float refined = sigmoid(to_float(answers[0]));
    if (!(refined >= *score)) *score = refined;  // NaN comes through
}

}  // namespace faceembed
