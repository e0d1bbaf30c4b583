// Layer normalisation of the rows of [rows, channels].
#pragma once

#include "norm.cuh"

namespace pretext {

// y, and of row i the mean and the scale (1 / deviation) in `line`, [rows, 2].
template <class T>
PRETEXT_FN void layer_norm(uint32_t i, const T *x, const float *weight, const float *bias,
                           uint32_t channels, double eps, uint32_t packed, float *line, T *y) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const T *row = x + (size_t)i * channels;
        // Differences from any one of the numbers: near enough to the mean that little cancels.
        const float from = widen(*row);
        float value[V], sums[V] = {}, squares[V] = {};
        for (uint32_t c = 0; c < channels; c += V) {
            load<T, V>(row + c, value);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) sums[j] += value[j] - from;
        }
        double sum = 0, about = 0;
        for (uint32_t j = 0; j < V; j++) sum += sums[j];
        const float mean = (float)(from + sum / channels);
        for (uint32_t c = 0; c < channels; c += V) {
            load<T, V>(row + c, value);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) squares[j] += (value[j] - mean) * (value[j] - mean);
        }
        for (uint32_t j = 0; j < V; j++) about += squares[j];
        const float scale = (float)(1 / sqrt(about / channels + eps));
        line[2 * (size_t)i] = mean;
        line[2 * (size_t)i + 1] = scale;
        for (uint32_t c = 0; c < channels; c += V) {
            load<T, V>(row + c, value);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                value[j] = (value[j] - mean) * scale * weight[c + j] + bias[c + j];
            }
            store<T, V>(value, y + (size_t)i * channels + c);
        }
    });
}

// The gradient of row i.
template <class T>
PRETEXT_FN void layer_norm_gradient(uint32_t i, const T *x, const T *dy, const float *weight,
                                    const float *line, uint32_t channels, uint32_t packed, T *dx) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const size_t start = (size_t)i * channels;
        const float mean = line[2 * (size_t)i], scale = line[2 * (size_t)i + 1];
        float value[V], g[V], sums[V] = {}, dots[V] = {};
        for (uint32_t c = 0; c < channels; c += V) {
            load<T, V>(x + start + c, value);
            load<T, V>(dy + start + c, g);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                g[j] *= weight[c + j];
                sums[j] += g[j];
                dots[j] += g[j] * ((value[j] - mean) * scale);
            }
        }
        double sum = 0, dot = 0;
        for (uint32_t j = 0; j < V; j++) sum += sums[j];
        for (uint32_t j = 0; j < V; j++) dot += dots[j];
        const float offset = (float)(sum / channels), slope = (float)(dot / channels);
        for (uint32_t c = 0; c < channels; c += V) {
            load<T, V>(x + start + c, value);
            load<T, V>(dy + start + c, g);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                const float normed = (value[j] - mean) * scale;
                g[j] = scale * (g[j] * weight[c + j] - offset - normed * slope);
            }
            store<T, V>(g, dx + start + c);
        }
    });
}

// Sums of dy and of dy times what was normalised for each chunk and channel: out is
// [chunks, channels, 2].
template <class T>
PRETEXT_FN void layer_norm_sums(uint32_t i, const T *x, const T *dy, const float *line,
                                uint32_t rows, uint32_t channels, uint32_t step, uint32_t packed,
                                double *out) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const Share<V> share(i, rows, channels, step);
        float sum[V] = {}, dot[V] = {};
        const float *own = line + 2 * (size_t)share.chunk * step;
        const T *const pictures[] = {x, dy};
        each_row<T, V, 2>(share, channels, pictures, [&](size_t, const Piece<T, V> (&pieces)[2]) {
            float value[V], g[V];
            widen<T, V>(pieces[0], value);
            widen<T, V>(pieces[1], g);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                sum[j] += g[j];
                dot[j] += g[j] * ((value[j] - own[0]) * own[1]);
            }
            own += 2;
        });
        double *to = out + 2 * ((size_t)share.chunk * channels + share.c);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) {
            to[2 * j] = sum[j];
            to[2 * j + 1] = dot[j];
        }
    });
}

// The gradients of weight and bias, from `parts` of the sums.
PRETEXT_FN void layer_norm_parameters(uint32_t c, const double *sums, uint32_t parts,
                                      uint32_t channels, float *weight, float *bias) {
    double both[2];
    sums_of(sums, 0, parts, 2 * channels, 2 * c, both);
    weight[c] = (float)both[1];
    bias[c] = (float)both[0];
}

}  // namespace pretext
