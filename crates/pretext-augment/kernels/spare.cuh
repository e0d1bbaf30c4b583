// The spare plane: what of the canvas a step reads while it writes there.
#pragma once

#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

// It gets the canvas's luma: PIL's, as `luma` in points.cuh.
template <class Block>
PRETEXT_FN void spare_luma(Block &block, const Canvas &canvas, uint8_t *spare) {
    for (uint32_t i = block.thread; i < canvas.plane_bytes() / 4; i += block.threads) {
        const uint32_t red = ((const uint32_t *)canvas.row(0, 0))[i];
        const uint32_t green = ((const uint32_t *)canvas.row(1, 0))[i];
        const uint32_t blue = ((const uint32_t *)canvas.row(2, 0))[i];
        uint32_t sums[4] = {0x8000, 0x8000, 0x8000, 0x8000};
        add_rows(red, green, 38470u << 16 | 19595u, sums);
        add_rows(blue, 0, 7471u, sums);
        // The third bytes.
        const uint32_t low = chosen(sums[0], sums[1], 0x0062), high = chosen(sums[2], sums[3], 0x0062);
        ((uint32_t *)spare)[i] = chosen(low, high, 0x5410);
    }
}

// It gets a channel.
template <class Block>
PRETEXT_FN void spare_channel(Block &block, const Canvas &canvas, uint32_t channels,
                              uint8_t *spare) {
    const uint32_t channel = channels == 1 ? 0 : channels == 2 ? 1 : 2;
    const uint32_t *from = (const uint32_t *)canvas.row(channel, 0);
    for (uint32_t i = block.thread; i < canvas.plane_bytes() / 4; i += block.threads) {
        ((uint32_t *)spare)[i] = from[i];
    }
}

}  // namespace pretext
