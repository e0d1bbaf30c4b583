// The threads that make one view together, and how they share its pixels.
//
// Everything in the .cuh files is compiled for the device by nvcc and for the processor by any C++
// compiler; a `Block` says which thread this is (`thread` of `threads`), waits for the others
// (`sync()`) and adds whole numbers over all of them (`sum()`). `LANES` of them go in step, and wait
// for each other by `sync_lanes()`. `SCRATCH_NEAR` says that scratch memory is as near as the canvas.
#pragma once

#include <stdint.h>

#ifdef __CUDACC__
#define PRETEXT_FN __host__ __device__ __forceinline__
#define PRETEXT_UNROLL _Pragma("unroll")
#define PRETEXT_ROLLED _Pragma("unroll 1")
#else
#define PRETEXT_FN inline
#define PRETEXT_UNROLL
#define PRETEXT_ROLLED
#endif

namespace pretext {

PRETEXT_FN uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
PRETEXT_FN uint32_t rounded_up(uint32_t value, uint32_t to) { return (value + to - 1) / to * to; }

// Walks a grid of columns and rows, of which there must be a column: thread after thread takes the
// next place in a row. Divides once, not for each place.
struct Walk {
    uint32_t x, y;
    uint32_t columns, rows, right, down;

    template <class Block>
    PRETEXT_FN Walk(const Block &block, uint32_t columns, uint32_t rows)
        : x(block.thread % columns), y(block.thread / columns), columns(columns), rows(rows),
          right(block.threads % columns), down(block.threads / columns) {}

    PRETEXT_FN bool inside() const { return y < rows; }

    PRETEXT_FN void next() {
        x += right;
        y += down;
        if (x >= columns) {
            x -= columns;
            y += 1;
        }
    }
};

}  // namespace pretext
