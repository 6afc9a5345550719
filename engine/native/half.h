// IEEE half precision as bits, so that nothing needs cuda_fp16.h, which NVRTC does not bring along.
#pragma once

#include "host_device.h"

namespace faceembed {

struct Half {
    unsigned short bits;
};

union FloatBits {
    float value;
    unsigned int bits;
};

// The nearest half, ties to even; beyond 65520 infinity.
FE_HD Half to_half(float value) {
    FloatBits in;
    in.value = value;
    const unsigned int sign = (in.bits >> 16) & 0x8000u, magnitude = in.bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<unsigned short>(sign | 0x7e00u)};  // NaN
    if (magnitude >= 0x477ff000u) return {static_cast<unsigned short>(sign | 0x7c00u)};
    unsigned int kept, rest, halfway;
    if (magnitude >= 0x38800000u) {  // normal: 13 bits fewer, and the exponent counts from another zero
        kept = (magnitude >> 13) - (112u << 10);
        rest = magnitude & 0x1fffu;
        halfway = 0x1000u;
    } else {  // a multiple of 2^-24
        const unsigned int shift = 126u - (magnitude >> 23);
        if (shift > 24u) return {static_cast<unsigned short>(sign)};
        const unsigned int mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        kept = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1u);
        halfway = 1u << (shift - 1u);
    }
    if (rest > halfway || (rest == halfway && (kept & 1u))) ++kept;  // may carry into the exponent, as it should
    return {static_cast<unsigned short>(sign | kept)};
}

FE_HD float to_float(Half half) {
    const unsigned int exponent = (half.bits >> 10) & 0x1fu, mantissa = half.bits & 0x3ffu;
    FloatBits out;
    if (exponent == 0u) {  // zero or a multiple of 2^-24, exactly
        out.value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    } else {
        out.bits = ((exponent == 0x1fu ? 0xffu : exponent + 112u) << 23) | (mantissa << 13);
    }
    out.bits |= (half.bits & 0x8000u) << 16;
    return out.value;
}

FE_HD float to_float(float value) { return value; }

}  // namespace faceembed
