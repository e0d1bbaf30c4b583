// From the canvas to what a network takes: `(byte / 255 - mean) / deviation` to the last bit.
#pragma once

#include <math.h>
#include <string.h>

#include "params.cuh"
#include "points.cuh"

namespace pretext {

PRETEXT_FN float normalised(const Channel &channel, uint32_t value) {
    const float byte = (float)value;
    if (!channel.exact) return (byte / 255.0f - channel.mean) / channel.deviation;
    constexpr float inverse = 1.0f / 255.0f;
    constexpr float rest = (float)(1.0 / 255.0 - (double)inverse);
    const float unit = fmaf(byte, inverse, byte * rest) - channel.mean;
    return fmaf(unit, channel.inverse, unit * channel.rest);
}

PRETEXT_FN uint32_t float_bits(float value) {
#ifdef __CUDA_ARCH__
    return __float_as_uint(value);
#else
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
#endif
}

// The nearest number of 16 bits, halves to even.
PRETEXT_FN uint16_t bf16_bits(float value) {
    const uint32_t bits = float_bits(value);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

PRETEXT_FN uint16_t f16_bits(float value) {
#ifdef __CUDA_ARCH__
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
#else
    const uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    // From here on all is rounded to infinity.
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (size >= 0x38800000) {
        return (uint16_t)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
    }
    // Subnormal: in units of 2^-24, which adding 0.5 leaves in the lowest bits.
    const float magnitude = fabsf(value) + 0.5f;
    return (uint16_t)(sign | (float_bits(magnitude) - 0x3f000000));
#endif
}

// Places for numbers, and how they are written.
struct Floats {
    typedef float Number;
    PRETEXT_FN static float number(float value) { return value; }
};
struct Bf16s {
    typedef uint16_t Number;
    PRETEXT_FN static uint16_t number(float value) { return bf16_bits(value); }
};
struct F16s {
    typedef uint16_t Number;
    PRETEXT_FN static uint16_t number(float value) { return f16_bits(value); }
};

// Four numbers to where four have room, in one store.
template <class T>
PRETEXT_FN void store_four(T *to, T a, T b, T c, T d) {
    struct alignas(4 * sizeof(T)) Four {
        T values[4];
    };
    *(Four *)to = Four{{a, b, c, d}};
}

// Writes a view, with the last steps on single pixels on the way.
template <class To, class Block>
PRETEXT_FN void write_as(Block &block, const Batch &batch, const Canvas &canvas,
                         const Points &points, typename To::Number *out) {
    typedef typename To::Number T;
    const uint32_t width = canvas.width;
    const uint64_t plane = (uint64_t)width * canvas.height;
    for (Walk walk(block, canvas.pitch / 4, canvas.height); walk.inside(); walk.next()) {
        Pixels pixels = Pixels::of(canvas, walk.x, walk.y);
        points.apply(pixels);
        T n[3][4];
        for (uint32_t c = 0; c < 3; c++) {
            for (uint32_t i = 0; i < 4; i++) {
                n[c][i] = To::number(normalised(batch.channel[c], pixels.values[c][i]));
            }
        }
        const uint64_t at = (uint64_t)walk.y * width + 4 * walk.x;
        if (width % 4 == 0 && batch.channels_last) {
            T *to = out + 3 * at;
            store_four(to, n[0][0], n[1][0], n[2][0], n[0][1]);
            store_four(to + 4, n[1][1], n[2][1], n[0][2], n[1][2]);
            store_four(to + 8, n[2][2], n[0][3], n[1][3], n[2][3]);
        } else if (width % 4 == 0) {
            for (uint32_t c = 0; c < 3; c++) {
                store_four(out + c * plane + at, n[c][0], n[c][1], n[c][2], n[c][3]);
            }
        } else {
            const uint32_t inside = least(4, width - 4 * walk.x);
            for (uint32_t i = 0; i < 4; i++) {
                if (i >= inside) break;
                for (uint32_t c = 0; c < 3; c++) {
                    out[batch.channels_last ? 3 * (at + i) + c : c * plane + at + i] = n[c][i];
                }
            }
        }
    }
}

template <class Block>
PRETEXT_FN void write(Block &block, const Batch &batch, uint32_t index, const Canvas &canvas,
                      const Points &points, void *out) {
    const uint64_t start = 3 * (uint64_t)index * canvas.width * canvas.height;
    switch (batch.number) {
    case BF16:
        write_as<Bf16s>(block, batch, canvas, points, (uint16_t *)out + start);
        break;
    case F16:
        write_as<F16s>(block, batch, canvas, points, (uint16_t *)out + start);
        break;
    default:
        write_as<Floats>(block, batch, canvas, points, (float *)out + start);
    }
}

}  // namespace pretext
