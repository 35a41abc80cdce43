// The instructions of npunet/gpu/warpgroup.cuh on a CPU, by the rules of NVIDIA's PTX manual (ISA 9.0, "Asynchronous warpgroup level matrix
// instructions" and "Async proxy"). Part of cuda_on_cpu.h. It knows nothing of wgmma.cu: descriptors of every swizzle are understood.
//
// A GPU may do a product at any time between the instruction and the wait, and answers a mistake with wrong numbers, now and then. Here:
//   - tensor cores see a memory of their own, NaN where nobody has shown a copy with fence.proxy.async after waiting for it;
//   - operands are read when the product is asked for and again at the wait; they must not have changed;
//   - sums are NaN in between, and whoever writes to them is refused;
//   - a product without wgmma.fence behind the last wait, or with sums that were written behind the fence, is refused;
//   - all lanes of a warp must ask for the same, and the four warps of a warpgroup for the same in the same order. They do not wait for
//     each other: no instruction here promises that.
#pragma once

namespace on_cpu {
static const unsigned begin = 1024 + 128;      // the address of SHARED_OF_LAUNCH: the first 1024 are the system's, and 128 is all that is promised
static unsigned char seen[sizeof of_launch];                   // the same memory as tensor cores see it
static std::vector<unsigned> not_shown[1024];                  // what each thread has copied and waited for

struct Asked { unsigned what; unsigned long long a, b; bool operator!=(const Asked& other) const { return what != other.what || a != other.a || b != other.b; } };
struct Product { Asked asked; unsigned group; std::vector<float> a, b; };
static std::vector<Product> in_flight[32];                     // of each warp
static std::vector<Asked> order[8];                            // what the fastest warp of each warpgroup has asked for, and how far each warp is
static unsigned asked_by[32], closed[32];                      // how many groups each warp has closed
struct Sums { float* place; unsigned count; std::vector<float> before; bool fenced, flying; };
static Sums sums[1024];                                        // of each thread, as its last fence found them

static bool inside(unsigned long at, unsigned bytes) { return at < bytes_of_launch && bytes <= bytes_of_launch - at; }
static unsigned long place_of(const void* place) { return (unsigned char*)place - of_launch; }         // enormous for what lies elsewhere
static void copy_begins(void* place) { if (inside(place_of(place), 16)) std::memset(seen + place_of(place), 0xff, 16); }
static void copy_is_there(void* place) { if (inside(place_of(place), 16)) not_shown[current].push_back(place_of(place)); }

// The 16 columns of `rows` rows from `first` on, as floats. Of 64 bits: 0 to 13 where it begins, 16 to 29 how far its second 8 columns are
// (without swizzle only), 32 to 45 how far the next eight rows are, all three in 16 bytes; 49 to 51 an offset for patterns that do not
// begin at a multiple of their size; 62 and 63 the swizzle: 0 none, 1, 2, 3 in rows of 128, 64, 32 bytes. A swizzle exchanges pieces of 16 bytes:
// bits 4 up of an address are exclusive-ored with bits 7 up, three, two or one of them.
static std::vector<float> operand(unsigned long long descriptor, unsigned first, unsigned rows) {
    unsigned start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
    unsigned mode = descriptor >> 62, row_bytes = mode ? 256 >> mode : 16;
    if (descriptor & 0x3ff1c000c000c000ull) refuse("a descriptor with bits that mean nothing");
    if (descriptor >> 49 & 7) refuse("a descriptor with a base offset");       // there is such a thing; nobody here needs it
    if (mode && start % (8 * row_bytes) >= row_bytes) refuse("a matrix that begins within the pattern of its swizzle");
    if (mode && start % row_bytes + 32 > row_bytes) refuse("a matrix that goes beyond the rows of its swizzle");
    std::vector<float> values;
    for (unsigned row = first; row < first + rows; ++row)
        for (unsigned k = 0; k < 16; ++k) {
            unsigned address = start + row % 8 * row_bytes + row / 8 * stride + k / 8 * (mode ? 16 : leading) + k % 8 * 2;
            if (mode) address ^= (address >> 7 & (row_bytes / 16 - 1)) << 4;
            unsigned short bits = 0xffff;
            if (inside((unsigned long)address - begin, 2)) std::memcpy(&bits, seen + address - begin, 2);
            else refuse("a matrix beyond the shared memory of this launch");
            values.push_back(on_cpu_float((unsigned)bits << 16));
        }
    return values;
}
static Product product(const Asked& asked, unsigned warp) { return {asked, closed[warp], operand(asked.a, warp % 4 * 16, 16), operand(asked.b, 0, asked.what)}; }
static bool same_bits(const float* a, const std::vector<float>& b) { return !std::memcmp(a, b.data(), 4 * b.size()); }

// What all lanes of a warp do together; `once` is done by one of them while the others wait.
enum { FENCE, CLOSE, WAIT };                                   // or a product, by the number of its outputs
static void together(Asked asked, const std::function<void()>& once) {
    unsigned warp = current / 32;
    if (in_block % 128) refuse("a warpgroup that is not whole");
    std::memcpy(lane_value[current], &asked, sizeof asked);
    wait_warp();
    Asked first;
    std::memcpy(&first, lane_value[warp * 32], sizeof first);
    if (asked != first) refuse("lanes of a warp that ask for different products");
    if (current % 32 == 0) {
        auto& mine = order[warp / 4];
        if (asked_by[warp] == mine.size()) mine.push_back(asked);
        if (mine[asked_by[warp]++] != asked) refuse("warps of a warpgroup that ask for different products");
        once();
    }
    wait_warp();
}
static bool all_garbage(const Sums& mine) { for (unsigned i = 0; i < 4 * mine.count; ++i) if (((unsigned char*)mine.place)[i] != 0xff) return false; return true; }

static void begin_products(float* d, unsigned count) {
    Sums& mine = sums[current];
    if (mine.flying && (mine.place != d || !all_garbage(mine))) refuse("sums that were written while products were on their way");
    if (!mine.flying) mine = {d, count, std::vector<float>(d, d + count), true, false};
    together({FENCE, 0, 0}, [] {});
}
static void multiply(float* d, unsigned count, unsigned long long a, unsigned long long b) {
    Sums& mine = sums[current];
    if (!mine.fenced) refuse("a product without wgmma.fence");
    else if (mine.place != d || mine.count != count) refuse("a product with other sums than the fence named");
    else if (mine.flying ? !all_garbage(mine) : !same_bits(d, mine.before)) refuse("sums that were written behind the fence");
    std::memset(d, 0xff, 4 * count);
    mine.flying = true;
    unsigned warp = current / 32;
    Asked asked = {2 * count, a, b};
    together(asked, [&] { in_flight[warp].push_back(product(asked, warp)); });
}
static void close() { together({CLOSE, 0, 0}, [] { ++closed[current / 32]; }); }
static void wait_for_products(float* d, unsigned pending) {    // for all groups but the newest `pending`
    Sums& mine = sums[current];
    unsigned warp = current / 32, lane = current % 32;
    if (mine.flying && (mine.place != d || !all_garbage(mine))) refuse("sums that were written while products were on their way");
    auto waited_for = [&](const Product& one) { return one.group + pending < closed[warp]; };
    together({WAIT, pending, 0}, [&] {
        for (auto& one : in_flight[warp]) {
            if (!waited_for(one)) continue;                    // a product that no group holds is never waited for
            Product now = product(one.asked, warp);
            if (!same_bits(one.a.data(), now.a) || !same_bits(one.b.data(), now.b)) refuse("operands that were overwritten before their product was done");
            one.a = now.a; one.b = now.b;
        }
    });
    for (auto& one : in_flight[warp])
        for (unsigned i = 0; waited_for(one) && i < mine.count; ++i)          // row lane / 4 and + 8 of the warp's 16, columns 8 (i / 4) + 2 (lane % 4) and + 1
            for (unsigned k = 0, row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2; k < 16; ++k)
                mine.before[i] += one.a[16 * row + k] * one.b[16 * column + k];
    wait_warp();
    if (lane == 0) {
        auto& all = in_flight[warp];
        while (!all.empty() && waited_for(all.front())) all.erase(all.begin());
    }
    wait_warp();
    if (!in_flight[warp].empty()) return;
    if (mine.flying) std::memcpy(d, mine.before.data(), 4 * mine.count);
    mine.fenced = mine.flying = false;
}
static void warpgroups_begin() {
    if (!bytes_of_launch) return;
    std::memset(seen, 0xff, bytes_of_launch);
    for (auto& mine : not_shown) mine.clear();
    for (auto& mine : sums) mine.fenced = mine.flying = false;
    for (auto& mine : in_flight) mine.clear();
    for (auto& mine : order) mine.clear();
    for (unsigned warp = 0; warp < 32; ++warp) asked_by[warp] = closed[warp] = 0;
}
static void warpgroups_end() {
    if (!bytes_of_launch) return;
    for (unsigned warp = 0; warp < in_block / 32; ++warp) {
        if (!in_flight[warp].empty()) refuse("a block that ends before its products are done");
        if (asked_by[warp] != order[warp / 4].size()) refuse("a warp that leaves the others of its warpgroup alone");
    }
}
}  // namespace on_cpu

static inline unsigned shared_address(const void* place) {
    if (!on_cpu::inside(on_cpu::place_of(place), 1)) refuse("an address of shared memory that lies elsewhere");
    return on_cpu::begin + on_cpu::place_of(place);
}
static inline void show_copies() {
    for (unsigned at : on_cpu::not_shown[on_cpu::current]) std::memcpy(on_cpu::seen + at, on_cpu::of_launch + at, 16);
    on_cpu::not_shown[on_cpu::current].clear();
}
template <int count> static void wgmma_fence(float (&d)[count]) { on_cpu::begin_products(d, count); }
template <int count> static void wgmma(float (&d)[count], unsigned long long a, unsigned long long b) { on_cpu::multiply(d, count, a, b); }
static inline void wgmma_close() { on_cpu::close(); }
template <int pending, int count> static void wgmma_wait(float (&d)[count]) { on_cpu::wait_for_products(d, pending); }
