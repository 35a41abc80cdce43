// What CuPy's own kernels need of CUDA besides tests/cuda_on_cpu.h: a few functions by CUDA's names, and how a kernel gets its arguments.
#pragma once
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include "cuda_on_cpu.h"
#define __noinline__ __attribute__((noinline))
#define __constant__ static
using std::isinf; using std::signbit;

struct short2 { short x, y; };
struct int2 { int x, y; };
static inline short2 make_short2(short x, short y) { return {x, y}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }

template <typename A, typename B> static auto min(A a, B b) { typedef std::common_type_t<A, B> T; return T(a) < T(b) ? T(a) : T(b); }
template <typename A, typename B> static auto max(A a, B b) { typedef std::common_type_t<A, B> T; return T(a) > T(b) ? T(a) : T(b); }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
static inline int __clz(int bits) { return bits ? __builtin_clz(bits) : 32; }
static inline int __float_as_int(float x) { int bits; std::memcpy(&bits, &x, 4); return bits; }
static inline float __int_as_float(int bits) { float x; std::memcpy(&x, &bits, 4); return x; }
static inline long long __double_as_longlong(double x) { long long bits; std::memcpy(&bits, &x, 8); return bits; }
static inline double __longlong_as_double(long long bits) { double x; std::memcpy(&x, &bits, 8); return x; }
#define ATOMIC(name, result) template <typename T> static std::enable_if_t<std::is_arithmetic_v<T>, T> name(T* at, std::common_type_t<T> value) { T before = *at; *at = result; return before; }
ATOMIC(atomicAdd, before + value) ATOMIC(atomicMax, before < value ? value : before) ATOMIC(atomicExch, value)
template <typename T> static T atomicCAS(T* at, T compare, T value) { T before = *at; if (before == compare) *at = value; return before; }

template <typename T> static T of_lane(unsigned mask, T value, unsigned lane) {
    if (mask != 0xffffffffu) refuse("a shuffle without the whole warp");
    unsigned me = on_cpu::current;
    std::memcpy(on_cpu::lane_value[me], &value, sizeof value);
    on_cpu::wait_warp();
    if (lane < 32) std::memcpy(&value, on_cpu::lane_value[me / 32 * 32 + lane], sizeof value);
    on_cpu::wait_warp();
    return value;
}
template <typename T> static T __shfl_xor_sync(unsigned mask, T value, unsigned bits, int = 32) { return of_lane(mask, value, on_cpu::current % 32 ^ bits); }
template <typename T> static T __shfl_up_sync(unsigned mask, T value, unsigned delta, int = 32) { return of_lane(mask, value, on_cpu::current % 32 - delta); }

typedef std::function<void()> Work;
namespace on_cpu {
// body of one launch: the kernel with copies of its arguments, which lie where cuLaunchKernel says
template <typename... Arguments, size_t... index>
static Work* bound_(void (*kernel)(Arguments...), void** from, std::index_sequence<index...>) {
    auto arguments = std::make_shared<std::tuple<std::remove_cv_t<Arguments>...>>(*(std::remove_cv_t<Arguments>*)from[index]...);
    return new Work([=] { kernel(std::get<index>(*arguments)...); });
}
template <typename... Arguments> static Work* bound(void (*kernel)(Arguments...), void** from) {
    return bound_(kernel, from, std::index_sequence_for<Arguments...>());
}
}
