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

template <class T>
PRETEXT_FN void activation(uint32_t i, const T *x, uint32_t activation, T *y) {
    narrow(activate(widen(x[i]), activation), &y[i]);
}

template <class T>
PRETEXT_FN void activation_gradient(uint32_t i, const T *x, const T *dy, uint32_t activation,
                                    T *dx) {
    narrow(before(widen(x[i]), widen(dy[i]), activation), &dx[i]);
}

}  // namespace pretext
