// A convolution's weights, from how they are kept to how tensor cores take them, and back.
#pragma once

#include "numbers.cuh"

namespace pretext {

// Where the number at i of [outputs, area, channels] is in [outputs, channels, area].
PRETEXT_FN size_t kept_at(uint32_t i, uint32_t channels, uint32_t area) {
    const uint32_t pixel = i / channels, c = i - pixel * channels;
    const uint32_t output = pixel / area, k = pixel - output * area;
    return ((size_t)output * channels + c) * area + k;
}

// [outputs, channels, area] to [outputs, area, channels], or with `last` not set as they lie. Thread i
// writes the number there.
template <class T>
PRETEXT_FN void weights(uint32_t i, const float *from, uint32_t channels, uint32_t area,
                        uint32_t last, T *to) {
    narrow(from[last ? kept_at(i, channels, area) : i], &to[i]);
}

// The way back, of gradients. Thread i reads the number there.
template <class T>
PRETEXT_FN void weights_gradient(uint32_t i, const T *from, uint32_t channels, uint32_t area,
                                 uint32_t last, float *to) {
    to[last ? kept_at(i, channels, area) : i] = widen(from[i]);
}

}  // namespace pretext
