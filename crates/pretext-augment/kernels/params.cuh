// What the host says about a batch. `src/program/` writes the same fields in the same order.
#pragma once

#include <stdint.h>

namespace pretext {

struct Rect {
    uint32_t x, y, width, height;
};

// What one step does; the numbers are those of `src/program/step.rs`.
enum Kind : uint32_t {
    LOAD = 0,
    RESAMPLE = 1,
    INTERLEAVE = 2,
    FLIP = 3,
    MEAN = 4,
    BRIGHTNESS = 5,
    CONTRAST = 6,
    SATURATION = 7,
    HUE = 8,
    GREY = 9,
    SOLARISE = 10,
    LUMA = 11,
    SPARE = 12,
    BLUR = 13,
    FILL = 14,
    FILL_NOISE = 15,
    ADD_NOISE = 16,
    SHUFFLE = 17,
    SWAP = 18,
    TILES = 19,
};

struct Step {
    uint32_t kind;
    float value;            // a factor or a share of a turn
    uint32_t data;          // where in the view's program its data begins, in words
    uint32_t count;         // how many there are of what the data holds
    Rect rect;              // what it works on, inside of the picture or canvas; never empty
    Rect other;             // RESAMPLE: the part that is wanted. SWAP: the second patch
    uint32_t width, height; // RESAMPLE: the size it is brought to
    uint32_t number;        // LOAD, RESAMPLE: 1 to mirror. SOLARISE: threshold. FILL: colour.
                            // FILL_NOISE: first byte. TILES: tiles a side
    uint32_t channels;      // a bit for each channel that is written or copied. RESAMPLE: 1 if it is
                            // the view's last step, and writes the view
};
static_assert(sizeof(Step) == 64, "the host writes 16 words a step");

struct View {
    uint32_t picture_low, picture_high; // where the picture begins, in bytes
    uint32_t width, height;             // of the picture
    uint32_t first, steps;              // where its program begins, in words, and how many steps it has
    uint32_t words;                     // of its program: steps, and the data behind them
};
static_assert(sizeof(View) == 28, "the host writes 7 words a view");

// How a channel is normalised.
struct Channel {
    float mean, deviation;
    float scale, shift; // a byte times this and that added: nearly the same
};

enum Number : uint32_t { F32 = 0, BF16 = 1, F16 = 2 };

// The parameters of a batch begin with this; views and their programs follow.
struct Batch {
    uint32_t views;
    uint32_t programs_at;          // in words
    uint32_t program;              // bytes of memory for a copy of a view's program, or 0
    uint32_t width, height;        // of every view
    uint32_t number;               // what is written
    uint32_t channels_last;        // [H, W, 3] instead of [3, H, W]
    uint32_t canvas, scratch, spill; // bytes of memory for a view
    uint32_t scaled;               // 1 if scale and shift, rounded to bf16, give the right bits
    Channel channel[3];
};
static_assert(sizeof(Batch) == 92, "the host writes 23 words");

}  // namespace pretext
