// A convolution's weights, from how they are kept to how tensor cores take them, and back.
#pragma once

#include "numbers.cuh"

namespace pretext {

// [outputs, channels, area] to [outputs, area, channels], or with `last` not set as they lie. Thread i
// has an output's channel.
template <class T>
PRETEXT_FN void weights(uint32_t i, const float *from, uint32_t channels, uint32_t area,
                        uint32_t last, T *to) {
    const uint32_t output = i / channels, c = i - output * channels;
    const float *own = from + (size_t)i * area;
    T *out = to + (last ? (size_t)output * area * channels + c : (size_t)i * area);
    const uint32_t step = last ? channels : 1;
    for (uint32_t k = 0; k < area; k++) narrow(own[k], &out[(size_t)k * step]);
}

// The way back, of gradients.
template <class T>
PRETEXT_FN void weights_gradient(uint32_t i, const T *from, uint32_t channels, uint32_t area,
                                 uint32_t last, float *to) {
    const uint32_t output = i / channels, c = i - output * channels;
    const T *own = from + (last ? (size_t)output * area * channels + c : (size_t)i * area);
    float *out = to + (size_t)i * area;
    const uint32_t step = last ? channels : 1;
    for (uint32_t k = 0; k < area; k++) out[k] = widen(own[(size_t)k * step]);
}

}  // namespace pretext
