// 3x3 convolution as one large matrix product on the tensor cores, in TF32 ("implicit GEMM"); needs compute capability 8.0.
//
// im2col makes of every window a row of a matrix (pixels, 9 C) and multiplies it by the kernel as a matrix (9 C, K). That matrix is nine
// times as large as the image, so here it is never written: a block of threads gathers just the piece of it that it needs next, from the
// image into shared memory. That memory is small, near, and common to the threads of the block.
//
// One block computes 128 pixels x BN channels of y. It goes through the 9 C products in slabs of 16 channels of one tap:
//     gather A (128 pixels, 16) and B (16, BN) of the next slab         <- memory works (cp.async: without waiting, past the registers)
//     multiply the slab that is there already                          <- tensor cores work meanwhile
// so two slabs are in shared memory at a time ("double buffering").
//
// The block's eight warps share its result out, 4 x 2. A tensor core multiplies (16, 8) by (8, 8) for a whole warp at once: each of the 32
// threads brings some elements of both and keeps four of the result; which ones, NVIDIA's PTX manual lays down (mma.m16n8k8):
// with group = lane / 4 and member = lane % 4,
//     A: rows group and group + 8, columns member and member + 4      B: rows member and member + 4, column group
//     D: rows group and group + 8, columns 2 member and 2 member + 1
// Rows in shared memory are 20 (or BN + 8) numbers long, not 16 (or BN): so the 32 threads of a warp read from 32 different banks.
//
// The input gradient is the same product with the flipped kernel. That kernel is never written: B is gathered from the weights where they
// lie, a channel of dx with 16 channels of dy that are neighbours in memory (FLIP).
//
// TF32 keeps 8 bits of exponent and 10 bits of mantissa; sums are float32.

#define BM 128
#define SLAB 16
#define A_ROW 20

// One share of the nine taps, the one of blockIdx.z: all of them where there are enough blocks without. Shares go to y (shares, pixels, K),
// without bias and ReLU, to be added up by add_shares.
template <int BN, bool FLIP>
__device__ __forceinline__ void mma_convolve(const float* x, const float* weight, const float* bias, float* y, int pixels, int height, int width,
                                             int channels, int out_height, int out_width, int outputs, int padding, int has_bias, int relu) {
    constexpr int TILES = BN / 16;                             // 8x8 tiles of B for each warp, whose part is 32 x BN / 2
    constexpr int B_ROW = FLIP ? A_ROW : BN + 8;               // B is there as it lies in memory: (16, BN), or flipped (BN, 16)
    constexpr int LOADS = SLAB * BN / 4 / 256;
    __shared__ __align__(16) float a_slab[2][BM * A_ROW];
    __shared__ __align__(16) float b_slab[2][(FLIP ? BN : SLAB) * B_ROW];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    int first_pixel = blockIdx.x * BM, first_k = blockIdx.y * BN;

    // What this thread gathers of A: four channels of two pixels, `load_row` and 64 further on. Where their windows begin:
    int load_row = threadIdx.x / 4, load_c = threadIdx.x % 4 * 4, top[2], left[2], image[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        int pixel = first_pixel + load_row + 64 * r, rest = pixel / out_width;
        left[r] = pixel % out_width - padding;
        top[r] = pixel < pixels ? rest % out_height - padding : -1000000;      // no such pixel: outside of any image
        image[r] = rest / out_height;
    }
    int taps = 9 / gridDim.z, slabs = taps * (channels / SLAB), tap = blockIdx.z * taps, c0 = 0;
    y += (long long)blockIdx.z * pixels * outputs;
    auto gather = [&](int slab) {                              // slabs come in order, so that tap and c0 need no division
        float *a = a_slab[slab % 2], *b = b_slab[slab % 2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            int row = top[r] + tap / 3, column = left[r] + tap % 3;
            bool inside = row >= 0 && row < height && column >= 0 && column < width;
            long long at = inside ? ((long long)(image[r] * height + row) * width + column) * channels + c0 + load_c : 0;
            copy_four(a + (load_row + 64 * r) * A_ROW + load_c, x + at, inside);
        }
#pragma unroll
        for (int l = 0; l < LOADS; ++l) {                      // so many rounds of all threads: no loop is left of it
            int i = threadIdx.x + 256 * l;
            int k = FLIP ? i / (SLAB / 4) : i % (BN / 4) * 4, c = FLIP ? i % (SLAB / 4) * 4 : i / (BN / 4);
            bool inside = first_k + k < outputs;
            long long at = FLIP ? (long long)((8 - tap) * outputs + first_k + k) * channels + c0 + c
                                : (long long)(tap * channels + c0 + c) * outputs + first_k + k;
            copy_four(b + (FLIP ? k * B_ROW + c : c * B_ROW + k), weight + (inside ? at : 0), inside);
        }
        end_of_group();
        c0 += SLAB;
        if (c0 == channels) { c0 = 0; ++tap; }
    };

    float sum[2][TILES][4] = {};                               // this thread's share of y, in registers all along
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * (BN / 2);
    gather(0);
    for (int slab = 0; slab < slabs; ++slab) {
        if (slab + 1 < slabs) {
            gather(slab + 1);
            arrived<1>();
        } else {
            arrived<0>();
        }
        const float* a = a_slab[slab % 2] + (warp_row + group) * A_ROW + member;
        const float* b = b_slab[slab % 2] + (FLIP ? (warp_column + group) * B_ROW + member : member * B_ROW + warp_column + group);
#pragma unroll
        for (int step = 0; step < SLAB; step += 8) {
            unsigned of_a[2][4], of_b[TILES][2];
#pragma unroll
            for (int m = 0; m < 2; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) of_a[m][i] = to_tf32(a[(16 * m + 8 * (i % 2)) * A_ROW + step + 4 * (i / 2)]);
#pragma unroll
            for (int t = 0; t < TILES; ++t)
#pragma unroll
                for (int i = 0; i < 2; ++i) of_b[t][i] = to_tf32(b[FLIP ? 8 * t * B_ROW + step + 4 * i : (step + 4 * i) * B_ROW + 8 * t]);
#pragma unroll
            for (int m = 0; m < 2; ++m)
#pragma unroll
                for (int t = 0; t < TILES; ++t) mma_tf32(sum[m][t], of_a[m], of_b[t]);
        }
        __syncthreads();                                       // all have read this slab; the next gather may overwrite it
    }
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int half = 0; half < 2; ++half) {             // two neighbouring channels of a pixel: one store of 8 bytes
                int pixel = first_pixel + warp_row + 16 * m + group + 8 * half, k = first_k + warp_column + 8 * t + 2 * member;
                if (pixel < pixels && k < outputs) {
                    float2 value = {sum[m][t][2 * half] + (has_bias ? bias[k] : 0), sum[m][t][2 * half + 1] + (has_bias ? bias[k + 1] : 0)};
                    if (relu && value.x < 0) value.x = 0;
                    if (relu && value.y < 0) value.y = 0;
                    *(float2*)(y + (long long)pixel * outputs + k) = value;
                }
            }
}

extern "C" __global__ void __launch_bounds__(256) convolve_128(const float* x, const float* weight, const float* bias, float* y, int pixels, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding, int has_bias, int relu) {
    mma_convolve<128, false>(x, weight, bias, y, pixels, height, width, channels, out_height, out_width, outputs, padding, has_bias, relu);
}
extern "C" __global__ void __launch_bounds__(256) convolve_64(const float* x, const float* weight, const float* bias, float* y, int pixels, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding, int has_bias, int relu) {
    mma_convolve<64, false>(x, weight, bias, y, pixels, height, width, channels, out_height, out_width, outputs, padding, has_bias, relu);
}
extern "C" __global__ void __launch_bounds__(256) flipped_128(const float* x, const float* weight, const float* bias, float* y, int pixels, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding, int has_bias, int relu) {
    mma_convolve<128, true>(x, weight, bias, y, pixels, height, width, channels, out_height, out_width, outputs, padding, has_bias, relu);
}
extern "C" __global__ void __launch_bounds__(256) flipped_64(const float* x, const float* weight, const float* bias, float* y, int pixels, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding, int has_bias, int relu) {
    mma_convolve<64, true>(x, weight, bias, y, pixels, height, width, channels, out_height, out_width, outputs, padding, has_bias, relu);
}

// y = the sum of the shares of mma_convolve, in their order, + bias, then max(0, y) with relu.
extern "C" __global__ void add_shares(const float* partial, const float* bias, float* y, int count, int outputs, int shares, int has_bias, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float value = partial[i];
    for (int share = 1; share < shares; ++share) value += partial[(long long)share * count + i];
    if (has_bias) value += bias[i % outputs];
    y[i] = relu && value < 0 ? 0 : value;
}

// The weight gradient of one tap: dweight (C, K) = x shifted by the tap, turned (C, pixels), times dz (pixels, K). TILE x TILE results for
// each block, TILE / 4 x TILE / 2 of them for each warp; the pixels are shared out over gridDim.z / 9 blocks, whose sums go to partial
// (splits, 9, C, K), to be added up afterwards. The larger the tile, the fewer times x and dz are read, from memory and from shared memory.
template <int TILE>
__device__ __forceinline__ void mma_tap_gradient(const float* x, const float* dz, float* partial, int pixels, int share, int height, int width,
                                                 int channels, int out_height, int out_width, int outputs, int padding) {
    constexpr int ROW = TILE + 8, QUADS = TILE / 4, LOADS = SLAB * QUADS / 256, TILES_M = TILE / 64, TILES_N = TILE / 16;
    __shared__ __align__(16) float a_slab[2][SLAB * ROW];      // 16 pixels x TILE channels of x
    __shared__ __align__(16) float b_slab[2][SLAB * ROW];      // 16 pixels x TILE channels of dz
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    int first_c = blockIdx.x * TILE, first_k = blockIdx.y * TILE, tap = blockIdx.z % 9, split = blockIdx.z / 9;
    int first = split * share, last = min(first + share, pixels), slabs = (last - first + SLAB - 1) / SLAB;

    // What this thread gathers of each slab: four channels of LOADS pixels. Where these are in dz; a slab further on, 16 pixels further on.
    int load_c = threadIdx.x % QUADS * 4, pixel[LOADS], column[LOADS], row[LOADS], image[LOADS];
#pragma unroll
    for (int l = 0; l < LOADS; ++l) {
        pixel[l] = first + threadIdx.x / QUADS + l * (256 / QUADS);
        column[l] = pixel[l] % out_width;
        row[l] = pixel[l] / out_width % out_height;
        image[l] = pixel[l] / out_width / out_height;
    }
    auto gather = [&](int slab) {                              // slabs come in order, so that no pixel needs a division
#pragma unroll
        for (int l = 0; l < LOADS; ++l) {
            int at = (threadIdx.x / QUADS + l * (256 / QUADS)) * ROW + load_c, down = row[l] + tap / 3 - padding, across = column[l] + tap % 3 - padding;
            bool known = pixel[l] < last;
            bool inside = known && down >= 0 && down < height && across >= 0 && across < width && first_c + load_c < channels;
            copy_four(a_slab[slab % 2] + at,
                      x + (inside ? ((long long)(image[l] * height + down) * width + across) * channels + first_c + load_c : 0), inside);
            inside = known && first_k + load_c < outputs;
            copy_four(b_slab[slab % 2] + at, dz + (inside ? (long long)pixel[l] * outputs + first_k + load_c : 0), inside);
            pixel[l] += SLAB;
            for (column[l] += SLAB; column[l] >= out_width; column[l] -= out_width)
                if (++row[l] == out_height) {
                    row[l] = 0;
                    ++image[l];
                }
        }
        end_of_group();
    };
    float sum[TILES_M][TILES_N][4] = {};
    int warp_row = warp / 2 * (TILE / 4), warp_column = warp % 2 * (TILE / 2);
    if (slabs > 0) gather(0);
    for (int slab = 0; slab < slabs; ++slab) {
        if (slab + 1 < slabs) {
            gather(slab + 1);
            arrived<1>();
        } else {
            arrived<0>();
        }
        const float *a = a_slab[slab % 2] + member * ROW + warp_row + group, *b = b_slab[slab % 2] + member * ROW + warp_column + group;
#pragma unroll
        for (int step = 0; step < SLAB; step += 8) {
            unsigned of_a[TILES_M][4], of_b[2];
#pragma unroll
            for (int m = 0; m < TILES_M; ++m)
#pragma unroll
                for (int i = 0; i < 4; ++i) of_a[m][i] = to_tf32(a[(step + 4 * (i / 2)) * ROW + 16 * m + 8 * (i % 2)]);
#pragma unroll
            for (int t = 0; t < TILES_N; ++t) {
#pragma unroll
                for (int i = 0; i < 2; ++i) of_b[i] = to_tf32(b[(step + 4 * i) * ROW + 8 * t]);
#pragma unroll
                for (int m = 0; m < TILES_M; ++m) mma_tf32(sum[m][t], of_a[m], of_b);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < TILES_M; ++m)
#pragma unroll
        for (int t = 0; t < TILES_N; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int c = first_c + warp_row + 16 * m + group + 8 * (i / 2), k = first_k + warp_column + 8 * t + 2 * member + i % 2;
                if (c < channels && k < outputs) partial[((long long)(split * 9 + tap) * channels + c) * outputs + k] = sum[m][t][i];
            }
}

extern "C" __global__ void __launch_bounds__(256) tap_gradient_128(const float* x, const float* dz, float* partial, int pixels, int share, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding) {
    mma_tap_gradient<128>(x, dz, partial, pixels, share, height, width, channels, out_height, out_width, outputs, padding);
}
extern "C" __global__ void __launch_bounds__(256) tap_gradient_64(const float* x, const float* dz, float* partial, int pixels, int share, int height,
        int width, int channels, int out_height, int out_width, int outputs, int padding) {
    mma_tap_gradient<64>(x, dz, partial, pixels, share, height, width, channels, out_height, out_width, outputs, padding);
}
