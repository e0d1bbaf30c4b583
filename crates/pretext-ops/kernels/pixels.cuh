// Operators that make each output pixel of a few input pixels, all channels alike.
//
// A thread has V channels of a pixel, V = PACK where the sizes allow it.
#pragma once

#include "activation.cuh"

namespace pretext {

// Weighted sums come as a table: `starts` says where each output pixel's terms begin, `places` and
// `weights` are its terms. The gradient is the same kernel with the table turned round.
template <class T>
PRETEXT_FN void gather(uint32_t i, const T *x, const uint32_t *starts, const uint32_t *places,
                       const float *weights, uint32_t inputs, uint32_t outputs, uint32_t channels,
                       uint32_t packed, T *y) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const uint32_t groups = channels / V, all = i / groups, c = (i - all * groups) * V;
        const uint32_t n = all / outputs, pixel = all - n * outputs;
        const T *picture = x + (size_t)n * inputs * channels + c;
        const uint32_t last = starts[pixel + 1];
        float sum[V] = {};
        PRETEXT_UNROLL_BY(4)
        for (uint32_t term = starts[pixel]; term < last; term++) {
            const float weight = weights[term];
            float value[V];
            load<T, V>(picture + (size_t)places[term] * channels, value);
            PRETEXT_UNROLL
            for (uint32_t j = 0; j < V; j++) sum[j] += value[j] * weight;
        }
        store<T, V>(sum, y + (size_t)all * channels + c);
    });
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

// Places in a window, as many as numbers.
template <uint32_t V>
PRETEXT_FN void store_places(const uint32_t (&from)[V], uint16_t *to) {
    if constexpr (V == PACK<uint16_t>) {
        Piece<uint16_t, V> piece;
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < 4; j++) piece.words.word[j] = from[2 * j] | from[2 * j + 1] << 16;
        put<uint16_t, V>(piece, to);
    } else {
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) to[j] = (uint16_t)from[j];
    }
}

template <uint32_t V>
PRETEXT_FN void load_places(const uint16_t *from, uint32_t (&to)[V]) {
    if constexpr (V == PACK<uint16_t>) {
        const Piece<uint16_t, V> piece = fetch<uint16_t, V>(from);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) to[j] = piece.words.word[j / 2] >> 16 * (j % 2) & 0xffff;
    } else {
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) to[j] = from[j];
    }
}

// The first largest number of each window, a NaN winning, and in `places` where in its window it lies.
template <class T>
PRETEXT_FN void max_pool(uint32_t i, const T *x, uint32_t height, uint32_t width, uint32_t rows,
                         uint32_t columns, uint32_t kernel, uint32_t stride, uint32_t padding,
                         uint32_t channels, uint32_t packed, uint16_t *places, T *y) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const Windows w{height, width, rows, columns, kernel, stride, padding};
        const uint32_t groups = channels / V, all = i / groups, c = (i - all * groups) * V;
        const uint32_t line = all / columns, column = all - line * columns;
        const uint32_t n = line / rows, row = line - n * rows;
        const T *picture = x + (size_t)n * height * width * channels + c;
        uint32_t top, bottom, left, right;
        inside(w, row, height, &top, &bottom);
        inside(w, column, width, &left, &right);
        // Where in its window a pixel lies.
        const uint32_t above = padding - row * stride, before = padding - column * stride;
        float most[V];
        uint32_t best[V];
        load<T, V>(picture + ((size_t)top * width + left) * channels, most);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) best[j] = (top + above) * kernel + left + before;
        for (uint32_t v = top; v < bottom; v++) {
            for (uint32_t u = left; u < right; u++) {
                const uint32_t place = (v + above) * kernel + u + before;
                float value[V];
                load<T, V>(picture + ((size_t)v * width + u) * channels, value);
                PRETEXT_UNROLL
                for (uint32_t j = 0; j < V; j++) {
                    const bool better = value[j] > most[j] || value[j] != value[j];
                    most[j] = better ? value[j] : most[j];
                    best[j] = better ? place : best[j];
                }
            }
        }
        const size_t at = (size_t)all * channels + c;
        store<T, V>(most, y + at);
        store_places<V>(best, places + at);
    });
}

// Each input pixel looks into the windows over it.
template <class T>
PRETEXT_FN void max_pool_gradient(uint32_t i, const uint16_t *places, const T *dy, uint32_t height,
                                  uint32_t width, uint32_t rows, uint32_t columns, uint32_t kernel,
                                  uint32_t stride, uint32_t padding, uint32_t channels,
                                  uint32_t packed, T *dx) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const uint32_t groups = channels / V, all = i / groups, c = (i - all * groups) * V;
        const uint32_t line = all / width, n = line / height;
        const uint32_t across = all - line * width + padding, down = line - n * height + padding;
        const uint32_t top = down < kernel ? 0 : (down - kernel) / stride + 1;
        const uint32_t left = across < kernel ? 0 : (across - kernel) / stride + 1;
        const uint32_t bottom = least(down / stride + 1, rows);
        const uint32_t right = least(across / stride + 1, columns);
        float sum[V] = {};
        for (uint32_t row = top; row < bottom; row++) {
            for (uint32_t column = left; column < right; column++) {
                const size_t at = (((size_t)n * rows + row) * columns + column) * channels + c;
                const uint32_t own = (down - row * stride) * kernel + across - column * stride;
                float slope[V];
                uint32_t place[V];
                load<T, V>(dy + at, slope);
                load_places<V>(places + at, place);
                PRETEXT_UNROLL
                for (uint32_t j = 0; j < V; j++) sum[j] += place[j] == own ? slope[j] : 0;
            }
        }
        store<T, V>(sum, dx + (size_t)all * channels + c);
    });
}

template <class T, uint32_t V, bool BACK>
PRETEXT_FN void shuffle2_of(uint32_t i, const T *from, uint32_t width, uint32_t channels, T *to) {
    const uint32_t groups = channels / V, pixel = i / groups, c = (i - pixel * groups) * V;
    // A picture's rows follow the one before's: which picture it is need not be known.
    const uint32_t row = pixel / width, column = pixel - row * width;
    const size_t small = ((size_t)pixel * channels + c) * 4;
    const size_t line = 2 * (size_t)width * channels;
    const size_t large = 2 * row * line + 2 * (size_t)column * channels + c;
    // Of input channel 4 c + k, pixel (k / 2, k % 2) gets channel c.
    float read[4 * V];
    PRETEXT_UNROLL
    for (uint32_t k = 0; k < 4; k++) {
        float numbers[V];
        load<T, V>(from + (BACK ? large + k / 2 * line + k % 2 * channels : small + k * V), numbers);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) read[k * V + j] = numbers[j];
    }
    PRETEXT_UNROLL
    for (uint32_t k = 0; k < 4; k++) {
        float numbers[V];
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) {
            const uint32_t at = k * V + j;
            numbers[j] = read[BACK ? at % 4 * V + at / 4 : 4 * j + k];
        }
        store<T, V>(numbers, to + (BACK ? small + k * V : large + k / 2 * line + k % 2 * channels));
    }
}

// [N, height, width, channels 4] to [N, 2 height, 2 width, channels], or with `back` set the other way;
// a thread has V channels of the four pixels that a pixel becomes.
template <class T>
PRETEXT_FN void shuffle2(uint32_t i, const T *from, uint32_t width, uint32_t channels,
                         uint32_t packed, uint32_t back, T *to) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        if (back) {
            shuffle2_of<T, V, true>(i, from, width, channels, to);
        } else {
            shuffle2_of<T, V, false>(i, from, width, channels, to);
        }
    });
}

// The same for any factor, a number at a time: thread i has the number i of the larger picture.
template <class T>
PRETEXT_FN void shuffle(uint32_t i, const T *from, uint32_t width, uint32_t channels,
                        uint32_t factor, uint32_t back, T *to) {
    const uint32_t all = i / channels, c = i - all * channels, wide = width * factor;
    const uint32_t line = all / wide, x = all - line * wide;
    const uint32_t row = line / factor, u = line - row * factor;
    const uint32_t column = x / factor, v = x - column * factor;
    const size_t pixel = (size_t)row * width + column;
    const size_t place = (pixel * channels + c) * factor * factor + u * factor + v;
    if (back) {
        to[place] = from[i];
    } else {
        to[i] = from[place];
    }
}

// Rows of `first` and of `second` numbers side by side, and what follows.
template <class T>
PRETEXT_FN void concat(uint32_t i, const T *a, const T *b, uint32_t first, uint32_t second,
                       uint32_t packed, uint32_t activation, T *y) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const uint32_t both = first + second, groups = both / V;
        const uint32_t row = i / groups, c = (i - row * groups) * V;
        float value[V];
        load<T, V>(c < first ? a + (size_t)row * first + c : b + (size_t)row * second + c - first,
                   value);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) value[j] = activate(value[j], activation);
        store<T, V>(value, y + (size_t)row * both + c);
    });
}

// The gradients of both, either of which may be null. Of what came out the slope is known, but for Mish.
template <class T>
PRETEXT_FN void concat_gradient(uint32_t i, const T *y, const T *dy, uint32_t first,
                                uint32_t second, uint32_t packed, uint32_t activation, T *da,
                                T *db) {
    with_pack<T>(packed, [&](auto size) {
        constexpr uint32_t V = decltype(size)::value;
        const uint32_t both = first + second, groups = both / V;
        const uint32_t row = i / groups, c = (i - row * groups) * V;
        T *to = c < first ? da : db;
        if (!to) return;
        const size_t at = (size_t)row * both + c;
        float value[V], g[V];
        load<T, V>(y + at, value);
        load<T, V>(dy + at, g);
        PRETEXT_UNROLL
        for (uint32_t j = 0; j < V; j++) g[j] = before(value[j], g[j], activation);
        store<T, V>(g, to + (c < first ? (size_t)row * first + c : (size_t)row * second + c - first));
    });
}

}  // namespace pretext
