// One view: its steps, first to last, and what a network takes from it.
//
// A block of threads makes a view by itself. Its canvas, three planes of bytes, is the only copy of
// the pixels between the picture and the network's input, and lies in shared memory where it fits.
#pragma once

#include "blur.cuh"
#include "load.cuh"
#include "places.cuh"
#include "points.cuh"
#include "resample.cuh"
#include "spare.cuh"
#include "write.cuh"

namespace pretext {

// Carries out steps that are not on single pixels: the first of some, and perhaps others with it.
// Returns how many.
template <class Block>
PRETEXT_FN uint32_t carry_out(Block &block, const Step *steps, uint32_t count,
                              const uint32_t *data, Source &source, Canvas &canvas,
                              const Scratch &scratch, uint8_t *spill, const Output &output) {
    const Step &step = *steps;
    uint8_t *spare = scratch.bytes;
    switch (step.kind) {
    case LOAD:
        canvas = Canvas(canvas.planes, step.rect.width, step.rect.height);
        load(block, source, step, canvas);
        break;
    case RESAMPLE:
        canvas = Canvas(canvas.planes, step.other.width, step.other.height);
        resample(block, source, step, canvas, scratch, output);
        break;
    case INTERLEAVE:
        source = interleave(block, canvas, spill);
        break;
    case FLIP:
        flip(block, canvas);
        break;
    case LUMA:
        spare_luma(block, canvas, spare);
        break;
    case SPARE:
        spare_channel(block, canvas, step.channels, spare);
        break;
    case BLUR:
        return blur(block, steps, count, data, canvas, spare,
                    scratch.behind(canvas.plane_bytes()));
    case FILL:
    case FILL_NOISE:
        fill(block, step, data, canvas);
        break;
    case ADD_NOISE:
        add_noise(block, step, data, canvas);
        break;
    case SHUFFLE:
        shuffle(block, step, data, Move(step, canvas, spare));
        break;
    case SWAP:
        swap(block, step, Move(step, canvas, spare));
        break;
    default: // TILES
        tiles(block, step, data, canvas, Move(step, canvas, spare));
    }
    return 1;
}

// A view's program, in `copy` if the batch has room for that: each step would wait for its own part
// of it.
template <class Block>
PRETEXT_FN const uint32_t *program_of(Block &block, const Batch &batch, const View &view,
                                      const uint32_t *programs, uint8_t *copy) {
    const uint32_t *program = programs + view.first;
    if (batch.program == 0) return program;
    for (uint32_t i = block.thread; i < view.words / 4; i += block.threads) {
        ((Sixteen *)copy)[i] = ((const Sixteen *)program)[i];
    }
    block.sync();
    return (const uint32_t *)copy;
}

// Makes the view of a number. `copy`, `planes`, `scratch` and `spill` are of the sizes that the batch
// says and of this block alone; `table` is filled.
template <class Block>
PRETEXT_FN void make_view(Block &block, const uint32_t *params, uint32_t index,
                          const uint8_t *pictures, uint8_t *copy, uint8_t *planes,
                          uint8_t *scratch_bytes, uint8_t *spill, const uint32_t *table, void *out) {
    const Batch &batch = *(const Batch *)params;
    const View &view = ((const View *)(params + sizeof(Batch) / 4))[index];
    const uint32_t *data = program_of(block, batch, view, params + batch.programs_at, copy);
    const Step *steps = (const Step *)data;
    const Scratch scratch{scratch_bytes, batch.scratch};
    const uint64_t offset = (uint64_t)view.picture_high << 32 | view.picture_low;
    Source source{pictures + offset, 3 * view.width, view.width, view.height};
    Canvas canvas(planes, 0, 0);
    const Output output(batch, index, table, out);
    bool written = false;
    // Steps on single pixels wait until something needs their result.
    Points waiting{steps, 0, 0.0f};
    for (uint32_t s = 0; s <= view.steps;) {
        const Step &step = steps[s];
        if (s < view.steps && is_point(step.kind)) {
            waiting.count += 1, s += 1;
            continue;
        }
        if (waiting.count > 0) {
            apply_points(block, canvas, waiting);
            block.sync();
        }
        if (s == view.steps) break;
        if (step.kind == MEAN) {
            waiting.mean = mean_luma(block, canvas), s += 1;
        } else {
            written = step.kind == RESAMPLE && step.channels != 0;
            s += carry_out(block, steps + s, view.steps - s, data, source, canvas, scratch, spill,
                           output);
        }
        block.sync();
        waiting.steps = steps + s;
        waiting.count = 0;
    }
    if (written) return;
    output.write(block, canvas, 0, scratch);
    block.sync();
}

}  // namespace pretext
