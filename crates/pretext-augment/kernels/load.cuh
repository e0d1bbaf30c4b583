// From the picture to the canvas, as it is; and back.
#pragma once

#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

// Groups of four pixels that a thread asks for before it looks at the first.
constexpr uint32_t AHEAD = 4;

// A channel of four pixels in a word: their second choice of bytes says in which order.
PRETEXT_FN uint32_t plane_of(const Twelve &pixels, uint32_t channel, uint32_t order) {
    constexpr uint32_t FIRST[3] = {0x0630, 0x0741, 0x0052};
    return chosen(chosen(pixels.word(0), pixels.word(1), FIRST[channel]), pixels.word(2), order);
}

// Groups of four pixels in a picture's rectangle and on the canvas, one after the other.
struct Groups {
    uint32_t x, left, columns, right, threads;
    const uint8_t *from;
    int64_t across, back; // to a thread's next group, and what is added to that in a next row
    uint32_t to, to_across, to_back;

    template <class Block>
    PRETEXT_FN Groups(const Block &block, const Source &source, const Step &step,
                      const Canvas &canvas)
        : columns(canvas.width / 4) {
        const Walk walk(block, columns, canvas.height);
        const bool mirrored = step.number != 0;
        const int64_t apart = mirrored ? -12 : 12, stride = source.stride;
        x = walk.x, right = walk.right, threads = block.threads;
        left = columns * canvas.height - least(columns * canvas.height, block.thread);
        from = source.at(step.rect.x + (mirrored ? canvas.width - 4 : 0), step.rect.y);
        from += walk.y * stride + x * apart;
        across = walk.down * stride + right * apart, back = stride - columns * apart;
        to = walk.y * canvas.pitch + 4 * x;
        to_across = walk.down * canvas.pitch + 4 * right, to_back = canvas.pitch - 4 * columns;
    }

    PRETEXT_FN bool inside() const { return left > 0; }

    PRETEXT_FN void next() {
        x += right, from += across, to += to_across;
        left -= least(left, threads);
        if (x >= columns) x -= columns, from += back, to += to_back;
    }
};

// Copies a rectangle's columns as far as they make groups of four.
template <class Block>
PRETEXT_FN void load_groups(Block &block, const Source &source, const Step &step,
                            const Canvas &canvas) {
    const bool mirrored = step.number != 0;
    const uint32_t orders[3] = {mirrored ? 0x0125u : 0x5210u, mirrored ? 0x0126u : 0x6210u,
                                mirrored ? 0x0147u : 0x7410u};
    uint8_t *const planes[3] = {canvas.row(0, 0), canvas.row(1, 0), canvas.row(2, 0)};
    Groups groups(block, source, step, canvas);
PRETEXT_ROLLED
    while (groups.inside()) {
        Twelve pixels[AHEAD];
        uint32_t to[AHEAD];
        bool inside[AHEAD];
        const uint8_t *some = groups.from;
PRETEXT_UNROLL
        for (uint32_t i = 0; i < AHEAD; i++, groups.next()) {
            to[i] = groups.to, inside[i] = groups.inside();
            pixels[i] = Twelve::at(inside[i] ? groups.from : some);
        }
PRETEXT_UNROLL
        for (uint32_t i = 0; i < AHEAD; i++) {
PRETEXT_UNROLL
            for (uint32_t c = 0; c < 3; c++) {
                const uint32_t word = plane_of(pixels[i], c, orders[c]);
                if (inside[i]) *(uint32_t *)(planes[c] + to[i]) = word;
            }
        }
    }
}

// Copies a rectangle, mirrored or not.
template <class Block>
PRETEXT_FN void load(Block &block, const Source &source, const Step &step, const Canvas &canvas) {
    const uint32_t whole = canvas.width / 4 * 4, rest = canvas.width - whole;
    if (whole > 0) load_groups(block, source, step, canvas);
    if (rest == 0) return;
PRETEXT_ROLLED
    for (Walk walk(block, rest, canvas.height); walk.inside(); walk.next()) {
        const uint32_t x = whole + walk.x, from = step.number ? rest - 1 - walk.x : x;
        const uint8_t *pixel = source.at(step.rect.x + from, step.rect.y + walk.y);
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
    return Source{bytes, 3 * canvas.width, canvas.width, canvas.height};
}

}  // namespace pretext
