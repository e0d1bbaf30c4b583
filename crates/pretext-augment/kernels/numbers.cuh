// From a byte to a number: `(byte / 255 - mean) / deviation` to the last bit, rounded.
#pragma once

#include <math.h>
#include <string.h>

#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

PRETEXT_FN uint32_t float_bits(float value) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(value);
#else
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
#endif
}

PRETEXT_FN float float_of(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float value;
    memcpy(&value, &bits, 4);
    return value;
#endif
}

// The nearest number of 16 bits, halves to even.
PRETEXT_FN uint32_t bf16_bits(float value) {
    const uint32_t bits = float_bits(value);
    if (value != value) return bits >> 16 | 0x40;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

PRETEXT_FN uint32_t f16_bits(float value) {
#ifdef __CUDA_ARCH__
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#else
    const uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return sign | 0x7e00 | (size >> 13 & 0x3ff);
    // From here on all is rounded to infinity.
    if (size >= 0x477ff000) return sign | 0x7c00;
    if (size >= 0x38800000) return sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    // Subnormal: in units of 2^-24, which adding 0.5 leaves in the lowest bits.
    const float magnitude = fabsf(value) + 0.5f;
    return sign | (float_bits(magnitude) - 0x3f000000);
#endif
}

// What each byte of each channel becomes: [3][256], the bits of a number in the lower part of a word.
constexpr uint32_t TABLE = 3 * 256;

template <class Block>
PRETEXT_FN void fill_table(Block &block, const Batch &batch, uint32_t *table) {
    if (batch.scaled) return;
    for (uint32_t i = block.thread; i < TABLE; i += block.threads) {
        const Channel &channel = batch.channel[i / 256];
        const float number = ((float)(i % 256) / 255.0f - channel.mean) / channel.deviation;
        table[i] = batch.number == BF16  ? bf16_bits(number)
                   : batch.number == F16 ? f16_bits(number)
                                         : float_bits(number);
    }
    block.sync();
}

// Numbers of 32 bits, looked up.
struct Floats {
    static constexpr bool HALVES = false;
    const uint32_t *table;

    PRETEXT_FN uint32_t number(uint32_t channel, uint32_t word, uint32_t i) const {
        return table[256 * channel + byte_of(word, i)];
    }
};

// Numbers of 16 bits, looked up.
struct Halves {
    static constexpr bool HALVES = true;
    const uint32_t *table;

    PRETEXT_FN uint32_t number(uint32_t channel, uint32_t word, uint32_t i) const {
        return table[256 * channel + byte_of(word, i)];
    }
    PRETEXT_FN static uint32_t two(uint32_t a, uint32_t b) { return chosen(a, b, 0x5410); }
    PRETEXT_FN static uint16_t one(uint32_t a) { return (uint16_t)a; }
};

// bf16 of one multiply-add: the host has found that this gives the same for every byte. Looking up
// costs more, as a warp's bytes lie in the same banks of the shared memory.
struct Scaled {
    static constexpr bool HALVES = true;
    float scale[3], shift[3];

    PRETEXT_FN uint32_t number(uint32_t channel, uint32_t word, uint32_t i) const {
        // 2^23 and the byte.
        const float byte = float_of(chosen(0x4b000000, word, 0x3104 + i)) - 8388608.0f;
        // To the nearest, halves upwards: there are none.
        return float_bits(fmaf(byte, scale[channel], shift[channel])) + 0x8000;
    }
    PRETEXT_FN static uint32_t two(uint32_t a, uint32_t b) { return chosen(a, b, 0x7632); }
    PRETEXT_FN static uint16_t one(uint32_t a) { return (uint16_t)(a >> 16); }
};

}  // namespace pretext
