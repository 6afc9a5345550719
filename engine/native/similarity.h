// Least-squares similarity between five facial points and a template, in closed form. It knows nothing of images.
#pragma once

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
FE_HD Matrix fit_similarity(const double* points, const double* goal) {
    double mean_px = 0.0, mean_py = 0.0, mean_qx = 0.0, mean_qy = 0.0;
    double reach = 0.0;  // the largest coordinate: what "coincide" is measured against
    for (int i = 0; i < kPoints; ++i) {
        mean_px += points[2 * i] / kPoints;
        mean_py += points[2 * i + 1] / kPoints;
        mean_qx += goal[2 * i] / kPoints;
        mean_qy += goal[2 * i + 1] / kPoints;
        reach = fmax(reach, fmax(fabs(points[2 * i]), fabs(points[2 * i + 1])));
    }
    double spread_p = 0.0, spread_q = 0.0;
    double dot = 0.0, cross = 0.0;  // sum conj(p) q = dot + i cross
    for (int i = 0; i < kPoints; ++i) {
        const double px = points[2 * i] - mean_px, py = points[2 * i + 1] - mean_py;
        const double qx = goal[2 * i] - mean_qx, qy = goal[2 * i + 1] - mean_qy;
        spread_p += px * px + py * py;
        spread_q += qx * qx + qy * qy;
        dot += px * qx + py * qy;
        cross += px * qy - py * qx;
    }
    const double most = 1.7976931348623157e308, nan = not_a_number();
    const double strength = dot * dot + cross * cross;
    const bool exists = spread_p > 1e-20 * reach * reach && strength > 1e-20 * spread_p * spread_q && spread_p < most &&
                        strength < most;
    if (!exists) return {nan, nan, nan, nan, nan, nan};  // NaN input fails the comparisons too
    // source = (template - t) / z = u template + v,  u = 1 / z = spread_p conj(dot + i cross) / strength
    const double u_real = spread_p * dot / strength, u_imag = 0.0 - spread_p * cross / strength;
    const double v_real = mean_px - (u_real * mean_qx - u_imag * mean_qy);
    const double v_imag = mean_py - (u_imag * mean_qx + u_real * mean_qy);
    return {u_real, 0.0 - u_imag, v_real, u_imag, u_real, v_imag};
}

}  // namespace faceembed
