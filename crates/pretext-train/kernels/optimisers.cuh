// The rules of optimisers, over all parameters at once: what one thread does of it.
//
// This file is compiled for the device by nvcc and for the processor by any C++ compiler. Parameters are
// cut into chunks, a block of THREADS threads each; sums over a block are folded in halves, those over
// chunks are taken in order, so that sizes alone say in which order numbers are added. No two threads
// write to one place. The arithmetic is that of the rules on slices, in src/optimisers/, to the bit but for
// the order of the sums.
#pragma once

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define PRETEXT_FN __host__ __device__ __forceinline__
#else
#define PRETEXT_FN inline
#endif

namespace pretext {

// As in src/optimisers/arguments.rs.
constexpr uint32_t TENSORS = 224, GROUPS = 16, THREADS = 256, CHUNK = 4096;
// Numbers that a thread has in flight.
constexpr uint32_t WIDTH = 4;

enum Rule : uint32_t { SGD, ADAMW, RANGER, LARS, LAMB };

// One parameter. Its state begins at `offset`, its chunks at `chunk`.
struct Slot {
    int64_t offset, count, group, decays, chunk, chunks;
};

// What a step's numbers are for one parameter.
struct Constants {
    float scale, keep, pace, root, start, decay, ratio;
    uint32_t flags;
};

enum Flags : uint32_t { SKIP = 1, ADAPTIVE = 2, PULL = 4 };

// What every kernel gets, by value: a launch's parameters are 4 KB at most.
struct Arguments {
    // Addresses of the launch's parameters, those from `slot` on; 0 where there is no gradient.
    uint64_t weights[TENSORS], gradients[TENSORS];
    double rates[GROUPS];
    double weight_decay, momentum, squared_momentum, eps, pull, trust, most;
    // The most that the gradients' common norm may be; 0 if it may be anything.
    double clip;
    const Slot *slots;
    // The slot of each chunk.
    const uint32_t *owners;
    // Null for rules that do not remember it.
    float *first, *second, *slow;
    Constants *constants;
    // [chunks, 2]
    double *sums;
    // The squares of all gradients.
    double *total;
    // What the loss was multiplied by; null if by nothing.
    const float *loss_scale;
    // Becomes 1 if all gradients are finite, or else 0, and nothing steps. Null if nobody asks.
    float *finite;
    // Steps so far: read at `turn`, written at the other place.
    uint32_t *taken;
    // `count`: how many slots (`begin`) or chunks (`total`) there are in all.
    uint32_t rule, every, slot, chunk, count, turn;
};
static_assert(sizeof(Arguments) <= 4096, "a launch's parameters");

// A chunk's numbers. There are none where there is no gradient.
struct Piece {
    uint32_t count;
    float *weights;
    const float *gradient;
    float *first, *second, *slow;
    const Constants *constants;
};

PRETEXT_FN Piece piece(const Arguments &a, uint32_t chunk) {
    const uint32_t owner = a.owners[chunk];
    const Slot &slot = a.slots[owner];
    const int64_t start = (int64_t)(chunk - slot.chunk) * CHUNK, left = slot.count - start;
    const float *gradient = (const float *)a.gradients[owner - a.slot];
    Piece piece;
    piece.count = gradient ? (uint32_t)(left < CHUNK ? left : CHUNK) : 0;
    piece.weights = (float *)a.weights[owner - a.slot] + start;
    piece.gradient = gradient + start;
    piece.first = a.first + slot.offset + start;
    piece.second = a.second ? a.second + slot.offset + start : nullptr;
    piece.slow = a.slow ? a.slow + slot.offset + start : nullptr;
    piece.constants = &a.constants[owner];
    return piece;
}

// One weight, its gradient and what is remembered.
struct Number {
    float w, g, first, second, slow;
};

PRETEXT_FN Number load(const Piece &piece, uint32_t i) {
    return {piece.weights[i], piece.gradient[i], piece.first[i],
            piece.second ? piece.second[i] : 0, piece.slow ? piece.slow[i] : 0};
}

PRETEXT_FN void store(const Piece &piece, uint32_t i, const Number &number) {
    piece.weights[i] = number.w;
    piece.first[i] = number.first;
    if (piece.second) piece.second[i] = number.second;
    if (piece.slow) piece.slow[i] = number.slow;
}

// Calls f with each number of a thread. All of WIDTH are read before any is written, so that the memory
// has them in flight together.
template <bool WRITES, class F>
PRETEXT_FN void each(const Piece &piece, uint32_t thread, F f) {
    for (uint32_t from = thread; from < piece.count; from += WIDTH * THREADS) {
        Number numbers[WIDTH] = {};
        for (uint32_t k = 0; k < WIDTH; k++) {
            const uint32_t i = from + k * THREADS;
            if (i < piece.count) numbers[k] = load(piece, i);
        }
        for (uint32_t k = 0; k < WIDTH; k++) {
            const uint32_t i = from + k * THREADS;
            if (i < piece.count) {
                f(numbers[k]);
                if (WRITES) store(piece, i, numbers[k]);
            }
        }
    }
}

// What RAdam's uncertain variance leaves of a step; 0 while it is not known at all.
PRETEXT_FN double rectification(double steps, double squared_momentum) {
    const double power = pow(squared_momentum, steps);
    const double limit = 2.0 / (1.0 - squared_momentum) - 1.0;
    const double r = limit - 2.0 * steps * power / (1.0 - power);
    if (!(r > 5.0)) return 0;
    return sqrt(((r - 4.0) * (r - 2.0) * limit) / ((limit - 4.0) * (limit - 2.0) * r));
}

// The constants of slot `i`, and whether there is a step.
PRETEXT_FN void begin(const Arguments &a, uint32_t i) {
    const double total = a.clip > 0 || a.loss_scale ? *a.total : 0;
    const double unscale = a.loss_scale ? 1.0 / *a.loss_scale : 1.0;
    const bool finite = !a.loss_scale || total - total == 0;
    double scale = unscale;
    if (a.clip > 0) {
        scale *= fmin(a.clip / fmax(sqrt(total) * unscale, DBL_MIN), 1.0);
    }
    const uint32_t taken = a.taken[a.turn] + finite;
    if (i == 0) {
        a.taken[1 - a.turn] = taken;
        if (a.finite) *a.finite = finite;
    }
    const Slot &slot = a.slots[i];
    const double rate = a.rates[slot.group], decay = slot.decays ? a.weight_decay : 0, steps = taken;
    Constants c;
    c.flags = finite ? 0u : (uint32_t)SKIP;
    c.scale = (float)scale;
    c.keep = (float)(1.0 - rate * decay);
    c.decay = (float)decay;
    c.ratio = 1;
    c.root = (float)(1.0 / sqrt(1.0 - pow(a.squared_momentum, steps)));
    c.start = (float)(1.0 / (1.0 - pow(a.momentum, steps)));
    double pace = rate;
    if (a.rule == ADAMW || a.rule == RANGER) pace = rate / (1.0 - pow(a.momentum, steps));
    if (a.rule == RANGER) {
        const double rectified = rectification(steps, a.squared_momentum);
        if (rectified > 0) {
            pace *= rectified;
            c.flags |= ADAPTIVE;
        }
        if (taken % a.every == 0) c.flags |= PULL;
    }
    c.pace = (float)pace;
    a.constants[i] = c;
}

PRETEXT_FN void averages(const Arguments &a, const Constants &c, Number &n) {
    const float beta1 = (float)a.momentum, beta2 = (float)a.squared_momentum, g = n.g * c.scale;
    n.first = beta1 * n.first + (1.0f - beta1) * g;
    n.second = beta2 * n.second + (1.0f - beta2) * g * g;
}

// LAMB's step before it is stretched.
PRETEXT_FN float lamb(const Arguments &a, const Constants &c, const Number &n) {
    return n.first * c.start / (sqrtf(n.second) * c.root + (float)a.eps);
}

// LARS's update before it is stretched.
PRETEXT_FN float lars(const Constants &c, const Number &n) { return n.g * c.scale + c.decay * n.w; }

PRETEXT_FN void step(const Arguments &a, const Constants &c, Number &n) {
    switch (a.rule) {
        case SGD:
            n.first = (float)a.momentum * n.first + n.g * c.scale;
            n.w = n.w * c.keep - c.pace * n.first;
            break;
        case ADAMW:
            averages(a, c, n);
            n.w = n.w * c.keep - c.pace * n.first / (sqrtf(n.second) * c.root + (float)a.eps);
            break;
        case RANGER:
            averages(a, c, n);
            if (c.flags & ADAPTIVE) {
                n.w = n.w * c.keep - c.pace * n.first / (sqrtf(n.second) * c.root + (float)a.eps);
            } else {
                n.w = n.w * c.keep - c.pace * n.first;
            }
            if (c.flags & PULL) {
                n.slow += (float)a.pull * (n.w - n.slow);
                n.w = n.slow;
            }
            break;
        case LARS:
            n.first = (float)a.momentum * n.first + lars(c, n) * c.ratio;
            n.w -= c.pace * n.first;
            break;
        case LAMB:
            // `Norms` has moved the averages and let the weight decay.
            n.w -= c.pace * lamb(a, c, n);
            break;
    }
}

// A chunk's step.
PRETEXT_FN void apply(const Arguments &a, uint32_t block, uint32_t thread) {
    const Piece piece = pretext::piece(a, a.chunk + block);
    const Constants c = *piece.constants;
    if (c.flags & SKIP) return;
    each<true>(piece, thread, [&](Number &n) { step(a, c, n); });
}

// Two sums of each thread of a block: [2, THREADS].
PRETEXT_FN void fold(double *room, uint32_t thread, uint32_t half) {
    room[thread] += room[thread + half];
    room[THREADS + thread] += room[THREADS + thread + half];
}

// Sums over a block: `begin` is what each thread adds up, `end` what becomes of the block's sums.

// A chunk's squares.
struct Squares {
    PRETEXT_FN static void begin(const Arguments &a, uint32_t block, uint32_t thread, double *room) {
        double sum = 0;
        each<false>(piece(a, a.chunk + block), thread,
                    [&](const Number &n) { sum += (double)n.g * n.g; });
        room[thread] = sum;
        room[THREADS + thread] = 0;
    }
    PRETEXT_FN static void end(const Arguments &a, uint32_t block, const double *room) {
        a.sums[2 * (size_t)(a.chunk + block)] = room[0];
    }
};

// The squares of all chunks; one block.
struct Total {
    PRETEXT_FN static void begin(const Arguments &a, uint32_t, uint32_t thread, double *room) {
        double sum = 0;
        for (uint32_t chunk = thread; chunk < a.count; chunk += THREADS) sum += a.sums[2 * (size_t)chunk];
        room[thread] = sum;
        room[THREADS + thread] = 0;
    }
    PRETEXT_FN static void end(const Arguments &a, uint32_t, const double *room) { *a.total = room[0]; }
};

// A chunk's squares of weights and of the step that is to have a share of their norm; moves LAMB's
// averages.
struct Norms {
    PRETEXT_FN static void begin(const Arguments &a, uint32_t block, uint32_t thread, double *room) {
        const Piece piece = pretext::piece(a, a.chunk + block);
        const Constants c = *piece.constants;
        double weights = 0, steps = 0;
        const auto add = [&](double w, double step) {
            weights += w * w;
            steps += step * step;
        };
        if (!(c.flags & SKIP) && a.rule == LARS) {
            each<false>(piece, thread, [&](const Number &n) { add(n.w, lars(c, n)); });
        } else if (!(c.flags & SKIP)) {
            each<true>(piece, thread, [&](Number &n) {
                averages(a, c, n);
                n.w *= c.keep;
                add(n.w, lamb(a, c, n));
            });
        }
        room[thread] = weights;
        room[THREADS + thread] = steps;
    }
    PRETEXT_FN static void end(const Arguments &a, uint32_t block, const double *room) {
        a.sums[2 * (size_t)(a.chunk + block)] = room[0];
        a.sums[2 * (size_t)(a.chunk + block) + 1] = room[THREADS];
    }
};

// How far a parameter's step is stretched.
struct Ratios {
    PRETEXT_FN static void begin(const Arguments &a, uint32_t block, uint32_t thread, double *room) {
        const Slot &slot = a.slots[block];
        double weights = 0, steps = 0;
        for (int64_t chunk = thread; chunk < slot.chunks; chunk += THREADS) {
            weights += a.sums[2 * (slot.chunk + chunk)];
            steps += a.sums[2 * (slot.chunk + chunk) + 1];
        }
        room[thread] = weights;
        room[THREADS + thread] = steps;
    }
    PRETEXT_FN static void end(const Arguments &a, uint32_t block, const double *room) {
        const double weights = room[0], steps = room[THREADS];
        const bool sound = weights > 0 && steps > 0;
        const double ratio = sound ? sqrt(weights / steps) : 1.0;
        const Slot &slot = a.slots[block];
        if (a.rule == LAMB) {
            a.constants[block].pace = (float)(a.rates[slot.group] * (sound ? fmin(ratio, a.most) : 1.0));
        } else if (slot.decays) {
            a.constants[block].ratio = (float)(sound ? a.trust * ratio : 1.0);
        }
    }
};

}  // namespace pretext
