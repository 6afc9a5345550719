// Least-squares similarity between five facial points and a template, in closed form. It knows nothing of images.
#pragma once

#include <cmath>
#include <complex>
#include <limits>

#include "warp.h"

namespace faceembed {

constexpr int kPoints = 5;

// The matrix that maps template (output) to source coordinates, for `warp`.
//
// The fit goes source -> template, minimising the squared error in template space over rotation, uniform scale and
// translation without reflection (Umeyama 1991, https://doi.org/10.1109/34.88573, eqs. 40-42), and is then inverted. In
// two dimensions, with points as complex numbers p (source) and q (template) less their means, the solution is the
// complex number  z = sum conj(p) q / sum |p|^2:  template = z source + t.
//
// All six numbers are NaN where no similarity exists: a point is not finite, all points coincide, or the best scale is
// 0.
inline Matrix fit_similarity(const double* points, const double* goal) {
    using Complex = std::complex<double>;
    Complex mean_p = 0.0, mean_q = 0.0;
    double reach = 0.0;  // the largest coordinate: what "coincide" is measured against
    for (int i = 0; i < kPoints; ++i) {
        mean_p += Complex(points[2 * i], points[2 * i + 1]) / double(kPoints);
        mean_q += Complex(goal[2 * i], goal[2 * i + 1]) / double(kPoints);
        reach = std::fmax(reach, std::fmax(std::fabs(points[2 * i]), std::fabs(points[2 * i + 1])));
    }
    double spread_p = 0.0, spread_q = 0.0;
    double dot = 0.0, cross = 0.0;  // sum conj(p) q = dot + i cross
    for (int i = 0; i < kPoints; ++i) {
        const Complex p = Complex(points[2 * i], points[2 * i + 1]) - mean_p;
        const Complex q = Complex(goal[2 * i], goal[2 * i + 1]) - mean_q;
        spread_p += std::norm(p);
        spread_q += std::norm(q);
        dot += p.real() * q.real() + p.imag() * q.imag();
        cross += p.real() * q.imag() - p.imag() * q.real();
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double strength = dot * dot + cross * cross;
    const bool exists = spread_p > 1e-20 * reach * reach && strength > 1e-20 * spread_p * spread_q &&
                        spread_p < std::numeric_limits<double>::max() && strength < std::numeric_limits<double>::max();
    if (!exists) return {nan, nan, nan, nan, nan, nan};  // NaN input fails the comparisons too
    // source = (template - t) / z = u template + v,  u = 1 / z = spread_p conj(dot + i cross) / strength
    const double u_real = spread_p * dot / strength, u_imag = 0.0 - spread_p * cross / strength;
    const double v_real = mean_p.real() - (u_real * mean_q.real() - u_imag * mean_q.imag());
    const double v_imag = mean_p.imag() - (u_imag * mean_q.real() + u_real * mean_q.imag());
    return {u_real, 0.0 - u_imag, v_real, u_imag, u_real, v_imag};
}

}  // namespace faceembed
