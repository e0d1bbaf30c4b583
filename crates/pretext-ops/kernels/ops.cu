// The kernels on a GPU: which thread does what. `count` places in all, one thread each or more.

#include "layer_norm.cuh"
#include "loss.cuh"
#include "norm.cuh"
#include "pixels.cuh"
#include "weights.cuh"

using pretext::Bf16;
using pretext::F16;

#define KERNEL(NAME, PARAMETERS, CALL)                                                            \
    extern "C" __global__ void __launch_bounds__(256) NAME PARAMETERS {                           \
        const uint64_t threads = (uint64_t)gridDim.x * blockDim.x;                                \
        for (uint64_t at = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; at < count;           \
             at += threads) {                                                                     \
            const uint32_t i = (uint32_t)at;                                                      \
            pretext::CALL;                                                                        \
        }                                                                                         \
    }

#define FOR(T, TYPE)                                                                              \
    KERNEL(layer_norm_##TYPE,                                                                     \
           (uint32_t count, const T *x, const float *weight, const float *bias,                   \
            uint32_t channels, double eps, uint32_t packed, float *line, T *y),                   \
           layer_norm<T>(i, x, weight, bias, channels, eps, packed, line, y))                     \
    KERNEL(layer_norm_gradient_##TYPE,                                                            \
           (uint32_t count, const T *x, const T *dy, const float *weight, const float *line,      \
            uint32_t channels, uint32_t packed, T *dx),                                           \
           layer_norm_gradient<T>(i, x, dy, weight, line, channels, packed, dx))                  \
    KERNEL(layer_norm_sums_##TYPE,                                                                \
           (uint32_t count, const T *x, const T *dy, const float *line, uint32_t rows,            \
            uint32_t channels, uint32_t step, uint32_t packed, double *out),                      \
           layer_norm_sums<T>(i, x, dy, line, rows, channels, step, packed, out))                 \
    KERNEL(activation_##TYPE,                                                                     \
           (uint32_t count, const T *x, uint32_t numbers, uint32_t packed, uint32_t kind, T *y),  \
           activation<T>(i, x, numbers, packed, kind, y))                                         \
    KERNEL(activation_gradient_##TYPE,                                                            \
           (uint32_t count, const T *x, const T *dy, uint32_t numbers, uint32_t packed,           \
            uint32_t kind, T *dx),                                                                \
           activation_gradient<T>(i, x, dy, numbers, packed, kind, dx))                           \
    KERNEL(add_##TYPE,                                                                            \
           (uint32_t count, const T *a, const T *b, uint32_t numbers, uint32_t packed, T *sum),   \
           add<T>(i, a, b, numbers, packed, sum))                                                 \
    KERNEL(moments_##TYPE,                                                                        \
           (uint32_t count, const T *x, uint32_t rows, uint32_t channels, uint32_t step,          \
            uint32_t packed, double *out),                                                        \
           moments<T>(i, x, rows, channels, step, packed, out))                                   \
    KERNEL(normalise_##TYPE,                                                                      \
           (uint32_t count, const T *x, const T *residual, const float *line, uint32_t rows,      \
            uint32_t channels, uint32_t step, uint32_t packed, uint32_t kind, T *y),              \
           normalise<T>(i, x, residual, line, rows, channels, step, packed, kind, y))             \
    KERNEL(gradient_sums_##TYPE,                                                                  \
           (uint32_t count, const T *x, const T *residual, const T *dy, const float *line,        \
            uint32_t rows, uint32_t channels, uint32_t step, uint32_t packed, uint32_t kind,      \
            double *out),                                                                         \
           gradient_sums<T>(i, x, residual, dy, line, rows, channels, step, packed, kind, out))   \
    KERNEL(norm_gradient_##TYPE,                                                                  \
           (uint32_t count, const T *x, const T *residual, const T *dy, const float *line,        \
            const float *lines, uint32_t rows, uint32_t channels, uint32_t step, uint32_t packed, \
            uint32_t kind, T *dx, T *before),                                                     \
           norm_gradient<T>(i, x, residual, dy, line, lines, rows, channels, step, packed, kind,  \
                            dx, before))                                                          \
    KERNEL(weights_##TYPE,                                                                        \
           (uint32_t count, const float *from, uint32_t channels, uint32_t area, uint32_t last,   \
            T *to),                                                                               \
           weights<T>(i, from, channels, area, last, to))                                         \
    KERNEL(weights_gradient_##TYPE,                                                               \
           (uint32_t count, const T *from, uint32_t channels, uint32_t area, uint32_t last,       \
            float *to),                                                                           \
           weights_gradient<T>(i, from, channels, area, last, to))                                \
    KERNEL(gather_##TYPE,                                                                         \
           (uint32_t count, const T *x, const uint32_t *starts, const uint32_t *places,           \
            const float *terms, uint32_t inputs, uint32_t outputs, uint32_t channels,             \
            uint32_t packed, T *y),                                                               \
           gather<T>(i, x, starts, places, terms, inputs, outputs, channels, packed, y))          \
    KERNEL(max_pool_##TYPE,                                                                       \
           (uint32_t count, const T *x, uint32_t height, uint32_t width, uint32_t rows,           \
            uint32_t columns, uint32_t kernel, uint32_t stride, uint32_t padding,                 \
            uint32_t channels, uint32_t packed, uint16_t *places, T *y),                          \
           max_pool<T>(i, x, height, width, rows, columns, kernel, stride, padding, channels,     \
                       packed, places, y))                                                        \
    KERNEL(max_pool_gradient_##TYPE,                                                              \
           (uint32_t count, const uint16_t *places, const T *dy, uint32_t height, uint32_t width, \
            uint32_t rows, uint32_t columns, uint32_t kernel, uint32_t stride, uint32_t padding,  \
            uint32_t channels, uint32_t packed, T *dx),                                           \
           max_pool_gradient<T>(i, places, dy, height, width, rows, columns, kernel, stride,      \
                                padding, channels, packed, dx))                                   \
    KERNEL(shuffle2_##TYPE,                                                                       \
           (uint32_t count, const T *from, uint32_t width, uint32_t channels, uint32_t packed,    \
            uint32_t back, T *to),                                                                \
           shuffle2<T>(i, from, width, channels, packed, back, to))                               \
    KERNEL(shuffle_##TYPE,                                                                        \
           (uint32_t count, const T *from, uint32_t width, uint32_t channels, uint32_t factor,    \
            uint32_t back, T *to),                                                                \
           shuffle<T>(i, from, width, channels, factor, back, to))                                \
    KERNEL(concat_##TYPE,                                                                         \
           (uint32_t count, const T *a, const T *b, uint32_t first, uint32_t second,              \
            uint32_t packed, uint32_t kind, T *y),                                                \
           concat<T>(i, a, b, first, second, packed, kind, y))                                    \
    KERNEL(concat_gradient_##TYPE,                                                                \
           (uint32_t count, const T *y, const T *dy, uint32_t first, uint32_t second,             \
            uint32_t packed, uint32_t kind, T *da, T *db),                                        \
           concat_gradient<T>(i, y, dy, first, second, packed, kind, da, db))

FOR(float, f32)
FOR(Bf16, bf16)
FOR(F16, f16)

KERNEL(layer_norm_parameters,
       (uint32_t count, const double *sums, uint32_t parts, uint32_t channels, float *weight,
        float *bias),
       layer_norm_parameters(i, sums, parts, channels, weight, bias))
KERNEL(join_sums, (uint32_t count, const double *parts, uint32_t n, uint32_t columns, double *out),
       join_sums(i, parts, n, columns, out))
KERNEL(join_moments,
       (uint32_t count, const double *parts, uint32_t rows, uint32_t channels, uint32_t step,
        double *out),
       join_moments(i, parts, rows, channels, step, out))
KERNEL(own_line,
       (uint32_t count, const double *parts, const float *weight, const float *bias, double eps,
        uint32_t rows, uint32_t channels, uint32_t step, double momentum, float *line, float *mean,
        float *variance),
       own_line(i, parts, weight, bias, eps, rows, channels, step, momentum, line, mean, variance))
KERNEL(given_line,
       (uint32_t count, const float *mean, const float *variance, const float *weight,
        const float *bias, double eps, uint32_t channels, float *line),
       given_line(i, mean, variance, weight, bias, eps, channels, line))
KERNEL(bias_line, (uint32_t count, const float *bias, uint32_t channels, float *line),
       bias_line(i, bias, channels, line))
KERNEL(slopes,
       (uint32_t count, const double *sums, uint32_t parts, const float *line, uint32_t rows,
        uint32_t channels, uint32_t own, float *weight_gradient, float *bias_gradient,
        float *lines),
       slopes(i, sums, parts, line, rows, channels, own, weight_gradient, bias_gradient, lines))
KERNEL(difference,
       (uint32_t count, const float *prediction, const float *target, uint32_t numbers,
        uint32_t adders, uint32_t kind, double *out),
       difference(i, prediction, target, numbers, adders, kind, out))
KERNEL(mean, (uint32_t count, const double *sum, uint32_t numbers, float *out),
       mean(i, sum, numbers, out))
KERNEL(difference_gradient,
       (uint32_t count, const float *prediction, const float *target, const float *gradient,
        uint32_t numbers, uint32_t kind, float *out),
       difference_gradient(i, prediction, target, gradient, numbers, kind, out))
KERNEL(cross_entropy,
       (uint32_t count, const float *logits, const uint32_t *classes, uint32_t k, double smoothing,
        double *out),
       cross_entropy(i, logits, classes, k, smoothing, out))
KERNEL(cross_entropy_gradient,
       (uint32_t count, const float *logits, const uint32_t *classes, const float *gradient,
        uint32_t rows, uint32_t k, double smoothing, float *out),
       cross_entropy_gradient(i, logits, classes, gradient, rows, k, smoothing, out))
