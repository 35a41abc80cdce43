// What the .cu files of this folder share; CudaFile puts instructions.cuh and this before each of them.

#define UNROLL _Pragma("unroll")                               // for loops that must be gone when the kernel runs
#define SUM_THREADS 256                                        // of a block that calls block_sum

// The sum of one number from each thread of the block, known to thread 0. Warps first: a shuffle hands a register from thread to thread
// without memory; then the eight sums of the warps through shared memory.
__device__ __forceinline__ double block_sum(double value) {
    __shared__ double of_warp[SUM_THREADS / 32];
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int warp = 1; warp < SUM_THREADS / 32; ++warp) value += of_warp[warp];
    return value;
}

// Rounds to the 10 bits of mantissa that the tensor core looks at. It cuts the rest off, so something is added first: 0.72 / 2048 of the
// value, between 0.36 and 0.72 of half the last bit's worth. One multiplication, where the instruction made for it (cvt.rna) becomes two and
// adding to the bits would turn NaN into 0. What 10 bits hold stays as it is, and errors are no larger than with cvt.rna: 3e-4 of the value.
__device__ __forceinline__ unsigned to_tf32(float value) { return __float_as_uint(value * (1 + 0.72f / 2048)); }

// A feature map's number in 16 bits, the upper half of a float (sixteen_bits.py). It is read as a float and computed with as one; to store
// a float rounds it, to nearest. In the kernels MAP is what a feature map is stored in, this or REAL, and REAL is what is computed with.
struct bf16 {
    unsigned short bits;
    bf16() = default;
    __device__ __forceinline__ bf16(float value) : bits(two_bf16(value, 0) & 0xffff) {}
    __device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
template <typename Number> __device__ __forceinline__ void store_two(Number* at, float first, float second) { *(float2*)at = {first, second}; }
__device__ __forceinline__ void store_two(bf16* at, float first, float second) { *(unsigned*)at = two_bf16(first, second); }

#ifndef MAP
#define MAP REAL
#endif

// What the tensor core kernels say in both precisions. An operand is a register: one number in TF32, rounded here, or two neighbours in
// bfloat16, as they lie in memory; there the tensor core multiplies 16 numbers deep at once, and not 8.
#define IN_REGISTER (4 / (int)sizeof(MAP))                     // numbers
#define IN_COPY (16 / (int)sizeof(MAP))                        // numbers that one copy in the background moves
#define DEPTH (8 * IN_REGISTER)
__device__ __forceinline__ void load_operands(unsigned* four, const MAP* row) {             // 16 bytes a row, see load_four
    load_four<false>(four, row);
    if (sizeof(MAP) == 4) UNROLL for (int i = 0; i < 4; ++i) four[i] = to_tf32(__uint_as_float(four[i]));
}
__device__ __forceinline__ void mma(float* d, const unsigned* a, const unsigned* b) {
    if (sizeof(MAP) == 2) mma_bf16(d, a, b);
    else mma_tf32(d, a, b);
}

// Two neighbouring outputs, k and k + 1, of a pixel, where they lie: with bias and ReLU in y if they are whole, else as they are in partial.
__device__ __forceinline__ void store_outputs(MAP* y, float* partial, long long at, bool whole, float first, float second, const float* bias,
                                              int k, int has_bias, int relu) {
    if (!whole) return store_two(partial + at, first, second);
    if (has_bias) { first += bias[k]; second += bias[k + 1]; }
    store_two(y + at, relu && first < 0 ? 0 : first, relu && second < 0 ? 0 : second);
}

// All groups of copies but the newest `pending` are in shared memory: those of this thread after the wait, everybody's after the barrier.
template <int pending> __device__ __forceinline__ void arrived() {
    wait_for_groups<pending>();
    __syncthreads();
}

// Which row of a slab the i-th four threads gather: 0, 4, 1, 5, 2, 6, 3, 7 of each eight. Eight threads store at once, two rows of 64 bytes. Rows
// that follow each other would have banks in common; rows that lie four apart do not, for a row is 80, 144 or 272 bytes long.
__device__ __forceinline__ int gathered_row(int i) { return i / 8 * 8 + i % 2 * 4 + i % 8 / 2; }
