// Operations on single pixels: colour, grey, solarise, as `src/ops/colour.rs`, `grey.rs` and
// `solarise.rs` specify them. Compiled without fused multiply-adds.
#pragma once

#include <math.h>

#include "params.cuh"
#include "pixels.cuh"

namespace pretext {

// Four neighbours of a row: a byte of each in a number of its own, by channel.
struct Pixels {
    uint32_t values[3][4];

    PRETEXT_FN static Pixels of(const Canvas &canvas, uint32_t group, uint32_t y) {
        Pixels pixels;
        for (uint32_t c = 0; c < 3; c++) {
            const uint32_t word = ((const uint32_t *)canvas.row(c, y))[group];
            for (uint32_t i = 0; i < 4; i++) pixels.values[c][i] = byte_of(word, i);
        }
        return pixels;
    }

    PRETEXT_FN void store(const Canvas &canvas, uint32_t group, uint32_t y) const {
        for (uint32_t c = 0; c < 3; c++) {
            const uint32_t(&v)[4] = values[c];
            ((uint32_t *)canvas.row(c, y))[group] = word_of(v[0], v[1], v[2], v[3]);
        }
    }
};

// Cut off at 0 and 255 and rounded down. A NaN counts as 0.
PRETEXT_FN uint32_t to_byte(float value) {
    return value > 0.0f ? (value < 255.0f ? (uint32_t)value : 255u) : 0u;
}

PRETEXT_FN uint32_t blend(uint32_t value, float other, float factor) {
    return to_byte(factor * (float)value + (1.0f - factor) * other);
}

// torchvision's luma, rounded down.
PRETEXT_FN float floor_luma(uint32_t red, uint32_t green, uint32_t blue) {
    return floorf(0.2989f * (float)red + 0.587f * (float)green + 0.114f * (float)blue);
}

// PIL's luma, in whole numbers.
PRETEXT_FN uint32_t luma(uint32_t red, uint32_t green, uint32_t blue) {
    return (19595u * red + 38470u * green + 7471u * blue + 0x8000u) >> 16;
}

// Turns a pixel's hue by a share of a turn.
PRETEXT_FN void turn(uint32_t (&pixel)[3], float shift) {
    const float red = (float)pixel[0] / 255.0f;
    const float green = (float)pixel[1] / 255.0f;
    const float blue = (float)pixel[2] / 255.0f;
    const float most = fmaxf(fmaxf(red, green), blue);
    const float range = most - fminf(fminf(red, green), blue);
    if (range == 0.0f) return;
    float sixths;
    if (most == red) {
        sixths = (green - blue) / range;
    } else if (most == green) {
        sixths = 2.0f + (blue - red) / range;
    } else {
        sixths = 4.0f + (red - green) / range;
    }
    const float turned = sixths / 6.0f + shift;
    const float rest = turned - truncf(turned);
    const float hue = (rest < 0.0f ? rest + 1.0f : rest) * 6.0f;
    const float saturation = range / most;
    const float part = hue - floorf(hue);
    const float p = most * (1.0f - saturation);
    const float q = most * (1.0f - saturation * part);
    const float t = most * (1.0f - saturation * (1.0f - part));
    // A NaN counts as 0.
    const uint32_t sixth = hue > 0.0f ? (uint32_t)hue % 6 : 0;
    const float new_red = sixth == 0 || sixth == 5 ? most : sixth == 1 ? q : sixth == 4 ? t : p;
    const float new_green = sixth == 1 || sixth == 2 ? most : sixth == 0 ? t : sixth == 3 ? q : p;
    const float new_blue = sixth == 3 || sixth == 4 ? most : sixth == 2 ? t : sixth == 5 ? q : p;
    pixel[0] = to_byte(new_red * 255.999f);
    pixel[1] = to_byte(new_green * 255.999f);
    pixel[2] = to_byte(new_blue * 255.999f);
}

// Carries one step out on one pixel.
PRETEXT_FN void change(const Step &step, float mean, uint32_t (&pixel)[3]) {
    switch (step.kind) {
    case BRIGHTNESS:
        for (uint32_t c = 0; c < 3; c++) pixel[c] = to_byte((float)pixel[c] * step.value);
        break;
    case CONTRAST:
        for (uint32_t c = 0; c < 3; c++) pixel[c] = blend(pixel[c], mean, step.value);
        break;
    case SATURATION: {
        const float grey = floor_luma(pixel[0], pixel[1], pixel[2]);
        for (uint32_t c = 0; c < 3; c++) pixel[c] = blend(pixel[c], grey, step.value);
        break;
    }
    case HUE:
        turn(pixel, step.value);
        break;
    case GREY:
        pixel[0] = pixel[1] = pixel[2] = luma(pixel[0], pixel[1], pixel[2]);
        break;
    default: // SOLARISE
        for (uint32_t c = 0; c < 3; c++) {
            if (pixel[c] >= step.number) pixel[c] = 255 - pixel[c];
        }
    }
}

PRETEXT_FN bool is_point(uint32_t kind) { return kind >= BRIGHTNESS && kind <= SOLARISE; }

// Steps that follow one another, all on single pixels, and the mean luma that CONTRAST refers to.
struct Points {
    const Step *steps;
    uint32_t count;
    float mean;

    PRETEXT_FN void apply(Pixels &pixels) const {
        for (uint32_t s = 0; s < count; s++) {
PRETEXT_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t pixel[3] = {pixels.values[0][i], pixels.values[1][i], pixels.values[2][i]};
                change(steps[s], mean, pixel);
                for (uint32_t c = 0; c < 3; c++) pixels.values[c][i] = pixel[c];
            }
        }
    }
};

// Carries them out on the canvas.
template <class Block>
PRETEXT_FN void apply_points(Block &block, const Canvas &canvas, const Points &points) {
    for (Walk walk(block, canvas.pitch / 4, canvas.height); walk.inside(); walk.next()) {
        Pixels pixels = Pixels::of(canvas, walk.x, walk.y);
        points.apply(pixels);
        pixels.store(canvas, walk.x, walk.y);
    }
}

// The mean luma of the canvas.
template <class Block>
PRETEXT_FN float mean_luma(Block &block, const Canvas &canvas) {
    uint64_t sum = 0;
    for (Walk walk(block, canvas.pitch / 4, canvas.height); walk.inside(); walk.next()) {
        const Pixels pixels = Pixels::of(canvas, walk.x, walk.y);
        const uint32_t inside = least(4, canvas.width - 4 * walk.x);
        for (uint32_t i = 0; i < 4; i++) {
            const auto &v = pixels.values;
            if (i < inside) sum += (uint32_t)floor_luma(v[0][i], v[1][i], v[2][i]);
        }
    }
    const double area = (double)canvas.width * (double)canvas.height;
    return (float)((double)block.sum(sum) / area);
}

}  // namespace pretext
