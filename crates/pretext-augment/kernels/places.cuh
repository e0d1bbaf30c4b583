// Operations that move or fill pixels: flip, fill, noise, shuffle, swap, tiles.
#pragma once

#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

template <class Block>
PRETEXT_FN void flip(Block &block, const Canvas &canvas) {
    const uint32_t half = canvas.width / 2;
    if (half == 0) return;
    for (Walk walk(block, half, 3 * canvas.height); walk.inside(); walk.next()) {
        uint8_t *row = canvas.planes + walk.y * canvas.pitch;
        const uint8_t left = row[walk.x];
        row[walk.x] = row[canvas.width - 1 - walk.x];
        row[canvas.width - 1 - walk.x] = left;
    }
}

// Fills a rectangle with a colour, or with bytes that begin again when they run out.
template <class Block>
PRETEXT_FN void fill(Block &block, const Step &step, const uint32_t *data, const Canvas &canvas) {
    const uint8_t *noise = (const uint8_t *)(data + step.data);
    const Rect rect = step.rect;
    for (Walk walk(block, rect.width, rect.height); walk.inside(); walk.next()) {
        for (uint32_t c = 0; c < 3; c++) {
            const uint64_t at = 3 * ((uint64_t)walk.y * rect.width + walk.x) + c;
            const uint32_t value = step.kind == FILL ? byte_of(step.number, c)
                                                     : noise[(step.number + at) % step.count];
            canvas.row(c, rect.y + walk.y)[rect.x + walk.x] = (uint8_t)value;
        }
    }
}

// Adds noise to a rectangle until it runs out.
template <class Block>
PRETEXT_FN void add_noise(Block &block, const Step &step, const uint32_t *data,
                          const Canvas &canvas) {
    const int16_t *noise = (const int16_t *)(data + step.data);
    const Rect rect = step.rect;
    for (Walk walk(block, rect.width, rect.height); walk.inside(); walk.next()) {
        for (uint32_t c = 0; c < 3; c++) {
            const uint64_t at = 3 * ((uint64_t)walk.y * rect.width + walk.x) + c;
            if (at >= step.count) break;
            uint8_t *value = canvas.row(c, rect.y + walk.y) + rect.x + walk.x;
            const int32_t sum = (int32_t)*value + noise[at];
            *value = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

// One plane of the canvas on its way from the spare plane, which holds what it was.
struct Move {
    uint8_t *to;
    const uint8_t *from;
    uint32_t pitch;

    PRETEXT_FN Move(const Step &step, const Canvas &canvas, const uint8_t *spare)
        : to(canvas.row(step.channels == 1 ? 0 : step.channels == 2 ? 1 : 2, 0)), from(spare),
          pitch(canvas.pitch) {}

    PRETEXT_FN void copy(uint32_t x, uint32_t y, uint32_t from_x, uint32_t from_y) const {
        to[y * pitch + x] = from[from_y * pitch + from_x];
    }
};

template <class Block>
PRETEXT_FN void shuffle(Block &block, const Step &step, const uint32_t *data, const Move &move) {
    const uint32_t *order = data + step.data;
    const Rect rect = step.rect;
    for (Walk walk(block, rect.width, rect.height); walk.inside(); walk.next()) {
        const uint32_t place = walk.y * rect.width + walk.x;
        if (place >= step.count || order[place] >= rect.width * rect.height) continue;
        move.copy(rect.x + walk.x, rect.y + walk.y, rect.x + order[place] % rect.width,
                  rect.y + order[place] / rect.width);
    }
}

// Whether a pixel lies in a rectangle, and the how manieth of it it is.
PRETEXT_FN bool place_in(const Rect &rect, uint32_t x, uint32_t y, uint32_t &place) {
    if (x < rect.x || y < rect.y || x - rect.x >= rect.width || y - rect.y >= rect.height) {
        return false;
    }
    place = (y - rect.y) * rect.width + (x - rect.x);
    return true;
}

// Exchanges two patches of one size. Where they overlap, what is written last stays: pixel for
// pixel, the first patch's before the second's.
template <class Block>
PRETEXT_FN void swap(Block &block, const Step &step, const Move &move) {
    const Rect a = step.rect, b = step.other;
    for (Walk walk(block, a.width, a.height); walk.inside(); walk.next()) {
        const uint32_t place = walk.y * a.width + walk.x;
        const uint32_t ax = a.x + walk.x, ay = a.y + walk.y;
        const uint32_t bx = b.x + walk.x, by = b.y + walk.y;
        uint32_t other;
        if (!place_in(b, ax, ay, other) || other < place) move.copy(ax, ay, bx, by);
        if (!place_in(a, bx, by, other) || other <= place) move.copy(bx, by, ax, ay);
    }
}

template <class Block>
PRETEXT_FN void tiles(Block &block, const Step &step, const uint32_t *data, const Canvas &canvas,
                      const Move &move) {
    const uint8_t *order = (const uint8_t *)(data + step.data);
    const uint32_t side = step.number;
    const uint32_t width = canvas.width / side, height = canvas.height / side;
    for (Walk walk(block, width * side, height * side); walk.inside(); walk.next()) {
        const uint32_t place = walk.y / height * side + walk.x / width;
        if (place >= step.count || order[place] >= side * side) continue;
        move.copy(walk.x, walk.y, order[place] % side * width + walk.x % width,
                  order[place] / side * height + walk.y % height);
    }
}

}  // namespace pretext
