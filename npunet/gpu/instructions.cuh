// The instructions of tensor cores and of copies in the background, which C++ has no words for (compute capability 8.0 and higher; on
// older ones they do nothing, and nobody launches the kernels that use them). tensor_cores.cu explains what they are good for.
//
// tests/cuda_on_cpu.h has the same functions in plain C++ and puts them in the place of this file.

// Shared memory of a block, of as many bytes as the launch says (`shared` in cuda.py). There is no other way to more than 48 KB.
#define SHARED_OF_LAUNCH(name) extern __shared__ __align__(128) unsigned char name[]

// d += a b, by the whole warp: (16, 8) by (8, 8) in TF32.
__device__ __forceinline__ void mma_tf32(float* d, const unsigned* a, const unsigned* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The same, (16, 16) by (16, 8) in bfloat16: each register holds two numbers.
__device__ __forceinline__ void mma_bf16(float* d, const unsigned* a, const unsigned* b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Two numbers rounded to bfloat16, to nearest and ties to even, in one register: `low` in the lower half.
__device__ __forceinline__ unsigned two_bf16(float low, float high) {
    unsigned both = 0;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
    return both;
}

// Four matrices of 8 x 8 numbers of 16 bits from shared memory, a register for each, by the whole warp. Lane i says where row i % 8 of matrix
// i / 8 lies: 16 bytes. It gets, of each matrix, two neighbours of row i / 4, columns 2 (i % 4) and the next: just what `mma_bf16` wants. Turned,
// it gets two neighbours of column i / 4. Not turned, two neighbours of 16 bits may as well be one number of 32.
template <bool turned> __device__ __forceinline__ void load_four(unsigned* four, const void* row) {
#if __CUDA_ARCH__ >= 800
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    if (turned) asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3]) : "r"(address));
    else asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                      : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3]) : "r"(address));
#endif
}

// 16 bytes from global to shared memory, or zeros, in the background. `again`: others of this multiprocessor read the same numbers soon,
// so they are kept in its cache; else they pass it by.
template <bool again> __device__ __forceinline__ void copy_16_bytes(void* shared, const void* global, bool inside) {
#if __CUDA_ARCH__ >= 800
    unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    if (again) asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(inside ? 16 : 0));
    else asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(inside ? 16 : 0));
#endif
}
__device__ __forceinline__ void end_of_group() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}
template <int pending> __device__ __forceinline__ void wait_for_groups() {      // all of this thread's but the newest `pending`
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(pending));
#endif
}
