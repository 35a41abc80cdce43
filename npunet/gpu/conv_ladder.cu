// One 3x3 convolution in five kernels, from the definition to the idea of tensor_cores.cu: each rung mends what held up the one before.
//
//     ladder_one         a thread computes one result                 every number comes from far away, once for each product
//     ladder_tile        ... from tiles in shared memory              each number is fetched once for 16 results
//     ladder_registers   ... 8 x 8 results at a time                  each number of shared memory serves 8 products
//     ladder_tensor      ... by the tensor cores                      a warp multiplies (16, 8) by (8, 8) at once, in TF32
//     ladder_overlap     ... while the next tile is on its way        memory and tensor cores work at the same time
//
// All do the same: x (H, W, C), weight (3, 3, C, K) -> y (H - 2, W - 2, K), no padding, no bias. Convolution is a product of two matrices,
//     windows (pixels, 9 C) @ weight (9 C, K)
// and the first of them is never written: `window` says where its numbers lie in x.

__device__ __forceinline__ const float* window(const float* x, int pixel, int p, int width, int channels) {       // row, column of the matrix
    int tap = p / channels, c = p % channels, row = pixel / (width - 2) + tap / 3, column = pixel % (width - 2) + tap % 3;
    return x + ((long long)row * width + column) * channels + c;
}

// 1. The definition. Thread i computes result i. Of two products and additions each needs two numbers from memory, which is some hundred times
// too slow to keep the arithmetic busy. What saves it from worse: neighbouring threads read neighbouring weights, and the cache.
extern "C" __global__ void ladder_one(const float* x, const float* weight, float* y, int height, int width, int channels, int outputs) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, pixels = (height - 2) * (width - 2);
    if (i >= pixels * outputs) return;
    int pixel = i / outputs, k = i % outputs;
    float sum = 0;
    for (int p = 0; p < 9 * channels; ++p) sum += *window(x, pixel, p, width, channels) * weight[p * outputs + k];
    y[i] = sum;
}

// 2. A tile in shared memory. The block's 256 threads compute 16 pixels x 16 channels of y. All of a row need the same window, all of a column
// the same weights. So the block fetches 16 columns of the one and 16 rows of the other together, a number of each by every thread, and then
// all multiply from there. Two barriers: nobody multiplies before all have fetched, nobody fetches before all have multiplied.
extern "C" __global__ void ladder_tile(const float* x, const float* weight, float* y, int height, int width, int channels, int outputs) {
    __shared__ float a[16][16], b[16][16];
    int row = threadIdx.x / 16, column = threadIdx.x % 16, pixels = (height - 2) * (width - 2), depth = 9 * channels;
    int pixel = blockIdx.x * 16 + row, k = blockIdx.y * 16 + column;
    float sum = 0;
    for (int first = 0; first < depth; first += 16) {
        a[row][column] = pixel < pixels && first + column < depth ? *window(x, pixel, first + column, width, channels) : 0;
        b[row][column] = k < outputs && first + row < depth ? weight[(first + row) * outputs + k] : 0;
        __syncthreads();
        for (int p = 0; p < 16; ++p) sum += a[row][p] * b[p][column];
        __syncthreads();
    }
    if (pixel < pixels && k < outputs) y[pixel * outputs + k] = sum;
}

// 3. Results in registers. Rung 2 reads two numbers of shared memory for each product. Here a thread keeps 8 x 8 results: of 16 numbers that it
// reads it makes 64 products. The block's part is 128 x 128. Thread (row, column) has rows row, row + 16, ..., so that neighbours read neighbours.
extern "C" __global__ void __launch_bounds__(256) ladder_registers(const float* x, const float* weight, float* y, int height, int width, int channels,
                                                                   int outputs) {
    __shared__ float a[8][128], b[8][128];
    int row = threadIdx.x / 16, column = threadIdx.x % 16, pixels = (height - 2) * (width - 2), depth = 9 * channels;
    int first_pixel = blockIdx.x * 128, first_k = blockIdx.y * 128;
    float sum[8][8] = {};
    for (int first = 0; first < depth; first += 8) {
        for (int i = threadIdx.x; i < 8 * 128; i += 256) {
            int p = first + i / 128, pixel = first_pixel + i % 128, k = first_k + i % 128;
            a[i / 128][i % 128] = pixel < pixels && p < depth ? *window(x, pixel, p, width, channels) : 0;
            b[i / 128][i % 128] = k < outputs && p < depth ? weight[p * outputs + k] : 0;
        }
        __syncthreads();
        for (int p = 0; p < 8; ++p) {
            float of_a[8], of_b[8];
            UNROLL for (int i = 0; i < 8; ++i) { of_a[i] = a[p][row + 16 * i]; of_b[i] = b[p][column + 16 * i]; }
            UNROLL for (int i = 0; i < 8; ++i)
                UNROLL for (int j = 0; j < 8; ++j) sum[i][j] += of_a[i] * of_b[j];
        }
        __syncthreads();
    }
    UNROLL for (int i = 0; i < 8; ++i)
        UNROLL for (int j = 0; j < 8; ++j) {
            int pixel = first_pixel + row + 16 * i, k = first_k + column + 16 * j;
            if (pixel < pixels && k < outputs) y[pixel * outputs + k] = sum[i][j];
        }
}

// What rungs 4 and 5 do with a slab of 16 products: the block's part of y is 64 x 64, each of the eight warps has 16 x 32 of it. Which numbers a
// thread brings and keeps is laid down by the hardware, see tensor_cores.cu. Rows of 20 and 72 numbers: 32 threads read 32 different banks.
#define A_ROW 20
#define B_ROW 72
__device__ __forceinline__ void multiply_slab(const float* a, const float* b, float (*sum)[4]) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    a += (warp / 2 * 16 + group) * A_ROW + member;
    b += member * B_ROW + warp % 2 * 32 + group;
    UNROLL for (int step = 0; step < 16; step += 8) {
        unsigned of_a[4], of_b[2];
        UNROLL for (int i = 0; i < 4; ++i) of_a[i] = to_tf32(a[8 * (i % 2) * A_ROW + step + 4 * (i / 2)]);
        UNROLL for (int t = 0; t < 4; ++t) {
            UNROLL for (int i = 0; i < 2; ++i) of_b[i] = to_tf32(b[(step + 4 * i) * B_ROW + 8 * t]);
            mma_tf32(sum[t], of_a, of_b);
        }
    }
}
__device__ __forceinline__ void store(const float (*sum)[4], float* y, int pixels, int outputs) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    UNROLL for (int t = 0; t < 4; ++t)
        UNROLL for (int i = 0; i < 4; ++i) {
            int pixel = blockIdx.x * 64 + warp / 2 * 16 + group + 8 * (i / 2), k = blockIdx.y * 64 + warp % 2 * 32 + 8 * t + 2 * member + i % 2;
            if (pixel < pixels && k < outputs) y[pixel * outputs + k] = sum[t][i];
        }
}

// 4. Tensor cores. A warp's 32 threads together multiply (16, 8) by (8, 8): 1024 products in one instruction. Fetching is as before, and while
// the block fetches, its tensor cores wait.
extern "C" __global__ void __launch_bounds__(256) ladder_tensor(const float* x, const float* weight, float* y, int height, int width, int channels,
                                                                int outputs) {
    __shared__ float a[64 * A_ROW], b[16 * B_ROW];
    int pixels = (height - 2) * (width - 2), depth = 9 * channels;
    float sum[4][4] = {};
    for (int first = 0; first < depth; first += 16) {
        for (int i = threadIdx.x; i < 16 * 64; i += 256) {
            int pixel = blockIdx.x * 64 + i / 16, k = blockIdx.y * 64 + i % 64;
            a[i / 16 * A_ROW + i % 16] = pixel < pixels && first + i % 16 < depth ? *window(x, pixel, first + i % 16, width, channels) : 0;
            b[i / 64 * B_ROW + i % 64] = k < outputs && first + i / 64 < depth ? weight[(first + i / 64) * outputs + k] : 0;
        }
        __syncthreads();
        multiply_slab(a, b, sum);
        __syncthreads();
    }
    store(sum, y, pixels, outputs);
}

// 5. Copies that overlap. Two slabs of each: while one is multiplied, the next is on its way, straight from global to shared memory and four
// numbers at a time (cp.async). For that the channels must be a multiple of 16 and the outputs of 4.
extern "C" __global__ void __launch_bounds__(256) ladder_overlap(const float* x, const float* weight, float* y, int height, int width, int channels,
                                                                 int outputs) {
    __shared__ __align__(16) float a[2][64 * A_ROW];
    __shared__ __align__(16) float b[2][16 * B_ROW];
    int pixels = (height - 2) * (width - 2), slabs = 9 * channels / 16;
    int row = threadIdx.x / 4, c = threadIdx.x % 4 * 4, pixel = blockIdx.x * 64 + row;                       // what I fetch of A ...
    int p = threadIdx.x / 16, column = threadIdx.x % 16 * 4, k = blockIdx.y * 64 + column;                   // ... and of B
    auto fetch = [&](int slab) {
        bool inside = pixel < pixels;
        copy_16_bytes<false>(a[slab % 2] + row * A_ROW + c, inside ? window(x, pixel, 16 * slab + c, width, channels) : x, inside);
        inside = k < outputs;
        copy_16_bytes<false>(b[slab % 2] + p * B_ROW + column, weight + (inside ? (16 * slab + p) * outputs + k : 0), inside);
        end_of_group();
    };
    float sum[4][4] = {};
    fetch(0);
    for (int slab = 0; slab < slabs; ++slab) {
        if (slab + 1 < slabs) {
            fetch(slab + 1);
            arrived<1>();                                      // all but the newest group: that is this slab
        } else {
            arrived<0>();
        }
        multiply_slab(a[slab % 2], b[slab % 2], sum);
        __syncthreads();
    }
    store(sum, y, pixels, outputs);
}
