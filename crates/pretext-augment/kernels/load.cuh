// From the picture to the canvas: copied, or resized and antialiased, as `src/ops/resample.rs`
// specifies it; and back.
#pragma once

#include "params.cuh"
#include "pixels.cuh"
#include "weights.cuh"

namespace pretext {

// Copies a rectangle, mirrored or not.
template <class Block>
PRETEXT_FN void load(Block &block, const Source &source, const Step &step, const Canvas &canvas) {
    for (Walk walk(block, canvas.width, canvas.height); walk.inside(); walk.next()) {
        const uint8_t *pixel = source.at(step.rect.x + walk.x, step.rect.y + walk.y);
        const uint32_t x = step.number ? canvas.width - 1 - walk.x : walk.x;
        for (uint32_t c = 0; c < 3; c++) canvas.row(c, walk.y)[x] = pixel[c];
    }
}

// Writes the canvas as pixels, for a second resizing.
template <class Block>
PRETEXT_FN Source interleave(Block &block, const Canvas &canvas, uint8_t *bytes) {
    for (Walk walk(block, canvas.width, canvas.height); walk.inside(); walk.next()) {
        uint8_t *pixel = bytes + 3 * ((uint64_t)walk.y * canvas.width + walk.x);
        for (uint32_t c = 0; c < 3; c++) pixel[c] = canvas.row(c, walk.y)[walk.x];
    }
    return Source{bytes, 3 * (uint64_t)canvas.width, canvas.width, canvas.height};
}

// Brings a rectangle to a size and takes a part of that, mirrored or not. Some rows at a time: the
// first pass makes them from rows of the picture, the second makes pixels from them.
template <class Block>
PRETEXT_FN void resample(Block &block, const Source &source, const Step &step, const Canvas &canvas,
                         const Scratch &scratch) {
    const Rect crop = step.rect, part = step.other;
    const Windows rows(crop.height, step.height), columns(crop.width, step.width);
    uint32_t *row_firsts = (uint32_t *)scratch.bytes;
    uint32_t *column_firsts = row_firsts + part.height;
    int16_t *row_weights = (int16_t *)(column_firsts + part.width);
    // The weights of neighbouring columns lie side by side.
    int16_t *column_weights = row_weights + 2 * rows.pairs * part.height;
    const uint32_t used = 4 * (part.height + part.width) +
                          4 * (rows.pairs * part.height + columns.pairs * part.width);
    for (uint32_t i = block.thread; i < part.height + part.width; i += block.threads) {
        if (i < part.height) {
            row_firsts[i] = rows.write(part.y + i, row_weights + 2 * rows.pairs * i, 1);
        } else {
            const uint32_t j = i - part.height;
            column_firsts[j] = columns.write(part.x + j, column_weights + j, part.width);
        }
    }
    block.sync();

    // Only the columns that the second pass reads.
    const uint32_t left = column_firsts[0];
    const uint32_t right =
        least(column_firsts[part.width - 1] + 2 * columns.pairs, crop.width);
    const uint32_t pitch = rounded_up(3 * (right - left), 4);
    const Scratch rest = scratch.behind(used);
    int16_t *lines = (int16_t *)rest.bytes;
    const uint32_t strip = least(part.height, rest.size / (2 * pitch));
    for (uint32_t top = 0; top < part.height; top += strip) {
        const uint32_t count = least(strip, part.height - top);
        for (Walk walk(block, pitch / 4, count); walk.inside(); walk.next()) {
            const uint32_t y = top + walk.y, first = row_firsts[y];
            const uint32_t *weights = (const uint32_t *)(row_weights + 2 * rows.pairs * y);
            const uint8_t *at = source.at(crop.x + left, crop.y + first) + 4 * walk.x;
            uint32_t sums[4] = {HALF_FIRST, HALF_FIRST, HALF_FIRST, HALF_FIRST};
            for (uint32_t pair = 0; pair < rows.pairs; pair++) {
                // A weight of 0 may belong to no row.
                if (first + 2 * pair >= crop.height) break;
                const uint32_t a = four_bytes(at);
                const uint32_t b =
                    first + 2 * pair + 1 < crop.height ? four_bytes(at + source.stride) : 0;
                add_rows(a, b, weights[pair], sums);
                at += 2 * source.stride;
            }
            int16_t *line = lines + walk.y * pitch + 4 * walk.x;
            for (uint32_t i = 0; i < 4; i++) line[i] = (int16_t)(sums[i] >> FIRST);
        }
        block.sync();
        for (Walk walk(block, part.width, count); walk.inside(); walk.next()) {
            const uint32_t first = column_firsts[walk.x];
            const uint32_t taps = least(2 * columns.pairs, right - first);
            const int16_t *line = lines + walk.y * pitch + 3 * (first - left);
            const int16_t *weights = column_weights + walk.x;
            int32_t sums[3] = {HALF_SECOND, HALF_SECOND, HALF_SECOND};
            for (uint32_t k = 0; k < taps; k++) {
                const int32_t weight = *weights;
                for (uint32_t c = 0; c < 3; c++) sums[c] += weight * line[c];
                weights += part.width;
                line += 3;
            }
            const uint32_t x = step.number ? part.width - 1 - walk.x : walk.x;
            for (uint32_t c = 0; c < 3; c++) {
                canvas.row(c, top + walk.y)[x] = (uint8_t)(sums[c] >> SECOND);
            }
        }
        block.sync();
    }
}

}  // namespace pretext
