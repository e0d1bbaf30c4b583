// Operators that make each output pixel of a few input pixels, all channels alike.
//
// Weighted sums come as a table: `starts` says where each output pixel's terms begin, `places` and
// `weights` are its terms. The gradient is the same kernel with the table turned round.
#pragma once

#include "numbers.cuh"

namespace pretext {

template <class T>
PRETEXT_FN void gather(uint32_t i, const T *x, const uint32_t *starts, const uint32_t *places,
                       const float *weights, uint32_t inputs, uint32_t outputs, uint32_t channels,
                       T *y) {
    const uint32_t c = i % channels, pixel = i / channels % outputs;
    const T *picture = x + (size_t)(i / channels / outputs) * inputs * channels + c;
    float sum = 0;
    for (uint32_t term = starts[pixel]; term < starts[pixel + 1]; term++) {
        sum += widen(picture[(size_t)places[term] * channels]) * weights[term];
    }
    narrow(sum, &y[i]);
}

// Square windows over pictures of `height` by `width`.
struct Windows {
    uint32_t height, width, rows, columns, kernel, stride, padding;
};

// What of window `i` lies inside.
PRETEXT_FN void inside(const Windows &w, uint32_t i, uint32_t extent, uint32_t *first,
                       uint32_t *last) {
    const uint32_t start = i * w.stride, end = start + w.kernel;
    *last = least(end > w.padding ? end - w.padding : 0, extent);
    *first = least(start > w.padding ? start - w.padding : 0, *last);
}

// The place of a window's first largest number in a picture's channel; a NaN wins.
template <class T>
PRETEXT_FN uint32_t largest(const Windows &w, const T *picture, uint32_t i, uint32_t j,
                            uint32_t channels) {
    uint32_t top, bottom, left, right;
    inside(w, i, w.height, &top, &bottom);
    inside(w, j, w.width, &left, &right);
    uint32_t best = top * w.width + left;
    float most = widen(picture[(size_t)best * channels]);
    for (uint32_t y = top; y < bottom; y++) {
        for (uint32_t x = left; x < right; x++) {
            const uint32_t place = y * w.width + x;
            const float value = widen(picture[(size_t)place * channels]);
            if (value > most || value != value) {
                best = place;
                most = value;
            }
        }
    }
    return best;
}

template <class T>
PRETEXT_FN void max_pool(uint32_t i, const T *x, uint32_t height, uint32_t width, uint32_t rows,
                         uint32_t columns, uint32_t kernel, uint32_t stride, uint32_t padding,
                         uint32_t channels, T *y) {
    const Windows w{height, width, rows, columns, kernel, stride, padding};
    const uint32_t c = i % channels, column = i / channels % columns;
    const uint32_t row = i / channels / columns % rows, n = i / channels / columns / rows;
    const T *picture = x + (size_t)n * height * width * channels + c;
    y[i] = picture[(size_t)largest(w, picture, row, column, channels) * channels];
}

// Each input pixel looks into the windows over it.
template <class T>
PRETEXT_FN void max_pool_gradient(uint32_t i, const T *x, const T *dy, uint32_t height,
                                  uint32_t width, uint32_t rows, uint32_t columns, uint32_t kernel,
                                  uint32_t stride, uint32_t padding, uint32_t channels, T *dx) {
    const Windows w{height, width, rows, columns, kernel, stride, padding};
    const uint32_t c = i % channels, at_x = i / channels % width;
    const uint32_t at_y = i / channels / width % height, n = i / channels / width / height;
    const T *picture = x + (size_t)n * height * width * channels + c;
    const T *slopes = dy + (size_t)n * rows * columns * channels + c;
    const uint32_t down = at_y + padding, across = at_x + padding;
    const uint32_t top = down < kernel ? 0 : (down - kernel) / stride + 1;
    const uint32_t left = across < kernel ? 0 : (across - kernel) / stride + 1;
    const uint32_t bottom = least(down / stride + 1, rows);
    const uint32_t right = least(across / stride + 1, columns);
    float sum = 0;
    for (uint32_t row = top; row < bottom; row++) {
        for (uint32_t column = left; column < right; column++) {
            if (largest(w, picture, row, column, channels) == at_y * width + at_x) {
                sum += widen(slopes[((size_t)row * columns + column) * channels]);
            }
        }
    }
    narrow(sum, &dx[i]);
}

}  // namespace pretext
