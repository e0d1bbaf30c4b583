// The kernels on the processor, for tests: blocks and threads of a GPU are turns of loops here, the last
// ones first; nothing else differs from what nvcc compiles.

#include <string>

#include "optimisers.cuh"

namespace {

using pretext::Arguments;
using pretext::THREADS;

template <class S>
void over_blocks(uint32_t blocks, const Arguments &a) {
    for (uint32_t block = blocks; block-- > 0;) {
        double room[2 * THREADS];
        for (uint32_t thread = THREADS; thread-- > 0;) S::begin(a, block, thread, room);
        for (uint32_t half = THREADS / 2; half > 0; half /= 2) {
            for (uint32_t thread = half; thread-- > 0;) pretext::fold(room, thread, half);
        }
        S::end(a, block, room);
    }
}

}  // namespace

extern "C" size_t pretext_arguments() { return sizeof(Arguments); }

// Whether there is such a kernel.
extern "C" bool pretext_launch(const char *kernel, uint32_t blocks, const Arguments *a) {
    const std::string name = kernel;
    if (name == "begin") {
        for (uint32_t i = a->count; i-- > 0;) pretext::begin(*a, i);
    } else if (name == "apply") {
        for (uint32_t block = blocks; block-- > 0;) {
            for (uint32_t thread = THREADS; thread-- > 0;) pretext::apply(*a, block, thread);
        }
    } else if (name == "squares") {
        over_blocks<pretext::Squares>(blocks, *a);
    } else if (name == "total") {
        over_blocks<pretext::Total>(blocks, *a);
    } else if (name == "norms") {
        over_blocks<pretext::Norms>(blocks, *a);
    } else if (name == "ratios") {
        over_blocks<pretext::Ratios>(blocks, *a);
    } else {
        return false;
    }
    return true;
}
