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

// The tensor core in TF32, and copies that are under way while others compute (compute capability 8.0; tensor_cores.cu has the explanation).

// Rounds to the 10 bits of mantissa that the tensor core looks at. It cuts the rest off, so something is added first: 0.72 / 2048 of the
// value, between 0.36 and 0.72 of half the last bit's worth. One multiplication, where the instruction made for it (cvt.rna) becomes two and
// adding to the bits would turn NaN into 0. What 10 bits hold stays as it is, and errors are no larger than with cvt.rna: 3e-4 of the value.
__device__ __forceinline__ unsigned to_tf32(float value) { return __float_as_uint(value * (1 + 0.72f / 2048)); }

__device__ __forceinline__ void mma_tf32(float* d, const unsigned* a, const unsigned* b) {      // d += a b, by the whole warp
#if defined(NPUNET_ON_CPU)
    on_cpu_mma(d, a, b);
#elif __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four floats from global to shared memory, or zeros, in the background; `arrived` waits for all but the newest `pending` groups.
__device__ __forceinline__ void copy_four(float* shared, const float* global, bool inside) {
#if defined(NPUNET_ON_CPU)
    on_cpu_copy_four(shared, global, inside);
#elif __CUDA_ARCH__ >= 800
    unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(inside ? 16 : 0));
#endif
}
__device__ __forceinline__ void end_of_group() {
#if defined(NPUNET_ON_CPU)
    on_cpu_end_of_group();
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}
template <int pending> __device__ __forceinline__ void arrived() {
#if defined(NPUNET_ON_CPU)
    on_cpu_wait_group(pending);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending));
#endif
    __syncthreads();                                           // what this thread copied is there; now everybody's is
}

