// Batch normalisation: the sums over all pixels, and the straight lines (batch_norm.py has the derivation).
//
// As array expressions forward and backward pass some 27 times over the feature map; here it is 3 times and 6 times. What is done with one
// number for each channel between these kernels stays in Python.

// Two sums for each channel: of v and of v (x - centre), with v = x - centre (forward: for mean and variance) or v = g, the gradient behind
// the ReLU (backward, centre = mean: for dshift and dscale). In double, so that nothing is lost. As mask_and_sum in bias_relu.cu: a block takes
// a run of `rows` pixels, its sums go to partial (blocks, 2, C), to be added up in order.
extern "C" __global__ void __launch_bounds__(256) two_sums(const REAL* x, const REAL* dy, const REAL* y, const double* centre, double* partial,
                                                           int pixels, int channels, int rows, int backward, int relu) {
    __shared__ double first_sums[256], second_sums[256];
    int from = blockIdx.x * rows, to = min(from + rows, pixels);
    int lanes = channels < 256 ? 256 / channels : 1;                           // few channels: several pixels at a time
    int lane = lanes > 1 ? threadIdx.x / channels : 0;
    for (int start = 0; start < channels; start += 256) {                      // more channels than threads: in several rounds
        int k = lanes > 1 ? threadIdx.x % channels : start + threadIdx.x;
        double first = 0, second = 0;
        if (k < channels && lane < lanes)
            for (int pixel = from + lane; pixel < to; pixel += lanes) {
                int i = pixel * channels + k;
                double deviation = x[i] - centre[k], value = deviation;
                if (backward) value = relu && !(y[i] > 0) ? 0 : dy[i];
                first += value;
                second += value * deviation;
            }
        first_sums[threadIdx.x] = first;
        second_sums[threadIdx.x] = second;
        __syncthreads();
        if (k < channels && lane == 0) {
            for (int other = 1; other < lanes; ++other) {
                first += first_sums[other * channels + k];
                second += second_sums[other * channels + k];
            }
            partial[2 * blockIdx.x * channels + k] = first;
            partial[(2 * blockIdx.x + 1) * channels + k] = second;
        }
        __syncthreads();                                                       // ... before the next round overwrites the sums
    }
}

// y = factor x + offset, then max(0, y) with relu.
extern "C" __global__ void normalise(const REAL* x, const REAL* factor, const REAL* offset, REAL* y, int count, int channels, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    REAL value = factor[i % channels] * x[i] + offset[i % channels];
    y[i] = relu && value < 0 ? 0 : value;
}

// dx = factor_g g + factor_x x + offset, with g = dy where y > 0.
extern "C" __global__ void normalise_backward(const REAL* dy, const REAL* x, const REAL* y, const REAL* factor_g, const REAL* factor_x,
                                              const REAL* offset, REAL* dx, int count, int channels, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, k = i % channels;
    if (i >= count) return;
    REAL g = relu && !(y[i] > 0) ? REAL(0) : dy[i];
    dx[i] = factor_g[k] * g + factor_x[k] * x[i] + offset[k];
}
