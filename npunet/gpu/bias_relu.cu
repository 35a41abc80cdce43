// Bias and ReLU in one pass over the feature map, and their gradient in one pass (§2, the end of every blue arrow).
//
//     y = max(0, y + bias)                 dz = dy where y > 0, else 0            dbias[k] = sum of dz over all pixels
//
// As array expressions these are two kernels and four passes over memory: y += bias reads and writes y, maximum(y, 0) reads and writes
// it again. A GPU waits for memory here, not for arithmetic, so one pass of one read and one write is about twice as fast.
//
// How to read a kernel: the function below is run by thousands of threads at once, and each handles ONE element. Which one,
// it works out from its own number: threads come in blocks of blockDim.x, so thread threadIdx.x of block blockIdx.x is number
//     blockIdx.x * blockDim.x + threadIdx.x
// Neighbouring threads take neighbouring elements: 32 of them (a "warp") then read one piece of 128 bytes, which is what memory likes.

extern "C" __global__ void bias_relu(REAL* y, const REAL* bias, int count, int channels, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;             // my element of y (..., K), counted flat
    if (i >= count) return;                                    // the last block has more threads than elements are left
    REAL value = y[i] + bias[i % channels];                    // channels are the last axis, so i % K is my channel
    y[i] = relu && value < 0 ? 0 : value;                      // "< 0" and not max: NaN stays NaN
}

extern "C" __global__ void relu_only(REAL* y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count && y[i] < 0) y[i] = 0;
}

// dz and dbias. Each block takes a run of `rows` pixels of all channels; a thread walks down the pixels of its channels and adds up.
// Sums of blocks go to partial (blocks, K), and `add_up` below puts them together in a fixed order: the same bits every time, which
// atomicAdd would not give. With y == dz's source unmasked (relu = 0), dz is not written: it would be dy again.
// __restrict__ says that what is stored to dz is not read again as dy or y: so four pixels are on their way at a time.
extern "C" __global__ void mask_and_sum(const MAP* __restrict__ dy, const MAP* __restrict__ y, MAP* __restrict__ dz, REAL* __restrict__ partial,
                                        int pixels, int channels, int rows, int relu) {
    int first = blockIdx.x * rows, last = min(first + rows, pixels);
    int lanes = channels < (int)blockDim.x ? blockDim.x / channels : 1;        // few channels: several pixels at a time
    int lane = lanes > 1 ? threadIdx.x / channels : 0;                         // which of them is mine
    __shared__ REAL sums[1024];
    for (int start = 0; start < channels; start += blockDim.x) {               // more channels than threads: in several rounds
        int k = lanes > 1 ? threadIdx.x % channels : start + threadIdx.x;
        REAL sum = 0;
        if (k < channels && lane < lanes)
#pragma unroll 4
            for (int pixel = first + lane; pixel < last; pixel += lanes) {
                int i = pixel * channels + k;
                REAL value = dy[i];
                if (relu) {
                    value = y[i] > 0 ? value : REAL(0);
                    dz[i] = value;
                }
                sum += value;
            }
        sums[threadIdx.x] = sum;
        __syncthreads();                                       // everybody's sum is there before anybody reads another's
        if (k < channels && lane == 0) {
            for (int other = 1; other < lanes; ++other) sum += sums[other * channels + k];
            partial[blockIdx.x * channels + k] = sum;
        }                                                      // in several rounds lanes is 1, and nobody reads another's
    }
}

// total[k] = sum over blocks of partial[:, k]. One block of threads for each channel: every thread adds up some of the numbers, then
// half of the threads add the sums of the other half to theirs, then a quarter, and so on: log2(128) rounds instead of 128.
extern "C" __global__ void __launch_bounds__(128) add_up(const REAL* partial, REAL* total, int blocks, int channels) {
    int k = blockIdx.x, t = threadIdx.x;
    __shared__ REAL sums[128];
    REAL sum = 0;
    for (int block = t; block < blocks; block += 128) sum += partial[block * channels + k];
    sums[t] = sum;
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (t < half) sums[t] += sums[t + half];
        __syncthreads();                                       // the next round reads what this one has written
    }
    if (t == 0) total[k] = sums[0];
}
