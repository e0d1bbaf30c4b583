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
#define PRETEXT_UNROLL _Pragma("unroll")
#define PRETEXT_UNROLL_BY(N) _Pragma(PRETEXT_TEXT(unroll N))
#define PRETEXT_TEXT(...) #__VA_ARGS__
#else
#define PRETEXT_FN inline
#define PRETEXT_UNROLL
#define PRETEXT_UNROLL_BY(N)
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

// What a thread reads and writes at a time: a number, or PACK of them, which are sixteen bytes at a
// multiple of sixteen.
template <class T>
constexpr uint32_t PACK = 16 / sizeof(T);

struct alignas(16) Words {
    uint32_t word[4];
};

template <class T, uint32_t V>
struct Piece {
    Words words;
};

template <class T>
struct Piece<T, 1> {
    T number;
};

template <class T, uint32_t V>
PRETEXT_FN Piece<T, V> fetch(const T *from) {
    Piece<T, V> piece;
    if constexpr (V == 1) {
        piece.number = *from;
    } else {
#ifdef __CUDA_ARCH__
        const uint4 four = *(const uint4 *)from;
        piece.words = Words{{four.x, four.y, four.z, four.w}};
#else
        memcpy(&piece.words, __builtin_assume_aligned(from, 16), sizeof piece.words);
#endif
    }
    return piece;
}

template <class T, uint32_t V>
PRETEXT_FN void put(const Piece<T, V> &piece, T *to) {
    if constexpr (V == 1) {
        *to = piece.number;
    } else {
#ifdef __CUDA_ARCH__
        const uint32_t *word = piece.words.word;
        *(uint4 *)to = make_uint4(word[0], word[1], word[2], word[3]);
#else
        memcpy(__builtin_assume_aligned(to, 16), &piece.words, sizeof piece.words);
#endif
    }
}

PRETEXT_FN void widen(uint32_t word, float (&to)[4 / sizeof(float)], float) {
    memcpy(to, &word, sizeof word);
}

PRETEXT_FN void widen(uint32_t word, float (&to)[4 / sizeof(Bf16)], Bf16) {
    const uint32_t upper[2] = {word << 16, word & 0xffff0000};
    memcpy(to, upper, sizeof upper);
}

PRETEXT_FN void widen(uint32_t word, float (&to)[4 / sizeof(F16)], F16) {
    to[0] = widen(F16{(uint16_t)word});
    to[1] = widen(F16{(uint16_t)(word >> 16)});
}

template <class T, uint32_t V>
PRETEXT_FN void widen(const Piece<T, V> &piece, float (&to)[V]) {
    if constexpr (V == 1) {
        to[0] = widen(piece.number);
    } else {
        constexpr uint32_t EACH = 4 / sizeof(T);
        PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            float numbers[EACH];
            widen(piece.words.word[i], numbers, T());
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < EACH; j++) to[i * EACH + j] = numbers[j];
        }
    }
}

template <class T, uint32_t V>
PRETEXT_FN Piece<T, V> narrow(const float (&from)[V]) {
    Piece<T, V> piece;
    if constexpr (V == 1) {
        narrow(from[0], &piece.number);
    } else {
        constexpr uint32_t EACH = 4 / sizeof(T);
        PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            if constexpr (EACH == 1) {
                memcpy(&piece.words.word[i], &from[i], sizeof(float));
            } else {
                T lower, upper;
                narrow(from[2 * i], &lower);
                narrow(from[2 * i + 1], &upper);
                piece.words.word[i] = lower.bits | (uint32_t)upper.bits << 16;
            }
        }
    }
    return piece;
}

// V numbers, as they lie in memory, from or to registers.
template <class T, uint32_t V>
PRETEXT_FN void load(const T *from, float (&to)[V]) {
    widen<T, V>(fetch<T, V>(from), to);
}

template <class T, uint32_t V>
PRETEXT_FN void store(const float (&from)[V], T *to) {
    put<T, V>(narrow<T, V>(from), to);
}

// Parts that are joined at a time. The Rust side divides by it too.
constexpr uint32_t FAN = 16;

// Parts that a thread has asked for before it computes with the first of them.
constexpr uint32_t PARTS_AHEAD = FAN;

// Calls f(part, numbers) for parts from `first` to before `last`, in order; the numbers are N of each
// one's `columns`, from `column` on.
template <uint32_t N, class F>
PRETEXT_FN void each_part(const double *parts, uint32_t first, uint32_t last, uint32_t columns,
                          uint32_t column, F f) {
    const double *from = parts + (size_t)first * columns + column;
    uint32_t part = first;
    for (; part + PARTS_AHEAD <= last; part += PARTS_AHEAD) {
        double numbers[PARTS_AHEAD][N];
        PRETEXT_UNROLL
        for (uint32_t k = 0; k < PARTS_AHEAD; k++, from += columns) {
            PRETEXT_UNROLL
            for (uint32_t n = 0; n < N; n++) numbers[k][n] = from[n];
        }
        PRETEXT_UNROLL
        for (uint32_t k = 0; k < PARTS_AHEAD; k++) f(part + k, numbers[k]);
    }
    for (; part < last; part++, from += columns) {
        double numbers[N];
        for (uint32_t n = 0; n < N; n++) numbers[n] = from[n];
        f(part, numbers);
    }
}

// The sums of N columns of parts from `first` to before `last`.
template <uint32_t N>
PRETEXT_FN void sums_of(const double *parts, uint32_t first, uint32_t last, uint32_t columns,
                        uint32_t column, double (&sums)[N]) {
    for (uint32_t n = 0; n < N; n++) sums[n] = 0;
    each_part<N>(parts, first, last, columns, column, [&](uint32_t, const double (&numbers)[N]) {
        PRETEXT_UNROLL
        for (uint32_t n = 0; n < N; n++) sums[n] += numbers[n];
    });
}

// Sums of `count` rows of `columns` numbers, FAN rows at a time: [count, columns] to
// [ceil(count / FAN), columns].
PRETEXT_FN void join_sums(uint32_t i, const double *parts, uint32_t count, uint32_t columns,
                          double *out) {
    const uint32_t group = i / columns;
    double sums[1];
    sums_of(parts, group * FAN, least(count, (group + 1) * FAN), columns, i % columns, sums);
    out[i] = sums[0];
}

}  // namespace pretext
