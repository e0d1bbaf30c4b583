// Gaussian blur of a rectangle, as `src/ops/blur.rs` specifies it: from the spare plane to the canvas.
#pragma once

#include "params.cuh"
#include "pixels.cuh"
#include "points.cuh"
#include "weights.cuh"

namespace pretext {

// The spare plane gets the canvas's luma.
template <class Block>
PRETEXT_FN void spare_luma(Block &block, const Canvas &canvas, uint8_t *spare) {
    for (Walk walk(block, canvas.pitch / 4, canvas.height); walk.inside(); walk.next()) {
        const Pixels pixels = Pixels::of(canvas, walk.x, walk.y);
        uint32_t grey[4];
        for (uint32_t i = 0; i < 4; i++) {
            grey[i] = luma(pixels.values[0][i], pixels.values[1][i], pixels.values[2][i]);
        }
        ((uint32_t *)(spare + walk.y * canvas.pitch))[walk.x] =
            word_of(grey[0], grey[1], grey[2], grey[3]);
    }
}

// The spare plane gets a channel.
template <class Block>
PRETEXT_FN void spare_channel(Block &block, const Canvas &canvas, uint32_t channels,
                              uint8_t *spare) {
    const uint32_t channel = channels == 1 ? 0 : channels == 2 ? 1 : 2;
    const uint32_t *from = (const uint32_t *)canvas.row(channel, 0);
    for (uint32_t i = block.thread; i < canvas.plane_bytes() / 4; i += block.threads) {
        ((uint32_t *)spare)[i] = from[i];
    }
}

// Four sums of a row's second pass, from `x` on; `line` holds the columns from `left` on.
PRETEXT_FN void along(const int16_t *line, const int16_t *taps, uint32_t count, uint32_t x,
                      uint32_t left, uint32_t width, int32_t (&sums)[4]) {
    const uint32_t reach = count / 2;
    for (uint32_t i = 0; i < 4; i++) sums[i] = HALF_SECOND;
    if (x >= reach && x + 3 + reach < width) {
        const int16_t *at = line + (x - reach - left);
        int32_t a = at[0], b = at[1], c = at[2];
        for (uint32_t k = 0; k < count; k++) {
            const int32_t d = at[k + 3], tap = taps[k];
            sums[0] += tap * a;
            sums[1] += tap * b;
            sums[2] += tap * c;
            sums[3] += tap * d;
            a = b;
            b = c;
            c = d;
        }
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        if (x + i >= width) break;
        for (uint32_t k = 0; k < count; k++) {
            const uint32_t from = reflected((int32_t)(x + i + k) - (int32_t)reach, width);
            sums[i] += (int32_t)taps[k] * line[from - left];
        }
    }
}

template <class Block>
PRETEXT_FN void blur(Block &block, const Step &step, const uint32_t *data, const Canvas &canvas,
                     const uint8_t *spare, const Scratch &scratch) {
    const Rect rect = step.rect;
    const uint32_t count = step.count, reach = count / 2;
    const uint32_t *pairs = data + step.data;
    const int16_t *taps = (const int16_t *)pairs;
    // Both passes work on groups of four columns.
    const uint32_t start = rect.x / 4 * 4;
    const uint32_t groups = (rect.x + rect.width - start + 3) / 4;
    const uint32_t left = start > reach ? (start - reach) / 4 * 4 : 0;
    const uint32_t right = least(start + 4 * groups + reach, canvas.width);
    const uint32_t pitch = rounded_up(right - left, 4);
    int16_t *lines = (int16_t *)scratch.bytes;
    const uint32_t strip = least(rect.height, scratch.size / (2 * pitch));
    for (uint32_t top = 0; top < rect.height; top += strip) {
        const uint32_t rows = least(strip, rect.height - top);
        for (Walk walk(block, pitch / 4, rows); walk.inside(); walk.next()) {
            const int32_t first = (int32_t)(rect.y + top + walk.y) - (int32_t)reach;
            const uint8_t *column = spare + left + 4 * walk.x;
            uint32_t sums[4] = {HALF_FIRST, HALF_FIRST, HALF_FIRST, HALF_FIRST};
            for (uint32_t k = 0; k < count; k += 2) {
                const uint32_t y0 = reflected(first + (int32_t)k, canvas.height);
                // Behind the last tap stands a weight of 0.
                const uint32_t y1 = reflected(first + (int32_t)k + 1, canvas.height);
                const uint32_t a = *(const uint32_t *)(column + y0 * canvas.pitch);
                const uint32_t b = *(const uint32_t *)(column + y1 * canvas.pitch);
                add_rows(a, b, pairs[k / 2], sums);
            }
            int16_t *line = lines + walk.y * pitch + 4 * walk.x;
            for (uint32_t i = 0; i < 4; i++) line[i] = (int16_t)(sums[i] >> FIRST);
        }
        block.sync();
        for (Walk walk(block, groups, rows); walk.inside(); walk.next()) {
            const uint32_t x = start + 4 * walk.x, y = rect.y + top + walk.y;
            int32_t sums[4];
            along(lines + walk.y * pitch, taps, count, x, left, canvas.width, sums);
            const bool whole = x >= rect.x && x + 4 <= rect.x + rect.width;
            for (uint32_t c = 0; c < 3; c++) {
                if ((step.channels >> c & 1) == 0) continue;
                uint8_t *out = canvas.row(c, y) + x;
                if (whole) {
                    *(uint32_t *)out =
                        word_of((uint32_t)(sums[0] >> SECOND), (uint32_t)(sums[1] >> SECOND),
                                (uint32_t)(sums[2] >> SECOND), (uint32_t)(sums[3] >> SECOND));
                    continue;
                }
                for (uint32_t i = 0; i < 4; i++) {
                    const bool inside = x + i >= rect.x && x + i < rect.x + rect.width;
                    if (inside) out[i] = (uint8_t)(sums[i] >> SECOND);
                }
            }
        }
        block.sync();
    }
}

}  // namespace pretext
