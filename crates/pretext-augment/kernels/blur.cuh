// Gaussian blur of a rectangle, as `src/ops/blur.rs` specifies it: from the spare plane to the canvas.
#pragma once

#include "params.cuh"
#include "pixels.cuh"
#include "weights.cuh"

namespace pretext {

// Lines that a thread makes at a time, of four columns.
constexpr uint32_t LINES = 4;

// A blur's weights as `src/program/compile.rs` writes them, and the lines between its passes: the
// columns that the rectangle's reach, the border's reflection among them.
struct Blurring {
    Rect rect;
    uint32_t count, reach;
    const Eight *pairs;    // for the first pass, doubled: four at a time, 0 behind the last
    const Sixteen *taps;   // for the second, in whole words: 0 before and behind them
    // The first pass reaches a multiple of four columns, and so do the second's weights.
    uint32_t wide, length;
    // Groups of four columns, from `start` on.
    uint32_t start, groups, pitch;

    PRETEXT_FN Blurring(const Step &step, const uint32_t *data)
        : rect(step.rect), count(step.count), reach(count / 2), pairs((const Eight *)(data + step.data)),
          taps((const Sixteen *)(data + step.data + rounded_up(rows_read() / 2, 4))),
          wide(rounded_up(reach, 4)), length(rounded_up(wide + reach + 1, 4)),
          start(rect.x / 4 * 4), groups((rect.x + rect.width - start + 3) / 4),
          pitch(4 * groups + length) {}

    // Rows that the first pass reads for four lines, four at a time.
    PRETEXT_FN uint32_t rows_read() const { return rounded_up(count + 3, 4); }

    // The column of the canvas that a line begins with.
    PRETEXT_FN int32_t left() const { return (int32_t)start - (int32_t)wide; }
};

// Four columns of a plane's rows, one after the other.
struct Inside {
    const uint8_t *row;
    uint32_t pitch;

    PRETEXT_FN uint32_t next() {
        const uint32_t word = *(const uint32_t *)row;
        row += pitch;
        return word;
    }
};

// The same where they may be beyond the border, by no more than there are rows.
struct Folded {
    const uint8_t *column;
    uint32_t pitch;
    int32_t last, row;

    PRETEXT_FN uint32_t next() {
        const int32_t folded = row < 0 ? -row : row, other = 2 * last - folded;
        row += 1;
        return *(const uint32_t *)(column + (uint32_t)(folded < other ? folded : other) * pitch);
    }
};

// The same wherever they are.
struct Reflected {
    const uint8_t *column;
    uint32_t pitch, height;
    int32_t row;

    PRETEXT_FN uint32_t next() {
        const uint32_t y = reflected(row, height);
        row += 1;
        return *(const uint32_t *)(column + y * pitch);
    }
};

// Sums of the first pass for four columns of four lines, each of which begins a row later. The second
// line's pairs of weights are the first one's, moved on by a weight; the others have those of two
// rows before.
template <class Rows>
PRETEXT_FN void down(Rows rows, const Blurring &blur, uint32_t (&sums)[LINES][4]) {
    uint32_t even = 0, odd = 0;
    const Eight *pairs = blur.pairs, *end = pairs + blur.rows_read() / 4;
PRETEXT_ROLLED
    do {
        const Eight both = *pairs;
        uint32_t words[4];
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) words[i] = rows.next();
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t a = words[2 * i], b = words[2 * i + 1];
            add_rows(a, b, even, sums[2]);
            add_rows(a, b, odd, sums[3]);
            odd = shifted(even, both.words[i], 16);
            even = both.words[i];
            add_rows(a, b, even, sums[0]);
            add_rows(a, b, odd, sums[1]);
        }
        pairs += 1;
    } while (pairs != end);
}

// The first pass: four columns of four lines.
PRETEXT_FN void down_four(const Blurring &blur, const Canvas &canvas, const uint8_t *spare, uint32_t x,
                          uint32_t y, uint32_t (&sums)[LINES][4]) {
    const int32_t first = (int32_t)y - (int32_t)blur.reach, last = (int32_t)canvas.height - 1;
    const int32_t end = first + (int32_t)blur.rows_read();
    for (uint32_t i = 0; i < 4 * LINES; i++) sums[i / 4][i % 4] = 2 * HALF_FIRST;
    if (first >= 0 && end - 1 <= last) {
        down(Inside{spare + (uint32_t)first * canvas.pitch + x, canvas.pitch}, blur, sums);
    } else if (-first <= last && end - 1 <= 2 * last) {
        down(Folded{spare + x, canvas.pitch, last, first}, blur, sums);
    } else {
        down(Reflected{spare + x, canvas.pitch, canvas.height, first}, blur, sums);
    }
}

// The second pass: four sums of a line, from a group of four columns on.
PRETEXT_FN void along(const Blurring &blur, const Eight *line, uint32_t (&sums)[4]) {
    for (uint32_t i = 0; i < 4; i++) sums[i] = HALF_SECOND;
    uint32_t v[8];
    for (uint32_t i = 0; i < 4; i++) v[i] = line->words[i / 2] >> (16 * (i % 2)) & 0xffff;
    const Sixteen *at = blur.taps, *end = at + blur.length / 4;
    for (; at != end; at++) {
        line += 1;
        const Sixteen taps = *at;
        const Eight next = *line;
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) v[4 + i] = next.words[i / 2] >> (16 * (i % 2)) & 0xffff;
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 16; i++) sums[i % 4] += taps.words[i / 4] * v[i / 4 + i % 4];
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) v[i] = v[4 + i];
    }
}

// Four bytes of a row to the channels that get them, as far as they are inside of the rectangle.
PRETEXT_FN void put(const Step &step, const Canvas &canvas, uint32_t x, uint32_t y, uint32_t word) {
    const uint32_t start = step.rect.x, end = start + step.rect.width;
    uint32_t mask = ~0u;
    if (x < start) mask <<= 8 * (start - x);
    if (x + 4 > end) mask &= ~0u >> (8 * (x + 4 - end));
PRETEXT_UNROLL
    for (uint32_t c = 0; c < 3; c++) {
        uint32_t *out = (uint32_t *)(canvas.row(c, y) + x);
        if (step.channels >> c & 1) *out = (*out & ~mask) | (word & mask);
    }
}

template <class Block>
PRETEXT_FN void blur(Block &block, const Step &step, const uint32_t *data, const Canvas &canvas,
                     const uint8_t *spare, const Scratch &scratch) {
    const Blurring blur(step, data);
    const Rect &rect = blur.rect;
    const int32_t left = blur.left(), right = left + (int32_t)blur.pitch;
    // What of the lines is on the canvas, and how many of their columns are beside it.
    const uint32_t from = left > 0 ? (uint32_t)left : 0, before = from - (uint32_t)left;
    const uint32_t to = least((uint32_t)right, canvas.pitch);
    const uint32_t behind = (uint32_t)right > canvas.width ? (uint32_t)right - canvas.width : 0;
    int16_t *lines = (int16_t *)scratch.bytes;
    const uint32_t strip = least(rect.height, scratch.size / (2 * blur.pitch));
    for (uint32_t top = 0; top < rect.height; top += strip) {
        const uint32_t rows = least(strip, rect.height - top);
        for (Walk walk(block, (to - from) / 4, (rows + LINES - 1) / LINES); walk.inside();
             walk.next()) {
            const uint32_t x = from + 4 * walk.x, y = LINES * walk.y;
            uint32_t sums[LINES][4];
            down_four(blur, canvas, spare, x, rect.y + top + y, sums);
            Eight *line = (Eight *)(lines + y * blur.pitch + before) + walk.x;
PRETEXT_UNROLL
            for (uint32_t i = 0; i < LINES; i++) {
                const uint32_t low = first_pass_of(sums[i][0], sums[i][1]);
                const uint32_t high = first_pass_of(sums[i][2], sums[i][3]);
                if (y + i < rows) *line = Eight{{low, high}};
                line += blur.pitch / 4;
            }
        }
        block.sync();
        if (before + behind > 0) {
            for (Walk walk(block, before + behind, rows); walk.inside(); walk.next()) {
                const uint32_t i = walk.x < before ? walk.x : blur.pitch - behind + walk.x - before;
                int16_t *line = lines + walk.y * blur.pitch;
                line[i] = line[(int32_t)reflected(left + (int32_t)i, canvas.width) - left];
            }
            block.sync();
        }
        for (Walk walk(block, blur.groups, rows); walk.inside(); walk.next()) {
            const Eight *line = (const Eight *)(lines + walk.y * blur.pitch) + walk.x;
            uint32_t sums[4];
            along(blur, line, sums);
            for (uint32_t i = 0; i < 4; i++) sums[i] >>= SECOND;
            put(step, canvas, blur.start + 4 * walk.x, rect.y + top + walk.y,
                word_of(sums[0], sums[1], sums[2], sums[3]));
        }
        block.sync();
    }
}

}  // namespace pretext
