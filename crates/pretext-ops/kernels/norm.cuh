// Batch normalisation of [rows, channels] with what follows it: a residual that is added, an
// activation. A convolution's bias is a normalisation by nothing.
//
// Sums over rows are taken in chunks of `step` rows, one thread a chunk and channel, and chunks are
// joined FAN at a time: the sizes alone say in which order numbers are added.
//
// What normalises is a `line`, four rows of `channels` numbers: mean, scale (1 / deviation), factor
// and shift, with y = activation(x factor + shift + residual).
#pragma once

#include "activation.cuh"

namespace pretext {

enum Line : uint32_t { MEAN, SCALE, FACTOR, SHIFT };

PRETEXT_FN uint32_t rows_of_chunk(uint32_t chunk, uint32_t rows, uint32_t step) {
    const uint64_t first = (uint64_t)chunk * step, last = first + step;
    return (uint32_t)((last < rows ? last : rows) - first);
}

// Mean and sum of squares about it, for each chunk and channel: out is [chunks, channels, 2].
template <class T>
PRETEXT_FN void moments(uint32_t i, const T *x, uint32_t rows, uint32_t channels, uint32_t step,
                        double *out) {
    const uint32_t chunk = i / channels, c = i % channels;
    const uint32_t count = rows_of_chunk(chunk, rows, step);
    const T *at = x + (size_t)chunk * step * channels + c;
    // Differences from any one of the numbers: near enough to the mean that little cancels.
    const float from = widen(*at);
    float sum = 0, squares = 0;
    for (uint32_t row = 0; row < count; row++) {
        const float away = widen(at[(size_t)row * channels]) - from;
        sum += away;
        squares += away * away;
    }
    const double mean = (double)sum / count, about = (double)squares - (double)sum * mean;
    out[2 * (size_t)i] = (double)from + mean;
    out[2 * (size_t)i + 1] = about > 0 ? about : 0;
}

// Joins FAN chunks into one (Chan et al., 1979), in order.
PRETEXT_FN void join_moments(uint32_t i, const double *parts, uint32_t rows, uint32_t channels,
                             uint32_t step, double *out) {
    const uint32_t group = i / channels, c = i % channels;
    const uint32_t chunks = (uint32_t)(((uint64_t)rows + step - 1) / step);
    const uint32_t end = least(chunks, (group + 1) * FAN);
    double mean = 0, squares = 0, count = 0;
    for (uint32_t chunk = group * FAN; chunk < end; chunk++) {
        const double *part = parts + 2 * ((size_t)chunk * channels + c);
        const double more = rows_of_chunk(chunk, rows, step), joint = count + more;
        const double away = part[0] - mean;
        mean += away * more / joint;
        squares += part[1] + away * away * count * more / joint;
        count = joint;
    }
    out[2 * (size_t)i] = mean;
    out[2 * (size_t)i + 1] = squares;
}

PRETEXT_FN void write_line(uint32_t c, double mean, double variance, double eps, float weight,
                           float bias, uint32_t channels, float *line) {
    const double scale = 1 / sqrt(variance + eps);
    const float factor = weight * (float)scale;
    line[MEAN * channels + c] = (float)mean;
    line[SCALE * channels + c] = (float)scale;
    line[FACTOR * channels + c] = factor;
    line[SHIFT * channels + c] = bias - (float)mean * factor;
}

// The line of a batch's own moments; `mean` and (unbiased) `variance` are for running statistics.
PRETEXT_FN void own_line(uint32_t c, const double *moments, const float *weight, const float *bias,
                         double eps, uint32_t rows, uint32_t channels, float *line, float *mean,
                         float *variance) {
    const double squares = moments[2 * c + 1];
    write_line(c, moments[2 * c], squares / rows, eps, weight[c], bias[c], channels, line);
    mean[c] = (float)moments[2 * c];
    variance[c] = (float)(squares / rows * (rows / (rows - 1.0)));
}

PRETEXT_FN void given_line(uint32_t c, const float *mean, const float *variance,
                           const float *weight, const float *bias, double eps, uint32_t channels,
                           float *line) {
    write_line(c, mean[c], variance[c], eps, weight[c], bias[c], channels, line);
}

PRETEXT_FN void bias_line(uint32_t c, const float *bias, uint32_t channels, float *line) {
    write_line(c, 0, 1, 0, 1, bias[c], channels, line);
}

// What the activation sees. `residual` may be null.
template <class T>
PRETEXT_FN float normalised(float x, size_t at, uint32_t c, const T *residual, const float *line,
                            uint32_t channels) {
    const float y = x * line[FACTOR * channels + c] + line[SHIFT * channels + c];
    return residual ? y + widen(residual[at]) : y;
}

template <class T>
PRETEXT_FN void normalise(uint32_t i, const T *x, const T *residual, const float *line,
                          uint32_t channels, uint32_t activation, T *y) {
    const float sum = normalised(widen(x[i]), i, i % channels, residual, line, channels);
    narrow(activate(sum, activation), &y[i]);
}

// With g the gradient before the activation: sums of g and of g (x - mean) for each chunk and
// channel; out is [chunks, channels, 2].
template <class T>
PRETEXT_FN void gradient_sums(uint32_t i, const T *x, const T *residual, const T *dy,
                              const float *line, uint32_t rows, uint32_t channels, uint32_t step,
                              uint32_t activation, double *out) {
    const uint32_t chunk = i / channels, c = i % channels;
    const uint32_t count = rows_of_chunk(chunk, rows, step);
    const size_t start = (size_t)chunk * step * channels + c;
    const float mean = line[MEAN * channels + c];
    float sum = 0, dot = 0;
    for (uint32_t row = 0; row < count; row++) {
        const size_t at = start + (size_t)row * channels;
        const float value = widen(x[at]);
        const float y = normalised(value, at, c, residual, line, channels);
        const float g = before(y, widen(dy[at]), activation);
        sum += g;
        dot += g * (value - mean);
    }
    out[2 * (size_t)i] = sum;
    out[2 * (size_t)i + 1] = dot;
}

// From the sums over all rows: `gradient`, the gradients of weight and bias, and `slopes`, three rows
// of numbers with dx = g factor + x slope + offset. `own`: whether the statistics were the batch's.
PRETEXT_FN void slopes(uint32_t c, const double *sums, const float *line, uint32_t rows,
                       uint32_t channels, uint32_t own, float *gradient, float *slopes) {
    const double mean = line[MEAN * channels + c], scale = line[SCALE * channels + c];
    const double factor = line[FACTOR * channels + c];
    const double db = sums[2 * c], dw = sums[2 * c + 1] * scale;
    gradient[c] = (float)dw;
    gradient[channels + c] = (float)db;
    const double slope = own ? -factor * scale * dw / rows : 0;
    const double offset = own ? -factor * db / rows - slope * mean : 0;
    slopes[c] = (float)factor;
    slopes[channels + c] = (float)slope;
    slopes[2 * channels + c] = (float)offset;
}

// dx, and the residual's gradient g in `before_sum`, which may be null.
template <class T>
PRETEXT_FN void norm_gradient(uint32_t i, const T *x, const T *residual, const T *dy,
                              const float *line, const float *slopes, uint32_t channels,
                              uint32_t activation, T *dx, T *before_sum) {
    const uint32_t c = i % channels;
    const float value = widen(x[i]);
    const float y = normalised(value, i, c, residual, line, channels);
    const float g = before(y, widen(dy[i]), activation);
    if (before_sum) narrow(g, &before_sum[i]);
    narrow(g * slopes[c] + value * slopes[channels + c] + slopes[2 * channels + c], &dx[i]);
}

}  // namespace pretext
