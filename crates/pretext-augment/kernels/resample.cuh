// From the picture to the canvas, resized and antialiased, as `src/ops/resample.rs` specifies it.
#pragma once

#include "params.cuh"
#include "pixels.cuh"
#include "weights.cuh"
#include "write.cuh"

namespace pretext {

// Lines that a thread makes one after the other in the second pass.
constexpr uint32_t ALONG = 4;

// What a resizing knows before its first row, at the beginning of the scratch memory.
struct Resizing {
    Rect crop, part;
    Windows rows, columns;
    uint32_t *row_firsts, *column_firsts;
    // A word for each pair of weights; those of neighbouring columns lie side by side.
    uint32_t *row_weights, *column_weights;
    // The columns that the second pass reads: their first one, and how many.
    uint32_t left, length;
    // Groups of four columns, and bytes of a line between the passes: 16 for two pixels, and a group
    // of zeros behind them.
    uint32_t groups, line_bytes;
    bool mirrored;

    PRETEXT_FN Resizing(const Step &step, const Scratch &scratch)
        : crop(step.rect), part(step.other), rows(crop.height, step.height),
          columns(crop.width, step.width), row_firsts((uint32_t *)scratch.bytes),
          column_firsts(row_firsts + part.height), row_weights(column_firsts + part.width),
          column_weights(row_weights + rows.pairs * part.height), left(0), length(0), groups(0), line_bytes(0),
          mirrored(step.number != 0) {}

    PRETEXT_FN uint32_t bytes() const {
        return 4 * ((rows.pairs + 1) * part.height + (columns.pairs + 1) * part.width);
    }

    template <class Block>
    PRETEXT_FN void prepare(Block &block) {
        for (uint32_t i = block.thread; i < part.height + part.width; i += block.threads) {
            const bool is_row = i < part.height;
            const uint32_t j = is_row ? i : i - part.height;
            // Not a reference, for which they would have to lie in memory.
            Windows windows = columns;
            if (is_row) windows = rows;
            uint32_t *weights = is_row ? row_weights + rows.pairs * j : column_weights + j;
            const uint32_t at = is_row ? part.y + j : part.x + j, apart = is_row ? 1 : part.width;
            row_firsts[i] = windows.write(at, weights, apart, is_row);
        }
        block.sync();
        left = column_firsts[0];
        length = least(column_firsts[part.width - 1] + 2 * columns.pairs, crop.width) - left;
        groups = (length + 3) / 4;
        line_bytes = 32 * (groups + 1);
    }

    // The first pass: four pixels of a line, in 128ths of a level. Two neighbours' reds, greens and
    // blues stand in a word each. `at` is the first of these pixels in the crop.
    PRETEXT_FN void down(const uint8_t *at, uint32_t stride, uint32_t y, Sixteen *line) const {
        const uint32_t first = row_firsts[y];
        // A weight of 0 may belong to no row.
        const uint32_t inside = least(2 * rows.pairs, crop.height - first);
        const uint32_t *weights = row_weights + rows.pairs * y;
        at += (uint64_t)first * stride;
        uint32_t sums[3][4];
        for (uint32_t i = 0; i < 12; i++) sums[i / 4][i % 4] = 2 * HALF_FIRST;
PRETEXT_ROLLED
        for (uint32_t row = 0; row < inside; row += 2) {
            const Twelve a = Twelve::at(at), b = Twelve::at(at + (row + 1 < inside ? stride : 0));
            const uint32_t both = *weights;
PRETEXT_UNROLL
            for (uint32_t i = 0; i < 3; i++) add_rows(a.word(i), b.word(i), both, sums[i]);
            at += 2 * (uint64_t)stride;
            weights += 1;
        }
PRETEXT_UNROLL
        for (uint32_t two = 0; two < 2; two++) {
            Sixteen out = {};
PRETEXT_UNROLL
            for (uint32_t c = 0; c < 3; c++) {
                const uint32_t i = 6 * two + c, j = i + 3;
                out.words[c] = first_pass_of(sums[i / 4][i % 4], sums[j / 4][j % 4]);
            }
            line[two] = out;
        }
    }

    // The second pass: a column's pixels in some lines. `PAIRS` is how many pairs of weights it has,
    // or 0 if the line says how many.
    template <uint32_t PAIRS>
    PRETEXT_FN void along(const uint8_t *lines, uint32_t x, uint32_t count, const Canvas &to,
                          uint32_t y) const {
        const uint32_t first = column_firsts[x] - left, shift = 16 * first;
        const uint32_t pairs = PAIRS > 0 ? PAIRS : least(columns.pairs, (length - first + 1) / 2);
        const uint32_t *weights = column_weights + x;
        constexpr uint32_t KEPT = PAIRS > 0 ? PAIRS : 1;
        uint32_t kept[KEPT];
        for (uint32_t i = 0; i < KEPT; i++) kept[i] = weights[i * part.width];
        lines += 16 * (first / 2);
        uint8_t *out = to.row(0, y) + (mirrored ? part.width - 1 - x : x);
PRETEXT_ROLLED
        for (uint32_t row = 0; row < count; row++) {
            const Sixteen *line = (const Sixteen *)lines;
            Sixteen before = *line;
            uint32_t low[3] = {HALF_SECOND, HALF_SECOND, HALF_SECOND}, high[3] = {0, 0, 0};
PRETEXT_UNROLL
            for (uint32_t pair = 0; pair < pairs; pair++) {
                line += 1;
                const Sixteen next = *line;
                const uint32_t both = PAIRS > 0 ? kept[pair] : weights[pair * part.width];
PRETEXT_UNROLL
                for (uint32_t c = 0; c < 3; c++) {
                    const uint32_t two = shifted(before.words[c], next.words[c], shift);
                    low[c] = dot_low(two, both, low[c]);
                    high[c] = dot_high(two, both, high[c]);
                }
                before = next;
            }
PRETEXT_UNROLL
            for (uint32_t c = 0; c < 3; c++) {
                out[c * to.plane_bytes()] = (uint8_t)((low[c] + 256 * high[c]) >> SECOND);
            }
            lines += line_bytes;
            out += to.pitch;
        }
    }
};

// Brings a rectangle to a size and takes a part of that, mirrored or not. Some rows at a time: the
// first pass makes them from rows of the picture, the second makes pixels from them. Where the step
// is the view's last, they are written at once, and there is no canvas but for these rows.
template <class Block>
PRETEXT_FN void resample(Block &block, const Source &source, const Step &step, const Canvas &canvas,
                         const Scratch &scratch, const Output &output) {
    Resizing resizing(step, scratch);
    resizing.prepare(block);
    const bool last = step.channels != 0;
    const uint32_t width = resizing.part.width, height = resizing.part.height;
    const Scratch rest = scratch.behind(resizing.bytes());
    const uint32_t line = resizing.line_bytes;
    const uint32_t strip = least(height, rest.size / (line + (last ? 3 * canvas.pitch : 0)));
    uint8_t *planes = last ? rest.bytes + strip * line : canvas.planes;
    const uint8_t *pixels = source.at(resizing.crop.x + resizing.left, resizing.crop.y);
    for (uint32_t top = 0; top < height; top += strip) {
        const uint32_t count = least(strip, height - top);
        for (Walk walk(block, resizing.groups + 1, count); walk.inside(); walk.next()) {
            Sixteen *to = (Sixteen *)(rest.bytes + walk.y * line) + 2 * walk.x;
            if (walk.x < resizing.groups) {
                resizing.down(pixels + 12 * walk.x, source.stride, top + walk.y, to);
            } else {
                to[0] = to[1] = Sixteen{};
            }
        }
        block.sync();
        const Canvas rows(planes, width, last ? count : height);
        for (Walk walk(block, width, (count + ALONG - 1) / ALONG); walk.inside(); walk.next()) {
            const uint32_t y = ALONG * walk.y, to = last ? y : top + y;
            const uint32_t lines = least(ALONG, count - y);
            if (resizing.columns.pairs == 1) {
                resizing.along<1>(rest.bytes + y * line, walk.x, lines, rows, to);
            } else if (resizing.columns.pairs == 2) {
                resizing.along<2>(rest.bytes + y * line, walk.x, lines, rows, to);
            } else {
                resizing.along<0>(rest.bytes + y * line, walk.x, lines, rows, to);
            }
        }
        block.sync();
        if (!last) continue;
        // The lines are no longer needed.
        output.write(block, rows, top, Scratch{rest.bytes, strip * line});
        if (top + count < height) block.sync();
    }
}

}  // namespace pretext
