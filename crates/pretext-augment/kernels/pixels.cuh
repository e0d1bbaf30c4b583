// Pixels in memory: the picture as bytes R, G, B in rows, and the canvas as three planes.
#pragma once

#include <string.h>

#include "block.cuh"

namespace pretext {

// A picture in device memory, or what of one is looked at. At least 16 bytes follow its last pixel.
struct Source {
    const uint8_t *bytes;
    uint32_t stride; // from row to row
    uint32_t width, height;

    PRETEXT_FN const uint8_t *at(uint32_t x, uint32_t y) const { return bytes + (uint64_t)y * stride + 3 * x; }
};

// Three planes of bytes. Rows begin at multiples of four; what lies between them is anything.
struct Canvas {
    uint8_t *planes;
    uint32_t width, height, pitch;

    PRETEXT_FN Canvas(uint8_t *planes, uint32_t width, uint32_t height)
        : planes(planes), width(width), height(height), pitch(rounded_up(width, 4)) {}

    PRETEXT_FN uint32_t plane_bytes() const { return pitch * height; }
    PRETEXT_FN uint8_t *row(uint32_t channel, uint32_t y) const {
        return planes + (channel * height + y) * pitch;
    }
};

// Memory of a block besides the canvas, aligned to 16 bytes.
struct Scratch {
    uint8_t *bytes;
    uint32_t size;

    // The rest of it, behind so many bytes.
    PRETEXT_FN Scratch behind(uint32_t used) const {
        uint32_t start = rounded_up(used, 16);
        return Scratch{bytes + start, size - start};
    }
};

PRETEXT_FN uint32_t byte_of(uint32_t word, uint32_t i) { return word >> (8 * i) & 0xff; }

PRETEXT_FN uint32_t word_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return a | b << 8 | c << 16 | d << 24;
}

// Four bytes chosen of eight, as the instruction PRMT: `a` holds numbers 0 to 3, `b` 4 to 7.
PRETEXT_FN uint32_t chosen(uint32_t a, uint32_t b, uint32_t which) {
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, which);
#else
    const uint64_t both = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) {
        out |= (uint32_t)(both >> (8 * (which >> (4 * i) & 7)) & 0xff) << (8 * i);
    }
    return out;
#endif
}

// The 32 bits that begin at a bit of 64: at that number modulo 32.
PRETEXT_FN uint32_t shifted(uint32_t low, uint32_t high, uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __funnelshift_r(low, high, bits);
#else
    return (uint32_t)(((uint64_t)high << 32 | low) >> (bits & 31));
#endif
}

// Bytes that are read or written at once.
struct alignas(8) Eight {
    uint32_t words[2];
};
struct alignas(16) Sixteen {
    uint32_t words[4];
};

// Four pixels as they lie in a picture, from anywhere: four words around them. Up to four bytes
// that follow are read too.
struct Twelve {
    uint32_t words[4], shift;

    PRETEXT_FN static Twelve at(const uint8_t *from) {
        Twelve twelve;
        twelve.shift = 8 * (uint32_t)(uintptr_t)from;
#ifdef __CUDA_ARCH__
        // Not in shared memory. No read-only loads: a second resizing reads what the same kernel wrote.
        __builtin_assume(__isGlobal(from));
#endif
        const uint32_t *words = (const uint32_t *)((uintptr_t)from & ~(uintptr_t)3);
        for (uint32_t i = 0; i < 4; i++) twelve.words[i] = words[i];
        return twelve;
    }

    PRETEXT_FN uint32_t word(uint32_t i) const { return shifted(words[i], words[i + 1], shift); }
};

// Two weights of 16 bits times two bytes, added: bytes 0 and 1, or 2 and 3.
PRETEXT_FN uint32_t dot_low(uint32_t weights, uint32_t bytes, uint32_t sum) {
#ifdef __CUDA_ARCH__
    return __dp2a_lo(weights, bytes, sum);
#else
    return sum + (weights & 0xffff) * byte_of(bytes, 0) + (weights >> 16) * byte_of(bytes, 1);
#endif
}

PRETEXT_FN uint32_t dot_high(uint32_t weights, uint32_t bytes, uint32_t sum) {
#ifdef __CUDA_ARCH__
    return __dp2a_hi(weights, bytes, sum);
#else
    return sum + (weights & 0xffff) * byte_of(bytes, 2) + (weights >> 16) * byte_of(bytes, 3);
#endif
}

// Adds two rows' four bytes, each row with its weight, to four sums.
PRETEXT_FN void add_rows(uint32_t a, uint32_t b, uint32_t weights, uint32_t (&sums)[4]) {
    const uint32_t low = chosen(a, b, 0x5140), high = chosen(a, b, 0x7362);
    sums[0] = dot_low(weights, low, sums[0]);
    sums[1] = dot_high(weights, low, sums[1]);
    sums[2] = dot_low(weights, high, sums[2]);
    sums[3] = dot_high(weights, high, sums[3]);
}

}  // namespace pretext
