// Runs CUDA kernels on a CPU, for tests: g++ compiles a .cu file after this header as ordinary C++.
//
// The blocks of a grid run one after the other. The threads of a block run one after the other too, each as a fibre (ucontext): where a
// thread waits for others (__syncthreads, a shuffle, a tensor-core product) it hands over to the next one, and the barrier
// opens when all have arrived. Warps get their turns at random and one of them seldom, so that the others run far ahead, and shared memory holds NaN when a block
// begins: a kernel that forgets a barrier then reads what is not there yet or not there any more, and the test sees it. A warp that is
// not whole any more where its lanes work together, and threads that wait for each other for ever, are refused. Kernels that wait for
// nobody run as a plain loop.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <csetjmp>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static                       // one block at a time: one copy serves
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 900
using std::isfinite; using std::isnan;
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

struct uint3_ { unsigned x, y, z; };
static uint3_ threadIdx, blockIdx, blockDim, gridDim;

static const char* refused = nullptr;           // what a GPU would have ended the program for, or have computed wrongly
extern "C" const char* what_was_refused() { const char* what = refused; refused = nullptr; return what; }
static void refuse(const char* what) { std::fprintf(stderr, "a kernel on the CPU: %s\n", what); std::fflush(stderr); refused = what; }

namespace on_cpu {
struct Shared { void* place; unsigned long bytes; };
static std::vector<Shared> shared;             // the __shared__ variables of all kernels; cuda_on_cpu.py tells where they are
struct Barrier { unsigned members, arrived, opened; };
struct Fibre { ucontext_t start; jmp_buf place; std::vector<char> stack; bool started, done; Barrier* at; unsigned opened; };
static std::vector<Fibre> fibres;
static jmp_buf scheduler;
static unsigned current, in_block, random = 1;
static unsigned long progress;                 // how often a thread has come to a barrier or to its end
static const std::function<void()>* body;
static Barrier of_block, of_warp[32];
static unsigned lane_value[1024][8];           // what each thread last offered to its warp

static void hand_over() { if (!_setjmp(fibres[current].place)) _longjmp(scheduler, 1); }      // comes back when it is this thread's turn again
static void open_if_all_are_here(Barrier& barrier) {
    if (!barrier.members || barrier.arrived != barrier.members) return;
    if (&barrier != &of_block && barrier.members < 32) refuse("lanes of a warp work together, and others of it have ended");
    barrier.arrived = 0;
    ++barrier.opened;
}

static void wait(Barrier& barrier) {
    unsigned opened = barrier.opened;
    ++barrier.arrived;
    ++progress;
    open_if_all_are_here(barrier);
    fibres[current].at = &barrier;
    fibres[current].opened = opened;
    while (barrier.opened == opened) hand_over();
}
static void wait_block() { wait(of_block); }
static void wait_warp() { wait(of_warp[current / 32]); }

static void entry() {
    (*body)();
    fibres[current].done = true;
    ++progress;
    for (Barrier* barrier : {&of_block, &of_warp[current / 32]}) { --barrier->members; open_if_all_are_here(*barrier); }      // nobody waits for it
    _longjmp(scheduler, 1);
}

static void turn(unsigned t) {                 // thread t runs until it waits or ends
    current = t; threadIdx = {t % blockDim.x, t / blockDim.x, 0};
    if (_setjmp(scheduler)) return;
    Fibre& fibre = fibres[t];
    if (fibre.started) _longjmp(fibre.place, 1);
    fibre.started = true;
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack.data(); fibre.start.uc_stack.ss_size = fibre.stack.size(); fibre.start.uc_link = nullptr;
    makecontext(&fibre.start, entry, 0);
    setcontext(&fibre.start);
}

static bool can_go_on(const Fibre& fibre) { return !fibre.at || fibre.at->opened != fibre.opened; }
static unsigned drawn(unsigned bits) { return (random = random * 1103515245u + 12345u) >> (32 - bits); }

// SHARED_OF_LAUNCH: the bytes that the launch gave, NaN when a block begins, and behind them a fence that must stay as it was.
static const unsigned most_shared = 227 << 10, fence = 4096;
alignas(128) static unsigned char of_launch[most_shared + fence];
static bool fence_stands(unsigned bytes) {
    for (unsigned i = bytes; i < bytes + fence; ++i) if (of_launch[i] != 0xff) return false;
    return true;
}

static unsigned bytes_of_launch, rows = 1;     // of a block: another number where tests/cupy_on_cpu runs CuPy's own kernels
static void start_of_block(), end_of_block();
static void run(unsigned gx, unsigned gy, unsigned gz, unsigned threads, unsigned shared_bytes, bool alone, const std::function<void()>& kernel) {
    gridDim = {gx, gy, gz}; blockDim = {threads / rows, rows, 1}; in_block = threads; body = &kernel; bytes_of_launch = shared_bytes;
    if (!alone && fibres.size() < threads) { fibres.resize(threads); for (auto& fibre : fibres) fibre.stack.resize(1 << 16); }
    for (unsigned z = 0; z < gz; ++z) for (unsigned y = 0; y < gy; ++y) for (unsigned x = 0; x < gx; ++x) {
        blockIdx = {x, y, z};
        if (alone) { for (unsigned t = 0; t < threads; ++t) { threadIdx = {t % blockDim.x, t / blockDim.x, 0}; kernel(); } continue; }
        for (auto& variable : shared) std::memset(variable.place, 0xff, variable.bytes);
        std::memset(of_launch, 0xff, shared_bytes + fence);
        of_block = {threads, 0, 0};
        start_of_block();
        for (unsigned warp = 0; warp < 32; ++warp) of_warp[warp] = {warp * 32 < threads ? 32u : 0u, 0, 0};
        for (unsigned t = 0; t < threads; ++t) { fibres[t].started = fibres[t].done = false; fibres[t].at = nullptr; }
        unsigned long before = progress;
        unsigned warps = (threads + 31) / 32, late = drawn(16) % warps;
        for (int rounds = 0, busy = true; busy; rounds = progress == before ? rounds + 1 : 0, before = progress) {
            if (rounds == 1000) { refuse("threads that wait for each other for ever"); break; }
            busy = false;
            if (drawn(8) == 0) late = drawn(16) % warps;                       // another one is late now
            for (unsigned warp = 0; warp < warps; ++warp) {
                bool waits = drawn(warp == late ? 4 : 1);                      // all but one turn of 16, or of 2
                for (unsigned t = warp * 32; t < threads && t < warp * 32 + 32; ++t)
                    if (!fibres[t].done) { busy = true; if (!waits && can_go_on(fibres[t])) turn(t); }
            }
        }
        end_of_block();
        if (!fence_stands(shared_bytes)) refuse("shared memory written beyond what the launch gave");
    }
}
}  // namespace on_cpu
#define SHARED_OF_LAUNCH(name) unsigned char* name = on_cpu::of_launch
extern "C" void shared_is_at(void* place, unsigned long bytes) {
    for (auto& variable : on_cpu::shared) if (variable.place == place) return;      // the file was loaded before
    on_cpu::shared.push_back({place, bytes});
}

static inline void __syncthreads() { on_cpu::wait_block(); }
static inline void __syncwarp() { on_cpu::wait_warp(); }
static inline int atomicMin(int* p, int value) { int before = *p; if (value < before) *p = value; return before; }
template <typename T> static T __ldg(const T* p) { return *p; }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }

template <typename T> static T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    if (mask != 0xffffffffu) refuse("a shuffle without the whole warp");
    unsigned me = on_cpu::current;
    std::memcpy(on_cpu::lane_value[me], &value, sizeof value);
    on_cpu::wait_warp();
    unsigned from = me % 32 + delta < 32 ? me + delta : me;
    T result; std::memcpy(&result, on_cpu::lane_value[from], sizeof result);
    on_cpu::wait_warp();
    return result;
}

// Shared memory has 32 banks of 4 bytes, and eight lanes that move 16 bytes each do so at once: if no two of them meet in a bank.
static bool two_in_a_bank = false;
extern "C" bool met_in_a_bank() { bool did = two_in_a_bank; two_in_a_bank = false; return did; }
static void eight_pieces(const void* const* piece) {
    unsigned met = 0;
    for (unsigned i = 0; i < 8; ++i) met |= 1u << (unsigned long long)piece[i] / 16 % 8;
    if (met != 0xff) two_in_a_bank = true;
}

// cp.async: 16 bytes on their way from global to shared memory, or zeros. Both addresses must be multiples of 16. Nothing is there before the
// thread that sent for it has waited for the group that it belongs to; so the copy is made as late as it may be, when the wait is over.
namespace on_cpu {
struct Copy { void* shared; const void* global; bool inside; unsigned group; };
static std::vector<Copy> on_their_way[1024];   // of each thread
static unsigned groups[1024];                  // how many each thread has closed
static std::vector<const void*> sent[1024];    // where all copies of each thread went
}
static inline float on_cpu_float(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }
#include "warpgroup_on_cpu.h"
template <bool again> static void copy_16_bytes(void* shared, const void* global, bool inside) {
    if ((unsigned long long)shared % 16 || (unsigned long long)global % 16) refuse("a copy of 16 bytes that is not aligned");
    on_cpu::on_their_way[on_cpu::current].push_back({shared, global, inside, on_cpu::groups[on_cpu::current]});
    unsigned me = on_cpu::current, which = on_cpu::sent[me].size();
    on_cpu::sent[me].push_back(shared);
    if (me % 8 == 7) {                                                        // the last of eight, whose copies belong together
        const void* eight[8];
        bool all = true;
        for (unsigned i = 0; i < 8 && (all = on_cpu::sent[me - 7 + i].size() > which); ++i) eight[i] = on_cpu::sent[me - 7 + i][which];
        if (all) eight_pieces(eight);
    }
    std::memset(shared, 0xff, 16);                                            // NaN: neither the old numbers nor the new ones
    on_cpu::copy_begins(shared);
}
static inline void end_of_group() { ++on_cpu::groups[on_cpu::current]; }
template <int pending> static void wait_for_groups() {
    auto& copies = on_cpu::on_their_way[on_cpu::current];
    std::vector<on_cpu::Copy> later;
    for (auto& copy : copies) {
        if (copy.group + pending >= on_cpu::groups[on_cpu::current]) { later.push_back(copy); continue; }
        on_cpu::copy_is_there(copy.shared);
        if (copy.inside) {
            if (!std::memcmp(copy.global, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16)) refuse("a copy from beyond an array");
            std::memcpy(copy.shared, copy.global, 16);
        }
        else std::memset(copy.shared, 0, 16);
    }
    copies.swap(later);
}

// ldmatrix.sync.aligned.m8n8.x4.shared.b16, and with .trans: lane i names the place of row i % 8 of matrix i / 8. Without .trans it gets, of each
// matrix, columns 2 (i % 4) and the next of row i / 4; with it, rows 2 (i % 4) and the next of column i / 4. The first in the lower half.
template <bool turned> static void load_four(unsigned* four, const void* row) {
    const char* place = (const char*)row;
    if ((unsigned long long)place % 16) refuse("a row of a matrix that is not aligned");
    unsigned me = on_cpu::current, warp = me / 32 * 32;
    std::memcpy(on_cpu::lane_value[me], &place, sizeof place);
    on_cpu::wait_warp();
    for (unsigned i = 0; i < 4; ++i) {
        const void* eight[8];
        for (unsigned row = 0; row < 8; ++row) std::memcpy(eight + row, on_cpu::lane_value[warp + 8 * i + row], sizeof eight[row]);
        if (me == warp) eight_pieces(eight);
    }
    for (unsigned i = 0; i < 4; ++i)
        for (unsigned part = 0; part < 2; ++part) {
            unsigned row = turned ? 2 * (me % 4) + part : me % 32 / 4, column = turned ? me % 32 / 4 : 2 * (me % 4) + part;
            std::memcpy(&place, on_cpu::lane_value[warp + 8 * i + row], sizeof place);
            std::memcpy((char*)(four + i) + 2 * part, place + 2 * column, 2);
        }
    on_cpu::wait_warp();
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, as the PTX manual lays its operands out over the 32 lanes of a warp:
// group = lane / 4, member = lane % 4;
//   A (16x8):  a[i] at row group + 8 (i % 2),      column member + 4 (i / 2)
//   B (8x8):   b[i] at row member + 4 i,           column group
//   D (16x8):  d[i] at row group + 8 (i / 2),      column 2 member + i % 2
// The tensor core looks at the sign, 8 bits of exponent and upper 10 bits of mantissa only.
template <typename Product> static void on_cpu_mma(float* d, const unsigned* a, const unsigned* b, Product product) {
    unsigned me = on_cpu::current, warp = me / 32 * 32, group = me % 32 / 4, member = me % 4;
    std::memcpy(on_cpu::lane_value[me], a, 16); std::memcpy(on_cpu::lane_value[me] + 4, b, 8);
    on_cpu::wait_warp();
    for (int i = 0; i < 4; ++i) {
        unsigned row = group + 8 * (i / 2), column = 2 * member + i % 2;
        for (unsigned k = 0; k < 8; ++k)                                      // eight registers of A and B that meet
            d[i] += product(on_cpu::lane_value[warp + row % 8 * 4 + k % 4][row / 8 + 2 * (k / 4)],
                            on_cpu::lane_value[warp + column * 4 + k % 4][4 + k / 4]);
    }
    on_cpu::wait_warp();
}
static inline void mma_tf32(float* d, const unsigned* a, const unsigned* b) {
    on_cpu_mma(d, a, b, [](unsigned a, unsigned b) { return on_cpu_float(a & 0xffffe000u) * on_cpu_float(b & 0xffffe000u); });
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: the same, and register i of A holds columns 2 member + 8 (i / 2) and the next one, that of
// B rows 2 member + 8 i and the next one; the first of the two in the lower half.
static inline void mma_bf16(float* d, const unsigned* a, const unsigned* b) {
    on_cpu_mma(d, a, b, [](unsigned a, unsigned b) {
        return on_cpu_float(a << 16) * on_cpu_float(b << 16) + on_cpu_float(a & 0xffff0000u) * on_cpu_float(b & 0xffff0000u);
    });
}
static inline unsigned on_cpu_bf16(float value) {                             // to nearest, ties to even
    unsigned bits; std::memcpy(&bits, &value, 4);
    return std::isnan(value) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline unsigned two_bf16(float low, float high) { return on_cpu_bf16(low) | on_cpu_bf16(high) << 16; }
namespace on_cpu {
static void start_of_block() { for (unsigned t = 0; t < 1024; ++t) { on_their_way[t].clear(); sent[t].clear(); groups[t] = 0; } warpgroups_begin(); }
static void end_of_block() { warpgroups_end(); }
}
struct float2 {
    float x, y;
    void operator=(const float2& from) { if ((unsigned long long)this % 8) refuse("8 bytes stored where none may be"); std::memcpy(this, &from, 8); }
};
static inline float __uint_as_float(unsigned bits) { return on_cpu_float(bits); }
static inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
