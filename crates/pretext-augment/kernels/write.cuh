// From the canvas to what a network takes.
#pragma once

#include "numbers.cuh"
#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

// Numbers to where so many have room, 16 bytes in a store.
template <class To, uint32_t COUNT>
PRETEXT_FN void store(uint8_t *out, uint64_t at, const uint32_t (&numbers)[COUNT]) {
    constexpr uint32_t IN_A_WORD = To::HALVES ? 2 : 1, STORES = COUNT / (4 * IN_A_WORD);
    Sixteen *to = (Sixteen *)(out + at * (4 / IN_A_WORD));
PRETEXT_UNROLL
    for (uint32_t s = 0; s < STORES; s++) {
        Sixteen sixteen;
PRETEXT_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t first = IN_A_WORD * (4 * s + i);
            if constexpr (To::HALVES) {
                sixteen.words[i] = To::two(numbers[first], numbers[first + 1]);
            } else {
                sixteen.words[i] = numbers[first];
            }
        }
        to[s] = sixteen;
    }
}

// Where a view's numbers go: those of a pixel side by side, or planes of so many.
struct Place {
    uint8_t *out;
    uint64_t plane;
    bool channels_last;
};

template <class To>
PRETEXT_FN void store_one(uint8_t *out, uint64_t at, uint32_t number) {
    if constexpr (To::HALVES) {
        ((uint16_t *)out)[at] = To::one(number);
    } else {
        ((uint32_t *)out)[at] = number;
    }
}

// Writes rows of a view, of which the first is row `top`, eight pixels at a time.
template <class To, class Block>
PRETEXT_FN void write_eights(Block &block, const Place &place, const Canvas &rows, uint32_t top,
                             const To &to) {
    // Neither the canvas nor the view has anything between its rows.
    for (uint32_t i = block.thread; i < rows.plane_bytes() / 8; i += block.threads) {
        const uint64_t at = (uint64_t)top * rows.width + 8 * i;
        Eight pixels[3];
        for (uint32_t c = 0; c < 3; c++) pixels[c] = ((const Eight *)rows.row(c, 0))[i];
        if (place.channels_last) {
            uint32_t numbers[24];
PRETEXT_UNROLL
            for (uint32_t i = 0; i < 24; i++) {
                numbers[i] = to.number(i % 3, pixels[i % 3].words[i / 12], i / 3 % 4);
            }
            store<To>(place.out, 3 * at, numbers);
            continue;
        }
PRETEXT_UNROLL
        for (uint32_t c = 0; c < 3; c++) {
            uint32_t numbers[8];
PRETEXT_UNROLL
            for (uint32_t i = 0; i < 8; i++) numbers[i] = to.number(c, pixels[c].words[i / 4], i % 4);
            store<To>(place.out, c * place.plane + at, numbers);
        }
    }
}

template <class To, class Block>
PRETEXT_FN void write_as(Block &block, const Place &place, const Canvas &rows, uint32_t top,
                         const To &to) {
    if (rows.width % 8 == 0) return write_eights(block, place, rows, top, to);
    for (Walk walk(block, rows.width, rows.height); walk.inside(); walk.next()) {
        const uint64_t at = (uint64_t)(top + walk.y) * rows.width + walk.x;
        for (uint32_t c = 0; c < 3; c++) {
            const uint32_t number = to.number(c, rows.row(c, walk.y)[walk.x], 0);
            store_one<To>(place.out, place.channels_last ? 3 * at + c : c * place.plane + at, number);
        }
    }
}

// What writes a view.
struct Output {
    const Batch &batch;
    const uint32_t *table;
    Place place;

    PRETEXT_FN Output(const Batch &batch, uint32_t view, const uint32_t *table, void *out)
        : batch(batch), table(table),
          place{(uint8_t *)out, (uint64_t)batch.width * batch.height, batch.channels_last != 0} {
        place.out += 3 * view * place.plane * (batch.number == F32 ? 4 : 2);
    }

    // Writes rows of it, from `top` on.
    template <class Block>
    PRETEXT_FN void write(Block &block, const Canvas &rows, uint32_t top) const {
        if (batch.number == F32) {
            write_as(block, place, rows, top, Floats{table});
        } else if (batch.scaled) {
            Scaled scaled;
            for (uint32_t c = 0; c < 3; c++) {
                scaled.scale[c] = batch.channel[c].scale, scaled.shift[c] = batch.channel[c].shift;
            }
            write_as(block, place, rows, top, scaled);
        } else {
            write_as(block, place, rows, top, Halves{table});
        }
    }
};

}  // namespace pretext
