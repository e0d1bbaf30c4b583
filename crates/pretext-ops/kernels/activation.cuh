// Activations and their slopes.
#pragma once

#include "numbers.cuh"

namespace pretext {

// As the Rust side numbers them.
enum Activation : uint32_t { IDENTITY, RELU, MISH };

// tanh(ln(1 + e^x)); where e^x overflows, the infinity becomes the right 1.
PRETEXT_FN float tanh_softplus(float x) { return tanhf(log1pf(expf(x))); }

PRETEXT_FN float activate(float x, uint32_t activation) {
    if (activation == MISH) return x * tanh_softplus(x);
    // Written so that a NaN comes through.
    if (activation == RELU) return x < 0 ? 0 : x;
    return x;
}

PRETEXT_FN float slope(float x, uint32_t activation) {
    if (activation == MISH) {
        const float tanh = tanh_softplus(x), sigmoid = 1 / (1 + expf(-x));
        return tanh + x * sigmoid * (1 - tanh * tanh);
    }
    if (activation == RELU) return x > 0 ? 1 : 0;
    return 1;
}

// The gradient before an activation. Nothing passes where the slope is 0, whatever comes.
PRETEXT_FN float before(float x, float dy, uint32_t activation) {
    if (activation == IDENTITY) return dy;
    if (activation == RELU) return x > 0 ? dy : 0;
    return slope(x, activation) * dy;
}

template <uint32_t KIND>
struct Known {
    static constexpr uint32_t value = KIND;
};

// Calls f with the activation as a constant, so that inside of loops nobody asks which it is.
template <class F>
PRETEXT_FN void with_activation(uint32_t activation, F f) {
    if (activation == MISH) return f(Known<MISH>());
    if (activation == RELU) return f(Known<RELU>());
    f(Known<IDENTITY>());
}

// Calls f with what a thread takes at a time as a constant.
template <class T, class F>
PRETEXT_FN void with_pack(uint32_t packed, F f) {
    if (packed) return f(Known<PACK<T>>());
    f(Known<1>());
}

// Calls f(first, numbers) for what thread i has of `count` numbers: PACK of them if `packed`, those
// behind the last such piece one by one.
template <class T, class F>
PRETEXT_FN void each_piece(uint32_t i, uint32_t count, uint32_t packed, F f) {
    if (!packed) return f((size_t)i, Known<1>());
    const size_t first = (size_t)i * PACK<T>;
    if (first + PACK<T> <= count) return f(first, Known<PACK<T>>());
    for (size_t at = first; at < count; at++) f(at, Known<1>());
}

template <class T>
PRETEXT_FN void activation(uint32_t i, const T *x, uint32_t count, uint32_t packed,
                           uint32_t activation, T *y) {
    each_piece<T>(i, count, packed, [&](size_t at, auto size) {
        constexpr uint32_t V = decltype(size)::value;
        float value[V];
        load<T, V>(x + at, value);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) value[j] = activate(value[j], activation);
        store<T, V>(value, y + at);
    });
}

template <class T>
PRETEXT_FN void activation_gradient(uint32_t i, const T *x, const T *dy, uint32_t count,
                                    uint32_t packed, uint32_t activation, T *dx) {
    each_piece<T>(i, count, packed, [&](size_t at, auto size) {
        constexpr uint32_t V = decltype(size)::value;
        float value[V], g[V];
        load<T, V>(x + at, value);
        load<T, V>(dy + at, g);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) g[j] = before(value[j], g[j], activation);
        store<T, V>(g, dx + at);
    });
}

// a + b: gradients that meet.
template <class T>
PRETEXT_FN void add(uint32_t i, const T *a, const T *b, uint32_t count, uint32_t packed, T *sum) {
    each_piece<T>(i, count, packed, [&](size_t at, auto size) {
        constexpr uint32_t V = decltype(size)::value;
        float value[V], other[V];
        load<T, V>(a + at, value);
        load<T, V>(b + at, other);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) value[j] += other[j];
        store<T, V>(value, sum + at);
    });
}

}  // namespace pretext
