// Numbers as they lie in memory, and the numbers that they are computed with.
//
// Everything in the .cuh files is compiled for the device by nvcc and for the processor by any C++
// compiler. A kernel is a function of one thread's place `i`; no thread waits for another, and no
// two write to the same place, so that results do not depend on the order in which they run.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define PRETEXT_FN __host__ __device__ __forceinline__
#else
#define PRETEXT_FN inline
#endif

namespace pretext {

// The upper half of a float.
struct Bf16 {
    uint16_t bits;
};

PRETEXT_FN float widen(float value) { return value; }

PRETEXT_FN float widen(Bf16 value) {
    const uint32_t bits = (uint32_t)value.bits << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

// IEEE 754's binary16.
struct F16 {
    uint16_t bits;
};

PRETEXT_FN float widen(F16 value) {
    float wide;
#ifdef __CUDA_ARCH__
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
#else
    const uint32_t exponent = (value.bits >> 10) & 31, mantissa = value.bits & 1023;
    uint32_t bits = exponent == 31 ? 0x7f800000 | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
    if (exponent == 0) {
        const float small = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &small, sizeof bits);
    }
    bits |= (uint32_t)(value.bits >> 15) << 31;
    memcpy(&wide, &bits, sizeof wide);
#endif
    return wide;
}

PRETEXT_FN void narrow(float wide, float *to) { *to = wide; }

// The nearest such number, the even one of two.
PRETEXT_FN void narrow(float wide, F16 *to) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(wide));
#else
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    uint32_t rounded;
    if (size > 0x7f800000) {
        rounded = 0x7fff;
    } else if (size >= 0x477ff000) {
        rounded = sign | 0x7c00;
    } else if (size >= 0x38800000) {
        const uint32_t moved = size - 0x38000000;
        rounded = sign | (moved + 0xfff + ((moved >> 13) & 1)) >> 13;
    } else {
        // Beside one half, the last bit of a float is worth as much as that of the smallest numbers.
        float beside;
        memcpy(&beside, &size, sizeof beside);
        beside += 0.5f;
        memcpy(&rounded, &beside, sizeof rounded);
        rounded = sign | (rounded - 0x3f000000);
    }
    to->bits = (uint16_t)rounded;
#endif
}

// The nearest such number, the even one of two.
PRETEXT_FN void narrow(float wide, Bf16 *to) {
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    const uint16_t rounded = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    const uint16_t nan = (uint16_t)(bits >> 16) | 0x40;
    to->bits = wide != wide ? nan : rounded;
}

PRETEXT_FN uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Parts that are joined at a time. The Rust side divides by it too.
constexpr uint32_t FAN = 32;

// Sums of `count` rows of `columns` numbers, FAN rows at a time: [count, columns] to
// [ceil(count / FAN), columns].
PRETEXT_FN void join_sums(uint32_t i, const double *parts, uint32_t count, uint32_t columns,
                          double *out) {
    const uint32_t group = i / columns, column = i % columns;
    const uint32_t last = least(count, (group + 1) * FAN);
    double sum = 0;
    for (uint32_t part = group * FAN; part < last; part++) {
        sum += parts[(size_t)part * columns + column];
    }
    out[i] = sum;
}

}  // namespace pretext
