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

// Which bytes of a word of four columns from `x` on are a rectangle's: all bits of those.
PRETEXT_FN uint32_t inside_of(const Rect &rect, uint32_t x) {
    const uint32_t start = rect.x, end = start + rect.width;
    if (x + 4 <= start || x >= end) return 0;
    uint32_t mask = ~0u;
    if (x < start) mask <<= 8 * (start - x);
    if (x + 4 > end) mask &= ~0u >> (8 * (x + 4 - end));
    return mask;
}

// Those bytes of a row that `mask` says, to the channels that get them. Others may write the rest of the
// word meanwhile.
PRETEXT_FN void put(const Step &step, const Canvas &canvas, uint32_t x, uint32_t y, uint32_t word,
                    uint32_t mask) {
PRETEXT_UNROLL
    for (uint32_t c = 0; c < 3; c++) {
        if ((step.channels >> c & 1) == 0) continue;
        uint8_t *out = canvas.row(c, y) + x;
        if (mask == ~0u) {
            *(uint32_t *)out = word;
            continue;
        }
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            if (byte_of(mask, i) != 0) out[i] = (uint8_t)byte_of(word, i);
        }
    }
}

// Some rows of one blur, and its lines between the passes.
struct Strip {
    const Step &step;
    Blurring blur;
    uint32_t top, rows;
    int16_t *lines;
    // The columns of the canvas that the lines have, in part, and how many they have beside it.
    uint32_t from, columns, before, behind;

    PRETEXT_FN Strip(const Step &step, const uint32_t *data, const Canvas &canvas, uint32_t first,
                     uint32_t most, int16_t *lines)
        : step(step), blur(step, data), top(step.rect.y + first),
          rows(least(most, step.rect.height - first)), lines(lines) {
        const int32_t left = blur.left(), right = left + (int32_t)blur.pitch;
        from = left > 0 ? (uint32_t)left : 0, before = from - (uint32_t)left;
        columns = least((uint32_t)right, canvas.pitch) - from;
        behind = (uint32_t)right > canvas.width ? (uint32_t)right - canvas.width : 0;
    }

    PRETEXT_FN uint32_t numbers() const { return rows * blur.pitch; }

    // The first pass: pieces of four columns and some lines.
    PRETEXT_FN uint32_t pieces_down() const { return columns / 4 * ((rows + LINES - 1) / LINES); }

    PRETEXT_FN void make_down(uint32_t piece, const Canvas &canvas, const uint8_t *spare) const {
        const uint32_t groups = columns / 4, x = piece % groups, y = LINES * (piece / groups);
        uint32_t sums[LINES][4];
        down_four(blur, canvas, spare, from + 4 * x, top + y, sums);
        Eight *line = (Eight *)(lines + y * blur.pitch + before) + x;
PRETEXT_UNROLL
        for (uint32_t i = 0; i < LINES; i++) {
            const uint32_t low = first_pass_of(sums[i][0], sums[i][1]);
            const uint32_t high = first_pass_of(sums[i][2], sums[i][3]);
            if (y + i < rows) *line = Eight{{low, high}};
            line += blur.pitch / 4;
        }
    }

    // What the lines have beside the canvas.
    PRETEXT_FN uint32_t pieces_beside() const { return (before + behind) * rows; }

    PRETEXT_FN void make_beside(uint32_t piece, const Canvas &canvas) const {
        const uint32_t x = piece % (before + behind);
        const int32_t left = blur.left();
        const uint32_t i = x < before ? x : blur.pitch - behind + x - before;
        int16_t *line = lines + piece / (before + behind) * blur.pitch;
        // Those that only weights of 0 reach may be reflected to beside the lines.
        const int32_t from_column = (int32_t)reflected(left + (int32_t)i, canvas.width) - left;
        const int32_t last = (int32_t)(before + columns) - 1;
        line[i] = line[from_column < (int32_t)before ? (int32_t)before
                       : from_column > last          ? last
                                                     : from_column];
    }

    // The second pass: pieces of four columns. Where one of the blurs `behind` this one writes, too,
    // this one does not.
    PRETEXT_FN uint32_t pieces_along() const { return blur.groups * rows; }

    PRETEXT_FN void make_along(uint32_t piece, const Canvas &canvas, uint32_t after) const {
        const uint32_t group = piece % blur.groups, row = piece / blur.groups;
        const uint32_t x = blur.start + 4 * group, y = top + row;
        uint32_t mask = inside_of(blur.rect, x);
        for (uint32_t i = 1; i <= after; i++) {
            const Rect &rect = (&step)[i].rect;
            if (y - rect.y < rect.height) mask &= ~inside_of(rect, x);
        }
        if (mask == 0) return;
        uint32_t sums[4];
        along(blur, (const Eight *)(lines + row * blur.pitch) + group, sums);
        for (uint32_t i = 0; i < 4; i++) sums[i] >>= SECOND;
        put(step, canvas, x, y, word_of(sums[0], sums[1], sums[2], sums[3]), mask);
    }
};

// Some rows of blurs that follow one another, all at once: `make` gets each one's strip, the number of
// a piece of it, and how many blurs come after that one. Threads take piece after piece, of whichever
// blur; the last one's come first, so that whoever relies on their order fails with one thread, too.
template <class Block, class Count, class Make>
PRETEXT_FN void all_pieces(Block &block, const Step *steps, uint32_t count, const uint32_t *data,
                           const Canvas &canvas, uint32_t first, uint32_t most, uint8_t *bytes,
                           const Count &pieces, const Make &make) {
    int16_t *lines = (int16_t *)bytes;
    uint32_t piece = block.thread;
PRETEXT_ROLLED
    for (uint32_t s = count; s-- > 0;) {
        const Strip strip(steps[s], data, canvas, first, most, lines);
        const uint32_t end = pieces(strip);
PRETEXT_ROLLED
        for (; piece < end; piece += block.threads) make(strip, piece, count - 1 - s);
        piece -= end;
        lines += strip.numbers();
    }
}

// Carries out the first of some steps, and as many blurs behind it as have room beside it and blur the
// same spare plane: those write to all channels. Returns how many.
template <class Block>
PRETEXT_FN uint32_t blur(Block &block, const Step *steps, uint32_t count, const uint32_t *data,
                         const Canvas &canvas, const uint8_t *spare, const Scratch &scratch) {
    const uint32_t room = scratch.size / 2;
    const Blurring alone(*steps, data);
    const uint32_t most = least(steps->rect.height, room / alone.pitch);
    uint32_t together = 1, numbers = most * alone.pitch;
    if (steps->channels == 7 && most == steps->rect.height) {
        for (; together < count; together++) {
            const Step &next = steps[together];
            if (next.kind != BLUR || next.channels != 7) break;
            numbers += next.rect.height * Blurring(next, data).pitch;
            if (numbers > room) break;
        }
    }
    // Alone, if it takes several strips.
    const uint32_t rows = together > 1 ? ~0u : most, height = together > 1 ? 1 : steps->rect.height;
    for (uint32_t first = 0; first < height; first += most) {
        all_pieces(
            block, steps, together, data, canvas, first, rows, scratch.bytes,
            [](const Strip &strip) { return strip.pieces_down(); },
            [&](const Strip &strip, uint32_t piece, uint32_t) { strip.make_down(piece, canvas, spare); });
        block.sync();
        all_pieces(
            block, steps, together, data, canvas, first, rows, scratch.bytes,
            [](const Strip &strip) { return strip.pieces_beside(); },
            [&](const Strip &strip, uint32_t piece, uint32_t) { strip.make_beside(piece, canvas); });
        block.sync();
        all_pieces(
            block, steps, together, data, canvas, first, rows, scratch.bytes,
            [](const Strip &strip) { return strip.pieces_along(); },
            [&](const Strip &strip, uint32_t piece, uint32_t after) {
                strip.make_along(piece, canvas, after);
            });
        block.sync();
    }
    return together;
}

}  // namespace pretext
