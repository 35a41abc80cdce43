// Convolution with few channels on one side: 1 or 3 -> K, the first layer, and C -> 2, the last (few_channels.py is the CPU's way).
//
// As a matrix product the first layer moves far more than it computes: im2col writes nine numbers for each pixel and reads them again, the
// product is (pixels, 9) @ (9, K), and bias + ReLU pass over y once more. Its weight gradient (9, pixels) @ (pixels, K) has so few results
// that most of a GPU has nothing to do. Here x is read and y is written once, and nothing else is moved.
//
// FEW, the channels of the narrow side, and SIDE, that of the kernel, are numbers for the compiler (few_channels.py beside it hands them
// over), so that everything that is counted by them is unrolled and stays in registers. A warp, 32 threads, takes one pixel
// at a time; its threads, the lanes, take 32 neighbouring channels of the wide side, which lie side by side in memory.
//
//     widen       FEW -> many    each lane keeps the kernel of its channel and walks along the pixels
//     narrow      many -> FEW    each lane multiplies its channels, then the lanes add up
//     tap_sums    dweight        each lane keeps the sums of its channel and walks along the pixels
//
// The input gradient of the one is the other with the flipped kernel. The wide side is a feature map, MAP; the narrow side, the image or the
// logits, is REAL.

#ifndef FEW
#define FEW 3
#define SIDE 3
#endif
#define SUMS (SIDE * SIDE * FEW)
#define WARPS 8                                                // of a block

// A pixel of an image (N, height, width). Going on by one needs no division.
struct Pixel {
    int n, row, column;
    __device__ __forceinline__ Pixel(int number, int height, int width) {
        column = number % width;
        row = number / width % height;
        n = number / width / height;
    }
    __device__ __forceinline__ void next(int height, int width) {
        if (++column < width) return;
        column = 0;
        if (++row < height) return;
        row = 0;
        ++n;
    }
};

// Channels of pixel (row, column) of image n in x (N, height, width, channels), or a null pointer outside, where x counts as zero.
template <typename Number>
__device__ __forceinline__ const Number* at(const Number* x, int n, int row, int column, int height, int width, int channels) {
    bool inside = row >= 0 && row < height && column >= 0 && column < width;
    return inside ? x + (((long long)n * height + row) * width + column) * channels : nullptr;
}

// y (N, H', W', K) from x (N, H, W, FEW) and weight (SIDE, SIDE, FEW, K), with bias and ReLU. Each warp does `run` pixels.
// One block may fill a multiprocessor: planned for more, float64 on compute capability 9.0 moved 12 bytes into memory.
extern "C" __global__ void __launch_bounds__(256, 1) widen(const REAL* x, const REAL* weight, const REAL* bias, MAP* y, int pixels, int height, int width,
                                                           int out_height, int out_width, int outputs, int padding, int run, int has_bias, int relu) {
    int warp = blockIdx.x * WARPS + threadIdx.x / 32, k = blockIdx.y * 32 + threadIdx.x % 32;
    if (k >= outputs) return;
    REAL w[SUMS], shift = has_bias ? bias[k] : REAL(0);
    UNROLL for (int i = 0; i < SUMS; ++i) w[i] = weight[i * outputs + k];
    int first = warp * run, last = min(first + run, pixels);
    Pixel p(first, out_height, out_width);
    for (int pixel = first; pixel < last; ++pixel) {
        REAL sum = shift;
        UNROLL for (int tap = 0; tap < SIDE * SIDE; ++tap)
            if (const REAL* source = at(x, p.n, p.row + tap / SIDE - padding, p.column + tap % SIDE - padding, height, width, FEW))
                UNROLL for (int f = 0; f < FEW; ++f) sum += source[f] * w[tap * FEW + f];
        y[(long long)pixel * outputs + k] = relu && sum < 0 ? 0 : sum;
        p.next(out_height, out_width);
    }
}

// y (N, H', W', FEW) from x (N, H, W, C) and weight (SIDE, SIDE, C, FEW), with bias and ReLU. A warp for each pixel.
extern "C" __global__ void __launch_bounds__(256) narrow(const MAP* x, const REAL* weight, const REAL* bias, REAL* y, int pixels, int height, int width,
                                                         int out_height, int out_width, int channels, int padding, int has_bias, int relu) {
    int pixel = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (pixel >= pixels) return;                               // the whole warp
    Pixel p(pixel, out_height, out_width);
    REAL sum[FEW] = {};
    UNROLL for (int tap = 0; tap < SIDE * SIDE; ++tap)
        if (const MAP* source = at(x, p.n, p.row + tap / SIDE - padding, p.column + tap % SIDE - padding, height, width, channels))
            for (int c = lane; c < channels; c += 32) {
                const REAL* w = weight + (tap * channels + c) * FEW;
                UNROLL for (int f = 0; f < FEW; ++f) sum[f] += source[c] * w[f];
            }
    __syncwarp();                                              // lanes had different numbers of channels
    UNROLL for (int f = 0; f < FEW; ++f) {
        for (int offset = 16; offset > 0; offset /= 2) sum[f] += __shfl_down_sync(0xffffffffu, sum[f], offset);        // from lane + offset
        if (lane == 0) {
            REAL value = sum[f] + (has_bias ? bias[f] : REAL(0));
            y[(long long)pixel * FEW + f] = relu && value < 0 ? 0 : value;
        }
    }
}

// For every tap, narrow channel f and wide channel m: the sum over pixels of wide[pixel, m] times narrow[pixel that meets it at this tap, f].
// That is dweight, with wide = dy and narrow = x for `widen`; with wide = x, narrow = dy and backwards for `narrow`, where the pixel that
// is met lies on the other side. One more sum is that of wide itself, as if a tap always saw 1: the gradient of the bias in `widen`.
// gate: y of the forward pass; wide counts only where it is positive, the ReLU's gradient. Each block's sums go to partial
// (blocks, SUMS + 1, M), to be added up in order afterwards: the same bits every time. The 1 in
// the launch bounds lets one block fill a multiprocessor. Without it the compiler planned for more blocks and moved sums of RGB images into memory.
extern "C" __global__ void __launch_bounds__(256, 1) tap_sums(const MAP* wide, const MAP* gate, const REAL* narrow, REAL* partial, int pixels,
                                                           int wide_height, int wide_width, int channels, int height, int width, int padding, int run,
                                                           int gated, int backwards) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m = blockIdx.y * 32 + lane;
    REAL sum[SUMS + 1] = {};
    int first = (blockIdx.x * WARPS + warp) * run, last = m < channels ? min(first + run, pixels) : 0;
    Pixel p(first, wide_height, wide_width);
    for (int pixel = first; pixel < last; ++pixel) {
        long long i = (long long)pixel * channels + m;
        REAL value = !gated || gate[i] > 0 ? REAL(wide[i]) : REAL(0);
        UNROLL for (int tap = 0; tap < SIDE * SIDE; ++tap) {
            int down = tap / SIDE - padding, across = tap % SIDE - padding;
            if (const REAL* other = at(narrow, p.n, backwards ? p.row - down : p.row + down, backwards ? p.column - across : p.column + across,
                                       height, width, FEW))
                UNROLL for (int f = 0; f < FEW; ++f) sum[tap * FEW + f] += value * other[f];
        }
        sum[SUMS] += value;
        p.next(wide_height, wide_width);
    }
    __shared__ REAL of_warp[WARPS][32];
    UNROLL for (int s = 0; s <= SUMS; ++s) {                   // the eight warps had different pixels of the same channels
        of_warp[warp][lane] = sum[s];
        __syncthreads();
        if (warp == 0 && m < channels) {
            REAL total = 0;
            for (int other = 0; other < WARPS; ++other) total += of_warp[other][lane];
            partial[((long long)blockIdx.x * (SUMS + 1) + s) * channels + m] = total;
        }
        __syncthreads();
    }
}
