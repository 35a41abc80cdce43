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

// What kernels say that know both precisions (tensor_cores.cu): the tensor core multiplies DEPTH numbers deep at once. An operand is one
// register: a number in TF32, or in bfloat16 two, which lie `next` apart.
#if BF16
#define DEPTH 16
__device__ __forceinline__ unsigned operand(const float* at, int next) { return two_bf16(at[0], at[next]); }
__device__ __forceinline__ void mma(float* d, const unsigned* a, const unsigned* b) { mma_bf16(d, a, b); }
#else
#define DEPTH 8
__device__ __forceinline__ unsigned operand(const float* at, int) { return to_tf32(at[0]); }
__device__ __forceinline__ void mma(float* d, const unsigned* a, const unsigned* b) { mma_tf32(d, a, b); }
#endif

// All groups of copies but the newest `pending` are in shared memory: those of this thread after the wait, everybody's after the barrier.
template <int pending> __device__ __forceinline__ void arrived() {
    wait_for_groups<pending>();
    __syncthreads();
}
