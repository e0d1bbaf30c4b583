// The kernels on the processor, for tests: a library that runs one by its name. Threads of a GPU are
// turns of a loop here, the last one first; nothing else differs from what nvcc compiles.

#include <map>
#include <string>
#include <utility>

#include "layer_norm.cuh"
#include "loss.cuh"
#include "norm.cuh"
#include "pixels.cuh"
#include "weights.cuh"

namespace {

using pretext::Bf16;
using pretext::F16;

// Arguments come as 8 bytes each.
template <class A>
A argument(uint64_t bits) {
    if constexpr (std::is_pointer<A>::value) {
        return (A)(uintptr_t)bits;
    } else if constexpr (std::is_same<A, double>::value) {
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    } else {
        return (A)bits;
    }
}

template <class... A, size_t... I>
void walk(void (*kernel)(uint32_t, A...), uint32_t count, const uint64_t *bits,
          std::index_sequence<I...>) {
    for (uint32_t i = count; i-- > 0;) kernel(i, argument<A>(bits[I])...);
}

struct Kernel {
    size_t arguments;
    void (*run)(uint32_t count, const uint64_t *bits);
};

template <auto KERNEL, class... A>
Kernel kernel(void (*)(uint32_t, A...)) {
    return {sizeof...(A), [](uint32_t count, const uint64_t *bits) {
                walk(KERNEL, count, bits, std::index_sequence_for<A...>());
            }};
}

#define NAMED(NAME, FUNCTION) {NAME, kernel<FUNCTION>(FUNCTION)}
#define TYPED(NAME)                                                                               \
    NAMED(#NAME "_f32", &pretext::NAME<float>), NAMED(#NAME "_bf16", &pretext::NAME<Bf16>),     \
        NAMED(#NAME "_f16", &pretext::NAME<F16>)
#define PLAIN(NAME) NAMED(#NAME, &pretext::NAME)

const std::map<std::string, Kernel> KERNELS = {
    TYPED(layer_norm), TYPED(layer_norm_gradient), TYPED(layer_norm_sums),
    PLAIN(layer_norm_parameters),
    TYPED(activation), TYPED(activation_gradient), TYPED(add), TYPED(moments), TYPED(normalise),
    TYPED(gradient_sums), TYPED(norm_gradient), TYPED(weights), TYPED(weights_gradient),
    TYPED(gather), TYPED(max_pool), TYPED(max_pool_gradient), TYPED(shuffle2), TYPED(shuffle),
    TYPED(concat), TYPED(concat_gradient), PLAIN(join_sums), PLAIN(join_moments),
    PLAIN(own_line), PLAIN(given_line), PLAIN(bias_line), PLAIN(slopes), PLAIN(difference),
    PLAIN(mean), PLAIN(difference_gradient), PLAIN(cross_entropy),
    PLAIN(cross_entropy_gradient),
};

}  // namespace

// Whether there is such a kernel with so many arguments.
extern "C" bool pretext_run(const char *name, uint32_t count, const uint64_t *bits,
                            size_t arguments) {
    const auto found = KERNELS.find(name);
    if (found == KERNELS.end() || found->second.arguments != arguments) return false;
    found->second.run(count, bits);
    return true;
}
