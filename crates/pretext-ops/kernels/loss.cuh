// Losses: one number a batch.
#pragma once

#include "numbers.cuh"

namespace pretext {

// As the Rust side numbers them.
enum Difference : uint32_t { SQUARED, ABSOLUTE };

// Thread i of `threads` adds up every `threads`th difference.
PRETEXT_FN void difference(uint32_t i, const float *prediction, const float *target, uint32_t count,
                           uint32_t threads, uint32_t kind, double *out) {
    double sum = 0;
    for (uint64_t at = i; at < count; at += threads) {
        const float d = prediction[at] - target[at];
        sum += kind == SQUARED ? d * d : fabsf(d);
    }
    out[i] = sum;
}

PRETEXT_FN void mean(uint32_t i, const double *sum, uint32_t count, float *out) {
    out[i] = (float)(sum[i] / count);
}

PRETEXT_FN void difference_gradient(uint32_t i, const float *prediction, const float *target,
                                    const float *gradient, uint32_t count, uint32_t kind,
                                    float *out) {
    const float scale = (float)((double)gradient[0] / count), d = prediction[i] - target[i];
    const float sign = d > 0 ? 1.0f : d < 0 ? -1.0f : 0.0f;
    out[i] = scale * (kind == SQUARED ? d + d : sign);
}

// What is subtracted from a row's logits to make them logarithms of probabilities.
PRETEXT_FN void softmax_base(const float *logits, uint32_t k, double *most, double *base) {
    *most = -INFINITY;
    for (uint32_t j = 0; j < k; j++) *most = fmax(*most, (double)logits[j]);
    double sum = 0;
    for (uint32_t j = 0; j < k; j++) sum += exp(logits[j] - *most);
    *base = log(sum);
}

PRETEXT_FN double target_of(uint32_t j, uint32_t own, uint32_t k, double smoothing) {
    return (j == own ? 1 - smoothing : 0) + smoothing / k;
}

// The loss of row i, NaN if there is no such class.
PRETEXT_FN void cross_entropy(uint32_t i, const float *logits, const uint32_t *classes, uint32_t k,
                              double smoothing, double *out) {
    const float *row = logits + (size_t)i * k;
    double most, base, loss = 0;
    softmax_base(row, k, &most, &base);
    for (uint32_t j = 0; j < k; j++) {
        const double target = target_of(j, classes[i], k, smoothing);
        // A class of no weight costs nothing, however impossible.
        if (target != 0) loss -= target * (row[j] - most - base);
    }
    out[i] = classes[i] < k ? loss : NAN;
}

PRETEXT_FN void cross_entropy_gradient(uint32_t i, const float *logits, const uint32_t *classes,
                                       const float *gradient, uint32_t rows, uint32_t k,
                                       double smoothing, float *out) {
    const float *row = logits + (size_t)i * k;
    const double scale = (double)gradient[0] / rows;
    double most, base;
    softmax_base(row, k, &most, &base);
    for (uint32_t j = 0; j < k; j++) {
        const double share = exp(row[j] - most - base);
        const double slope = scale * (share - target_of(j, classes[i], k, smoothing));
        out[(size_t)i * k + j] = classes[i] < k ? (float)slope : NAN;
    }
}

}  // namespace pretext
