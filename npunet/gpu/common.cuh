// What the .cu files of this folder share; CudaFile puts it before each of them.

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

