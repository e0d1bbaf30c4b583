// Batch normalisation of [rows, channels] with what follows it: a residual that is added, an
// activation. A convolution's bias is a normalisation by nothing.
//
// A thread has V channels side by side, V = PACK where the sizes allow it, and `step` rows of them, a
// chunk. Chunks are joined FAN at a time: the sizes alone say in which order numbers are added.
//
// What normalises is a `line`, four rows of `channels` numbers: mean, scale (1 / deviation), factor
// and shift, with y = activation(x factor + shift + residual).
#pragma once

#include "activation.cuh"

namespace pretext {

enum Line : uint32_t { MEAN, SCALE, FACTOR, SHIFT };

// Rows that a thread has asked for before it computes with the first of them; if it reads but one
// picture, twice as many.
constexpr uint32_t AHEAD = 4;

PRETEXT_FN uint32_t chunks_of(uint32_t rows, uint32_t step) {
    return (uint32_t)(((uint64_t)rows + step - 1) / step);
}

PRETEXT_FN uint32_t rows_of_chunk(uint32_t chunk, uint32_t rows, uint32_t step) {
    const uint64_t first = (uint64_t)chunk * step, last = first + step;
    return (uint32_t)((last < rows ? last : rows) - first);
}

// What thread i of a launch has.
template <uint32_t V>
struct Share {
    uint32_t chunk, c, count;
    size_t start;

    PRETEXT_FN Share(uint32_t i, uint32_t rows, uint32_t channels, uint32_t step) {
        const uint32_t groups = channels / V;
        chunk = i / groups;
        c = (i - chunk * groups) * V;
        count = rows_of_chunk(chunk, rows, step);
        start = (size_t)chunk * step * channels + c;
    }
};

// V numbers of a row of a line.
template <uint32_t V>
PRETEXT_FN void of_line(const float *line, uint32_t row, uint32_t channels, uint32_t c,
                        float (&to)[V]) {
    PRETEXT_UNROLL
    for (uint32_t j = 0; j < V; j++) to[j] = line[row * channels + c + j];
}

// Calls f(place of the row's numbers, pieces) for each row of a share, in order; the pieces are of
// each of `pictures`, of which those behind the first GIVEN may be null.
template <class T, uint32_t V, uint32_t GIVEN, uint32_t AHEAD = pretext::AHEAD, uint32_t N, class F>
PRETEXT_FN void each_row(const Share<V> &share, uint32_t channels, const T *const (&pictures)[N],
                         F f) {
    uint32_t row = 0;
    for (; row + AHEAD <= share.count; row += AHEAD) {
        Piece<T, V> pieces[AHEAD][N] = {};
        PRETEXT_UNROLL
        for (uint32_t k = 0; k < AHEAD; k++) {
            const size_t at = share.start + (size_t)(row + k) * channels;
            PRETEXT_UNROLL
            for (uint32_t n = 0; n < N; n++) {
                if (n < GIVEN || pictures[n]) pieces[k][n] = fetch<T, V>(pictures[n] + at);
            }
        }
        PRETEXT_UNROLL
        for (uint32_t k = 0; k < AHEAD; k++) {
            f(share.start + (size_t)(row + k) * channels, pieces[k]);
        }
    }
    for (; row < share.count; row++) {
        const size_t at = share.start + (size_t)row * channels;
        Piece<T, V> pieces[N] = {};
        PRETEXT_UNROLL
        for (uint32_t n = 0; n < N; n++) {
            if (n < GIVEN || pictures[n]) pieces[n] = fetch<T, V>(pictures[n] + at);
        }
        f(at, pieces);
    }
}

template <class T, uint32_t V>
PRETEXT_FN void moments_of(uint32_t i, const T *x, uint32_t rows, uint32_t channels, uint32_t step,
                           double *out) {
    const Share<V> share(i, rows, channels, step);
    // Differences from any one of the numbers: near enough to the mean that little cancels.
    float from[V], sum[V] = {}, squares[V] = {};
    load<T, V>(x + share.start, from);
    const T *const pictures[] = {x};
    each_row<T, V, 1, 2 * AHEAD>(share, channels, pictures, [&](size_t, const Piece<T, V> (&pieces)[1]) {
        float value[V];
        widen<T, V>(pieces[0], value);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) {
            const float away = value[j] - from[j];
            sum[j] += away;
            squares[j] += away * away;
        }
    });
    double *to = out + 2 * ((size_t)share.chunk * channels + share.c);
    PRETEXT_UNROLL
    for (uint32_t j = 0; j < V; j++) {
        const double mean = (double)sum[j] / share.count;
        const double about = (double)squares[j] - (double)sum[j] * mean;
        to[2 * j] = (double)from[j] + mean;
        to[2 * j + 1] = about > 0 ? about : 0;
    }
}

// Mean and sum of squares about it, for each chunk and channel: out is [chunks, channels, 2].
template <class T>
PRETEXT_FN void moments(uint32_t i, const T *x, uint32_t rows, uint32_t channels, uint32_t step,
                        uint32_t packed, double *out) {
    if (packed) return moments_of<T, PACK<T>>(i, x, rows, channels, step, out);
    moments_of<T, 1>(i, x, rows, channels, step, out);
}

// The moments of chunks from `first` to before `last`, in order, by their distances from the first.
PRETEXT_FN void joint_moments(const double *parts, uint32_t first, uint32_t last, uint32_t rows,
                              uint32_t channels, uint32_t step, uint32_t c, double *mean,
                              double *squares) {
    const double from = parts[2 * ((size_t)first * channels + c)];
    // Only the last chunk of all may have fewer rows.
    const uint32_t end = chunks_of(rows, step) - 1;
    const double whole = rows_of_chunk(0, rows, step), rest_of = rows_of_chunk(end, rows, step);
    double sum = 0, about = 0, count = 0;
    each_part<2>(parts, first, last, 2 * channels, 2 * c,
                 [&](uint32_t chunk, const double (&moments)[2]) {
                     const double of = chunk < end ? whole : rest_of, away = moments[0] - from;
                     sum += of * away;
                     about += moments[1] + of * away * away;
                     count += of;
                 });
    const double away = sum / count, rest = about - sum * away;
    *mean = from + away;
    *squares = rest > 0 ? rest : 0;
}

// Joins FAN chunks into one.
PRETEXT_FN void join_moments(uint32_t i, const double *parts, uint32_t rows, uint32_t channels,
                             uint32_t step, double *out) {
    const uint32_t group = i / channels, last = least(chunks_of(rows, step), (group + 1) * FAN);
    joint_moments(parts, group * FAN, last, rows, channels, step, i % channels, &out[2 * (size_t)i],
                  &out[2 * (size_t)i + 1]);
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

// The line of a batch's own moments, of chunks of `step` rows. Mean and (unbiased) variance move
// running statistics by `momentum` of the way; with 1 they are written.
PRETEXT_FN void own_line(uint32_t c, const double *parts, const float *weight, const float *bias,
                         double eps, uint32_t rows, uint32_t channels, uint32_t step,
                         double momentum, float *line, float *mean, float *variance) {
    double own, squares;
    joint_moments(parts, 0, chunks_of(rows, step), rows, channels, step, c, &own, &squares);
    write_line(c, own, squares / rows, eps, weight[c], bias[c], channels, line);
    const float batch[2] = {(float)own, (float)(squares / rows * (rows / (rows - 1.0)))};
    const float keep = (float)(1 - momentum), take = (float)momentum;
    mean[c] = momentum == 1 ? batch[0] : mean[c] * keep + batch[0] * take;
    variance[c] = momentum == 1 ? batch[1] : variance[c] * keep + batch[1] * take;
}

PRETEXT_FN void given_line(uint32_t c, const float *mean, const float *variance,
                           const float *weight, const float *bias, double eps, uint32_t channels,
                           float *line) {
    write_line(c, mean[c], variance[c], eps, weight[c], bias[c], channels, line);
}

PRETEXT_FN void bias_line(uint32_t c, const float *bias, uint32_t channels, float *line) {
    write_line(c, 0, 1, 0, 1, bias[c], channels, line);
}

template <class T, uint32_t V, uint32_t ACTIVATION>
PRETEXT_FN void normalise_of(uint32_t i, const T *x, const T *residual, const float *line,
                             uint32_t rows, uint32_t channels, uint32_t step, T *y) {
    const Share<V> share(i, rows, channels, step);
    float factor[V], shift[V];
    of_line<V>(line, FACTOR, channels, share.c, factor);
    of_line<V>(line, SHIFT, channels, share.c, shift);
    const T *const pictures[] = {x, residual};
    each_row<T, V, 1>(share, channels, pictures, [&](size_t at, const Piece<T, V> (&pieces)[2]) {
        float value[V], added[V] = {};
        widen<T, V>(pieces[0], value);
        if (residual) widen<T, V>(pieces[1], added);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) {
            const float sum = value[j] * factor[j] + shift[j];
            value[j] = activate(residual ? sum + added[j] : sum, ACTIVATION);
        }
        store<T, V>(value, y + at);
    });
}

// `residual` may be null.
template <class T>
PRETEXT_FN void normalise(uint32_t i, const T *x, const T *residual, const float *line,
                          uint32_t rows, uint32_t channels, uint32_t step, uint32_t packed,
                          uint32_t activation, T *y) {
    with_activation(activation, [&](auto kind) {
        constexpr uint32_t A = decltype(kind)::value;
        if (packed) {
            normalise_of<T, PACK<T>, A>(i, x, residual, line, rows, channels, step, y);
        } else {
            normalise_of<T, 1, A>(i, x, residual, line, rows, channels, step, y);
        }
    });
}

// What the gradients of V channels are made of: x, and the gradient before the activation.
template <class T, uint32_t V, uint32_t ACTIVATION, class F>
PRETEXT_FN void each_gradient(const Share<V> &share, const T *x, const T *residual, const T *dy,
                              const float *line, uint32_t channels, F f) {
    float factor[V], shift[V];
    of_line<V>(line, FACTOR, channels, share.c, factor);
    of_line<V>(line, SHIFT, channels, share.c, shift);
    const T *const pictures[] = {x, dy, residual};
    each_row<T, V, 2>(share, channels, pictures, [&](size_t at, const Piece<T, V> (&pieces)[3]) {
        float value[V], g[V], added[V] = {};
        widen<T, V>(pieces[0], value);
        widen<T, V>(pieces[1], g);
        if (residual) widen<T, V>(pieces[2], added);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) {
            const float sum = value[j] * factor[j] + shift[j];
            g[j] = before(residual ? sum + added[j] : sum, g[j], ACTIVATION);
        }
        f(at, value, g);
    });
}

template <class T, uint32_t V, uint32_t ACTIVATION>
PRETEXT_FN void gradient_sums_of(uint32_t i, const T *x, const T *residual, const T *dy,
                                 const float *line, uint32_t rows, uint32_t channels,
                                 uint32_t step, double *out) {
    const Share<V> share(i, rows, channels, step);
    float mean[V], sum[V] = {}, dot[V] = {};
    of_line<V>(line, MEAN, channels, share.c, mean);
    each_gradient<T, V, ACTIVATION>(
        share, x, residual, dy, line, channels,
        [&](size_t, const float (&value)[V], const float (&g)[V]) {
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                sum[j] += g[j];
                dot[j] += g[j] * (value[j] - mean[j]);
            }
        });
    double *to = out + 2 * ((size_t)share.chunk * channels + share.c);
    PRETEXT_UNROLL
    for (uint32_t j = 0; j < V; j++) {
        to[2 * j] = sum[j];
        to[2 * j + 1] = dot[j];
    }
}

// With g the gradient before the activation: sums of g and of g (x - mean) for each chunk and
// channel; out is [chunks, channels, 2].
template <class T>
PRETEXT_FN void gradient_sums(uint32_t i, const T *x, const T *residual, const T *dy,
                              const float *line, uint32_t rows, uint32_t channels, uint32_t step,
                              uint32_t packed, uint32_t activation, double *out) {
    with_activation(activation, [&](auto kind) {
        constexpr uint32_t A = decltype(kind)::value;
        if (packed) {
            gradient_sums_of<T, PACK<T>, A>(i, x, residual, dy, line, rows, channels, step, out);
        } else {
            gradient_sums_of<T, 1, A>(i, x, residual, dy, line, rows, channels, step, out);
        }
    });
}

// From `parts` of the sums over all rows: the gradients of weight and bias, either of which may be
// null, and `slopes`, three rows of numbers with dx = g factor + x slope + offset. `own`: whether the
// statistics were the batch's.
PRETEXT_FN void slopes(uint32_t c, const double *sums, uint32_t parts, const float *line,
                       uint32_t rows, uint32_t channels, uint32_t own, float *weight_gradient,
                       float *bias_gradient, float *slopes) {
    const double mean = line[MEAN * channels + c], scale = line[SCALE * channels + c];
    const double factor = line[FACTOR * channels + c];
    double both[2];
    sums_of(sums, 0, parts, 2 * channels, 2 * c, both);
    const double db = both[0], dw = both[1] * scale;
    if (weight_gradient) weight_gradient[c] = (float)dw;
    if (bias_gradient) bias_gradient[c] = (float)db;
    const double slope = own ? -factor * scale * dw / rows : 0;
    const double offset = own ? -factor * db / rows - slope * mean : 0;
    slopes[c] = (float)factor;
    slopes[channels + c] = (float)slope;
    slopes[2 * channels + c] = (float)offset;
}

template <class T, uint32_t V, uint32_t ACTIVATION>
PRETEXT_FN void norm_gradient_of(uint32_t i, const T *x, const T *residual, const T *dy,
                                 const float *line, const float *slopes, uint32_t rows,
                                 uint32_t channels, uint32_t step, T *dx, T *before_sum) {
    const Share<V> share(i, rows, channels, step);
    float factor[V], slope[V], offset[V];
    of_line<V>(slopes, 0, channels, share.c, factor);
    of_line<V>(slopes, 1, channels, share.c, slope);
    of_line<V>(slopes, 2, channels, share.c, offset);
    each_gradient<T, V, ACTIVATION>(
        share, x, residual, dy, line, channels,
        [&](size_t at, const float (&value)[V], const float (&g)[V]) {
            if (before_sum) store<T, V>(g, before_sum + at);
            float gradient[V];
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) {
                gradient[j] = g[j] * factor[j] + value[j] * slope[j] + offset[j];
            }
            if (dx) store<T, V>(gradient, dx + at);
        });
}

// dx, and the residual's gradient g in `before_sum`; either may be null.
template <class T>
PRETEXT_FN void norm_gradient(uint32_t i, const T *x, const T *residual, const T *dy,
                              const float *line, const float *slopes, uint32_t rows,
                              uint32_t channels, uint32_t step, uint32_t packed,
                              uint32_t activation, T *dx, T *before_sum) {
    with_activation(activation, [&](auto kind) {
        constexpr uint32_t A = decltype(kind)::value;
        if (packed) {
            norm_gradient_of<T, PACK<T>, A>(i, x, residual, dy, line, slopes, rows, channels, step,
                                            dx, before_sum);
        } else {
            norm_gradient_of<T, 1, A>(i, x, residual, dy, line, slopes, rows, channels, step, dx,
                                      before_sum);
        }
    });
}

}  // namespace pretext
