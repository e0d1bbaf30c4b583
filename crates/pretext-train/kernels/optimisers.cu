// The rules of optimisers on a GPU: which thread does what.

#include "optimisers.cuh"

using pretext::Arguments;
using pretext::THREADS;

// One thread a slot; `count` says how many there are.
extern "C" __global__ void __launch_bounds__(THREADS) begin(const __grid_constant__ Arguments a) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i < a.count) pretext::begin(a, i);
}

extern "C" __global__ void __launch_bounds__(THREADS) apply(const __grid_constant__ Arguments a) {
    pretext::apply(a, blockIdx.x, threadIdx.x);
}

template <class S>
__device__ __forceinline__ void over_block(const Arguments &a) {
    __shared__ double room[2 * THREADS];
    S::begin(a, blockIdx.x, threadIdx.x, room);
    for (uint32_t half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) pretext::fold(room, threadIdx.x, half);
    }
    if (threadIdx.x == 0) S::end(a, blockIdx.x, room);
}

#define SUMS(NAME, STRUCT)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ Arguments a) { \
        over_block<pretext::STRUCT>(a);                                                           \
    }

SUMS(squares, Squares)
SUMS(total, Total)
SUMS(norms, Norms)
SUMS(ratios, Ratios)
