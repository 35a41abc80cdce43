// Between float32 and feature maps in 16 bits (sixteen_bits.py). Only the weights take this way in a training step, once forward and once
// backward: 31 million numbers, 0.1 ms; every kernel reads and writes its feature maps as they are.

extern "C" __global__ void rounded(const float* x, MAP* y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i];
}

extern "C" __global__ void as_floats(const MAP* x, float* y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = x[i];
}

// Weights (taps, C, K), rounded and turned: (taps, K, C). Memory likes neighbouring threads to read, and to write, neighbouring numbers. Here
// one of the two would be in steps of C or K numbers; so a block reads a piece of 32 x 32 row by row into shared memory and writes it
// column by column. Rows of 33 numbers: the 32 threads that read a column read 32 different banks.
extern "C" __global__ void __launch_bounds__(256) turned(const float* weight, MAP* y, int channels, int outputs) {
    __shared__ float piece[32][33];
    int across = threadIdx.x % 32, first_c = blockIdx.x * 32, first_k = blockIdx.y * 32;
    long long tap = (long long)blockIdx.z * channels * outputs;
    for (int down = threadIdx.x / 32; down < 32; down += 8)
        if (first_c + down < channels && first_k + across < outputs)
            piece[down][across] = weight[tap + (long long)(first_c + down) * outputs + first_k + across];
    __syncthreads();
    for (int down = threadIdx.x / 32; down < 32; down += 8)
        if (first_k + down < outputs && first_c + across < channels)
            y[tap + (long long)(first_k + down) * channels + first_c + across] = piece[across][down];
}
