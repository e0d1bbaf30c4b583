// The weights of resizing, in whole numbers: as `src/ops/weights.rs` specifies them.
#pragma once

#include <math.h>
#include <string.h>

#include "pixels.cuh"

namespace pretext {

constexpr uint32_t FIRST = 7;
constexpr uint32_t SECOND = 21;
constexpr uint32_t HALF_FIRST = 1u << (FIRST - 1);
constexpr int32_t HALF_SECOND = 1 << (SECOND - 1);

// Rounded to the nearest whole number, halves to even; for numbers of less than 31 bits.
PRETEXT_FN int32_t nearest_whole(double value) {
    const double whole = value + 6755399441055744.0;
#ifdef __CUDA_ARCH__
    return __double2loint(whole);
#else
    int64_t bits;
    memcpy(&bits, &whole, 8);
    return (int32_t)bits;
#endif
}

// How far a line of `from` pixels is stepped through for each of `to`, and how many pairs of weights
// an output pixel has.
struct Windows {
    double from, scale, reach;
    uint32_t pairs;

    PRETEXT_FN Windows(uint32_t from_pixels, uint32_t to) {
        from = (double)from_pixels;
        scale = from / (double)to;
        reach = scale > 1.0 ? scale : 1.0;
        const double reached = ceil(2.0 * reach);
        pairs = ((uint32_t)(reached < from ? reached : from) + 1) / 2;
    }

    // The first input pixel of output pixel `i`. A word for each pair of its weights is written,
    // `apart` words apart: the weights doubled, as the first pass takes them, or their lower and then
    // their upper bytes, as the second does.
    PRETEXT_FN uint32_t write(uint32_t i, uint32_t *words, uint32_t apart, bool doubled) const {
        const double centre = ((double)i + 0.5) * scale, inverse = 1.0 / reach;
        const double start = centre - reach + 0.5, end = centre + reach + 0.5;
        const uint32_t first = start > 0.0 ? (uint32_t)start : 0;
        const uint32_t past = (uint32_t)(end < from ? end : from);
        const double nearest = (double)first + 0.5 - centre;
        double sum = 0.0;
        for (uint32_t k = 0; k < 2 * pairs; k++) sum += weight(k, first, past, nearest, inverse);
        const double unit = 16384.0 / sum;
        int32_t before = 0;
        sum = 0.0;
        for (uint32_t k = 0; k < 2 * pairs; k += 2) {
            sum += weight(k, first, past, nearest, inverse);
            const int32_t one = nearest_whole(sum * unit);
            sum += weight(k + 1, first, past, nearest, inverse);
            const int32_t two = nearest_whole(sum * unit);
            const uint32_t a = (uint32_t)(one - before), b = (uint32_t)(two - one);
            words[k / 2 * apart] = doubled ? 2 * a | b << 17 : chosen(a, b, 0x5140);
            before = two;
        }
        return first;
    }

  private:
    PRETEXT_FN double weight(uint32_t k, uint32_t first, uint32_t past, double nearest,
                             double inverse) const {
        const double weight = 1.0 - fabs((nearest + (double)k) * inverse);
        return weight > 0.0 && first + k < past ? weight : 0.0;
    }
};

// Two sums of a first pass with doubled weights, in 128ths of a level and 16 bits each.
PRETEXT_FN uint32_t first_pass_of(uint32_t a, uint32_t b) { return chosen(a, b, 0x6521); }

// A coordinate beyond the border, reflected as often as it takes: `2 1 | 0 1 2 | 1 0`.
PRETEXT_FN uint32_t reflected(int32_t at, uint32_t extent) {
    const int32_t last = (int32_t)extent - 1;
    if (at < 0) at = -at;
    if (at > 2 * last) at = last > 0 ? at % (2 * last) : 0;
    return (uint32_t)(at < 2 * last - at ? at : 2 * last - at);
}

}  // namespace pretext
