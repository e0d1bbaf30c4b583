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

// The numbers of eight pixels, side by side.
template <class To>
PRETEXT_FN void numbers_of(const To &to, const Eight (&pixels)[3], uint32_t (&numbers)[24]) {
PRETEXT_UNROLL
    for (uint32_t i = 0; i < 24; i++) numbers[i] = to.number(i % 3, pixels[i % 3].words[i / 12], i / 3 % 4);
}

// Writes eight pixels at a time of a view whose pixels' numbers lie side by side. Threads that go in
// step bring them into order in `stage`, so that what they store at a time lies side by side, too.
template <class To, class Block>
PRETEXT_FN void write_in_order(Block &block, uint8_t *out, const Canvas &rows, const To &to,
                               uint8_t *stage) {
    constexpr uint32_t PIECES = To::HALVES ? 3 : 6, LANES = Block::LANES;
    const uint32_t lane = block.thread % LANES, eights = rows.plane_bytes() / 8;
    Sixteen *step = (Sixteen *)stage + PIECES * (block.thread - lane);
    for (uint32_t first = block.thread - lane; first < eights; first += block.threads) {
        const uint32_t i = first + lane;
        if (i < eights) {
            Eight pixels[3];
            for (uint32_t c = 0; c < 3; c++) pixels[c] = ((const Eight *)rows.row(c, 0))[i];
            uint32_t numbers[24];
            numbers_of(to, pixels, numbers);
            store<To>((uint8_t *)(step + PIECES * lane), 0, numbers);
        }
        block.sync_lanes();
        const uint32_t pieces = PIECES * least(LANES, eights - first);
PRETEXT_UNROLL
        for (uint32_t p = 0; p < PIECES; p++) {
            const uint32_t piece = LANES * p + lane;
            if (piece < pieces) ((Sixteen *)out + PIECES * first)[piece] = step[piece];
        }
        block.sync_lanes();
    }
}

// Writes rows of a view, of which the first is row `top`, eight pixels at a time.
template <class To, class Block>
PRETEXT_FN void write_eights(Block &block, const Place &place, const Canvas &rows, uint32_t top,
                             const To &to, const Scratch &stage) {
    constexpr uint32_t BYTES = To::HALVES ? 48 : 96;
    if (Block::SCRATCH_NEAR && place.channels_last && stage.size >= BYTES * block.threads) {
        uint8_t *out = place.out + (uint64_t)top * rows.width * (BYTES / 8);
        return write_in_order(block, out, rows, to, stage.bytes);
    }
    // Neither the canvas nor the view has anything between its rows.
    for (uint32_t i = block.thread; i < rows.plane_bytes() / 8; i += block.threads) {
        const uint64_t at = (uint64_t)top * rows.width + 8 * i;
        Eight pixels[3];
        for (uint32_t c = 0; c < 3; c++) pixels[c] = ((const Eight *)rows.row(c, 0))[i];
        if (place.channels_last) {
            uint32_t numbers[24];
            numbers_of(to, pixels, numbers);
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
                         const To &to, const Scratch &stage) {
    if (rows.width % 8 == 0) return write_eights(block, place, rows, top, to, stage);
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

    // Writes rows of it, from `top` on. `stage` is memory that nobody else needs.
    template <class Block>
    PRETEXT_FN void write(Block &block, const Canvas &rows, uint32_t top,
                          const Scratch &stage) const {
        if (batch.number == F32) {
            write_as(block, place, rows, top, Floats{table}, stage);
        } else if (batch.scaled) {
            Scaled scaled;
            for (uint32_t c = 0; c < 3; c++) {
                scaled.scale[c] = batch.channel[c].scale, scaled.shift[c] = batch.channel[c].shift;
            }
            write_as(block, place, rows, top, scaled, stage);
        } else {
            write_as(block, place, rows, top, Halves{table}, stage);
        }
    }
};

}  // namespace pretext
