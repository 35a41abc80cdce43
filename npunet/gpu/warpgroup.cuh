// The instructions of wgmma.cu, which compute capability 9.0 has and no other, earlier or later ("sm_90a"). wgmma.cu explains what they are
// good for; tests/warpgroup_on_cpu.h has the same functions in plain C++, with the rules that NVIDIA's PTX manual lays down for them.
//
// A register that an instruction is said to change ("+f") cannot be read or written by the compiler on the other side of it. So the fence
// and the wait name the sums too, although they leave them alone.

// Where in shared memory something lies, in bytes.
__device__ __forceinline__ unsigned shared_address(const void* place) { return (unsigned)__cvta_generic_to_shared(place); }

// What this thread has copied, and waited for, is seen by tensor cores too when they read shared memory by themselves.
__device__ __forceinline__ void show_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Products from here on up to the next wgmma_close are a group.
__device__ __forceinline__ void wgmma_close() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

#define EIGHT(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48), EIGHT(56)

// What was done to the sums before is done; now wgmma may have them.
__device__ __forceinline__ void wgmma_fence(float (&d)[64]) { asm volatile("wgmma.fence.sync.aligned;" : SUMS :: "memory"); }

// sums += a b, (64, 16) by (16, 128), by the four warps together, in the background; a and b are descriptors. Behind them: 1, the sums that
// are there count; 1 and 1, neither sign is turned; 0 and 0, the channels of a row are neighbours in memory, in a and in b.
__device__ __forceinline__ void wgmma(float (&d)[64], unsigned long long a, unsigned long long b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
                 "%64, %65, 1, 1, 1, 0, 0;" : SUMS : "l"(a), "l"(b) : "memory");
}

// All groups but the newest `pending` are done: what they multiplied may be overwritten and, with 0, the sums may be read.
template <int pending> __device__ __forceinline__ void wgmma_wait(float (&d)[64]) {
    asm volatile("wgmma.wait_group.sync.aligned %64;" : SUMS : "n"(pending) : "memory");
}
