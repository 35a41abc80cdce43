// Runs CUDA kernels on a CPU, for tests: g++ compiles a .cu file after this header as ordinary C++.
//
// The blocks of a grid run one after the other. The threads of a block run one after the other too, each as a fibre (ucontext): where a
// thread waits for others (__syncthreads, a shuffle, a tensor-core product) it hands over to the next one, and the barrier
// opens when all have arrived. So a kernel that forgets a barrier reads what has not been written yet, and the test sees it. Kernels that
// wait for nobody run as a plain loop.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define NPUNET_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static                      // one block at a time: one copy serves
#define __launch_bounds__(...)
#define __CUDA_ARCH__ 900
using std::isfinite; using std::isnan;
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

struct uint3_ { unsigned x, y, z; };
static uint3_ threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {
struct Fibre { ucontext_t context; std::vector<char> stack; bool done; unsigned arrived; };      // arrived: barriers of either kind so far
static std::vector<Fibre> fibres;
static ucontext_t scheduler;
static unsigned current, in_block;
static const std::function<void()>* body;
static unsigned lane_value[1024][8];           // what each thread last offered to its warp

static void entry() { (*body)(); fibres[current].done = true; swapcontext(&fibres[current].context, &scheduler); }

// Waits until threads first .. first + count - 1 of the block have all arrived as often as this one.
static void wait(unsigned first, unsigned count) {
    unsigned me = current, mine = ++fibres[me].arrived;
    for (;;) {
        bool all = true;
        for (unsigned t = first; t < first + count && t < in_block; ++t) all = all && (fibres[t].arrived >= mine || fibres[t].done);
        if (all) return;
        swapcontext(&fibres[me].context, &scheduler);
    }
}
static void wait_block() { wait(0, in_block); }
static void wait_warp() { wait(current / 32 * 32, 32); }

static void run(unsigned gx, unsigned gy, unsigned gz, unsigned threads, bool alone, const std::function<void()>& kernel) {
    gridDim = {gx, gy, gz}; blockDim = {threads, 1, 1}; in_block = threads; body = &kernel;
    if (!alone && fibres.size() < threads) { fibres.resize(threads); for (auto& fibre : fibres) fibre.stack.resize(1 << 16); }
    for (unsigned z = 0; z < gz; ++z) for (unsigned y = 0; y < gy; ++y) for (unsigned x = 0; x < gx; ++x) {
        blockIdx = {x, y, z};
        if (alone) { for (unsigned t = 0; t < threads; ++t) { threadIdx = {t, 0, 0}; kernel(); } continue; }
        for (unsigned t = 0; t < threads; ++t) {
            Fibre& fibre = fibres[t];
            getcontext(&fibre.context);
            fibre.context.uc_stack.ss_sp = fibre.stack.data(); fibre.context.uc_stack.ss_size = fibre.stack.size();
            fibre.context.uc_link = nullptr; fibre.done = false; fibre.arrived = 0;
            makecontext(&fibre.context, entry, 0);
        }
        for (bool busy = true; busy;) {
            busy = false;
            for (unsigned t = 0; t < threads; ++t) {
                if (fibres[t].done) continue;
                busy = true; current = t; threadIdx = {t, 0, 0};
                swapcontext(&scheduler, &fibres[t].context);
            }
        }
    }
}
}  // namespace on_cpu

static inline void __syncthreads() { on_cpu::wait_block(); }
static inline void __syncwarp() { on_cpu::wait_warp(); }
template <typename T> static T __ldg(const T* p) { return *p; }

template <typename T> static T __shfl_down_sync(unsigned, T value, unsigned delta) {
    unsigned me = on_cpu::current;
    std::memcpy(on_cpu::lane_value[me], &value, sizeof value);
    on_cpu::wait_warp();
    unsigned from = me % 32 + delta < 32 ? me + delta : me;
    T result; std::memcpy(&result, on_cpu::lane_value[from], sizeof result);
    on_cpu::wait_warp();
    return result;
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, as the PTX manual lays its operands out over the 32 lanes of a warp:
// group = lane / 4, member = lane % 4;
//   A (16x8):  a[i] at row group + 8 (i % 2),      column member + 4 (i / 2)
//   B (8x8):   b[i] at row member + 4 i,           column group
//   D (16x8):  d[i] at row group + 8 (i / 2),      column 2 member + i % 2
// The tensor core looks at the sign, 8 bits of exponent and upper 10 bits of mantissa only.
static inline float on_cpu_tf32(unsigned bits) { bits &= 0xffffe000u; float value; std::memcpy(&value, &bits, 4); return value; }
static inline void on_cpu_mma(float* d, const unsigned* a, const unsigned* b) {
    unsigned me = on_cpu::current, warp = me / 32 * 32, group = me % 32 / 4, member = me % 4;
    std::memcpy(on_cpu::lane_value[me], a, 16); std::memcpy(on_cpu::lane_value[me] + 4, b, 8);
    on_cpu::wait_warp();
    for (int i = 0; i < 4; ++i) {
        unsigned row = group + 8 * (i / 2), column = 2 * member + i % 2;
        for (unsigned k = 0; k < 8; ++k) {
            unsigned a_bits = on_cpu::lane_value[warp + row % 8 * 4 + k % 4][row / 8 + 2 * (k / 4)];
            unsigned b_bits = on_cpu::lane_value[warp + column * 4 + k % 4][4 + k / 4];
            d[i] += on_cpu_tf32(a_bits) * on_cpu_tf32(b_bits);
        }
    }
    on_cpu::wait_warp();
}
static inline unsigned on_cpu_round_tf32(float x) {                          // cvt.rna.tf32.f32: nearest, ties away from zero
    unsigned bits; std::memcpy(&bits, &x, 4); return (bits + 0x1000u) & 0xffffe000u;
}
