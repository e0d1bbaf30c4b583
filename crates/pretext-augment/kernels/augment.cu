// Batches of views on a GPU: which thread does what, and where its memory lies.

#include "view.cuh"

namespace {

enum Place { SHARED, CANVAS_SHARED, GLOBAL };

template <Place PLACE>
struct Threads {
    static constexpr uint32_t LANES = 32;
    static constexpr bool SCRATCH_NEAR = PLACE == SHARED;
    uint32_t thread, threads;
    unsigned long long *total; // in shared memory

    __device__ Threads(unsigned long long *total)
        : thread(threadIdx.x), threads(blockDim.x), total(total) {}

    __device__ __forceinline__ void sync() { __syncthreads(); }
    __device__ __forceinline__ void sync_lanes() { __syncwarp(); }

    // Whole numbers: the order in which they are added does not show.
    __device__ __forceinline__ uint64_t sum(uint64_t value) {
        if (thread == 0) *total = 0;
        for (int apart = 16; apart > 0; apart /= 2) {
            value += __shfl_down_sync(0xffffffff, value, apart);
        }
        __syncthreads();
        if (thread % 32 == 0) atomicAdd(total, (unsigned long long)value);
        __syncthreads();
        return *total;
    }
};

// Each block makes views until none is left. `memory` has, for each block, what does not lie in
// shared memory behind the copy of its view's program: canvas, scratch, spill.
template <Place PLACE>
__device__ __forceinline__ void run(const uint8_t *pictures, const uint32_t *params,
                                    uint8_t *memory, void *out) {
    extern __shared__ uint4 shared[];
    __shared__ unsigned long long total;
    __shared__ uint32_t table[pretext::TABLE];
    const pretext::Batch &batch = *(const pretext::Batch *)params;
    const uint64_t canvas = PLACE == GLOBAL ? batch.canvas : 0;
    const uint64_t scratch = PLACE == SHARED ? 0 : batch.scratch;
    memory += blockIdx.x * (canvas + scratch + batch.spill);
    uint8_t *copy = (uint8_t *)shared, *own = copy + batch.program;
    uint8_t *planes = PLACE == GLOBAL ? memory : own;
    uint8_t *rest = PLACE == SHARED ? own + batch.canvas : memory + canvas;
    uint8_t *spill = memory + canvas + scratch;
    Threads<PLACE> block(&total);
    pretext::fill_table(block, batch, table);
    for (uint32_t view = blockIdx.x; view < batch.views; view += gridDim.x) {
        pretext::make_view(block, params, view, pictures, copy, planes, rest, spill, table, out);
    }
}

}  // namespace

#define KERNEL(NAME, PLACE)                                                                     \
    extern "C" __global__ void __launch_bounds__(384, 2)                                        \
        NAME(const uint8_t *pictures, const uint32_t *params, uint8_t *memory, void *out) {     \
        run<PLACE>(pictures, params, memory, out);                                              \
    }

KERNEL(augment_shared, SHARED)
KERNEL(augment_canvas_shared, CANVAS_SHARED)
KERNEL(augment_global, GLOBAL)
