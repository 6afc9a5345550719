// What lets one source compile for the CPU, with nvcc, and with NVRTC, which has no standard library.
#pragma once

#if !defined(__CUDACC_RTC__)
#include <cmath>
#include <cstddef>
#include <cstdint>
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FE_HD __host__ __device__ __forceinline__
#else
#define FE_HD inline
#endif

namespace faceembed {

// a * b + c, in one instruction where that is one. The kernels are compiled without contraction, so that both devices
// compute the same numbers; sums of pixels, which end rounded to 256 levels, are excepted.
FE_HD float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return a * b + c;
#endif
}

FE_HD bool is_finite(float value) { return value - value == 0.0f; }

FE_HD double not_a_number() { return sqrt(-1.0); }

}  // namespace faceembed
