// The transforms of Winograd's F(4x4, 3x3) for a GPU; winograd.py has the derivation, convolution.py puts cuBLAS products between them.
//
//     V = B^T d B        d: the 6x6 pixels that a tile of 4x4 results sees          (36, tiles, C)
//     U = G g G^T        g: the 3x3 kernel                                           (36, C, K)
//     M = V U            36 matrix products, one for each frequency                  (36, tiles, K)
//     y = A^T M A        4x4 results                                                 (N, H', W', K)
//
// and back: dM = A dy A^T, dU = V^T dM, dg = G^T dU G. Points 0, 1, -1, 1/2, -2 and infinity, as on the CPU.
//
// Each thread transforms one tile of one channel, all of it in registers: 36 numbers in, 36 out. Neighbouring threads have neighbouring
// channels, so whatever pixel a warp reads, it reads 32 channels of it that lie side by side. The loops over the 6 rows and columns
// are unrolled by the compiler, because a register cannot be indexed by a number that is known only at run time.

// The one-dimensional transforms, on numbers `s` apart in a register array.
template <int s> __device__ __forceinline__ void times_bt(REAL* d) {         // 6 -> 6
    REAL d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
    d[0] = d0 + REAL(1.5) * (d3 - d1) - 2 * d2 + d4;
    d[s] = REAL(0.5) * d2 + REAL(2.5) * d3 + d4 - d1;
    d[2 * s] = d1 - REAL(2.5) * d2 + REAL(0.5) * d3 + d4;
    d[3 * s] = 2 * (d3 - d1) - d2 + d4;
    d[4 * s] = REAL(0.5) * (d1 - d3) - d2 + d4;
    d[5 * s] = d1 - REAL(1.5) * (d2 - d4) - 2 * d3 + d5;
}
template <int s> __device__ __forceinline__ void times_g(const REAL* g, REAL* w) {      // 3 -> 6; g and w are `s` apart
    REAL g0 = g[0], g1 = g[s], g2 = g[2 * s];
    w[0] = g0;
    w[s] = (g0 + g2 + g1) / 3;
    w[2 * s] = (g1 - g0 - g2) / 3;
    w[3 * s] = -(16 * g0 + 8 * g1 + 4 * g2) / 15;
    w[4 * s] = (g0 - 2 * g1 + 4 * g2) / 15;
    w[5 * s] = g2;
}
template <int s> __device__ __forceinline__ void times_gt(REAL* w) {         // 6 -> 3, in place
    REAL w1 = w[s] / 3, w2 = w[2 * s] / 3, w3 = w[3 * s] / 15, w4 = w[4 * s] / 15;
    w[0] = w[0] + w1 - w2 - 16 * w3 + w4;
    w[s] = w1 + w2 - 8 * w3 - 2 * w4;
    w[2 * s] = w1 - w2 - 4 * w3 + 4 * w4 + w[5 * s];
}
template <int s> __device__ __forceinline__ void times_at(REAL* m) {         // 6 -> 4, in place
    REAL m0 = m[0], m1 = m[s], m2 = m[2 * s], m3 = m[3 * s], m4 = m[4 * s], m5 = m[5 * s];
    m[0] = m0 + m1 + m2 + m3 + m4;
    m[s] = m1 - m2 + REAL(0.5) * m3 - 2 * m4;
    m[2 * s] = m1 + m2 + REAL(0.25) * m3 + 4 * m4;
    m[3 * s] = m1 - m2 + REAL(0.125) * m3 - 8 * m4 + m5;
}
template <int s> __device__ __forceinline__ void times_a(REAL* y) {          // 4 -> 6, in place
    REAL y0 = y[0], y1 = y[s], y2 = y[2 * s], y3 = y[3 * s];
    y[0] = y0;
    y[s] = y0 + y1 + y2 + y3;
    y[2 * s] = y0 - y1 + y2 - y3;
    y[3 * s] = y0 + REAL(0.5) * y1 + REAL(0.25) * y2 + REAL(0.125) * y3;
    y[4 * s] = y0 - 2 * y1 + 4 * y2 - 8 * y3;
    y[5 * s] = y3;
}

// Reads size x size pixels of x (N, H, W, C) from (top, left) of image n into d (6, 6); zeros outside.
template <int size> __device__ __forceinline__ void read_tile(const REAL* x, REAL* d, int n, int top, int left, int height, int width,
                                                              int channels, int c) {
    UNROLL for (int i = 0; i < size; ++i)
        UNROLL for (int j = 0; j < size; ++j) {
            int row = top + i, column = left + j;
            bool inside = row >= 0 && row < height && column >= 0 && column < width;
            d[6 * i + j] = inside ? x[((n * height + row) * width + column) * channels + c] : REAL(0);
        }
}

// V for tiles first .. first + count - 1 of x. V has `padded` tiles; those after count are zeros and change no sum.
extern "C" __global__ void input_transform(const REAL* x, REAL* v, int first, int count, int padded, int height, int width, int channels,
                                           int down, int across, int padding) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= padded * channels) return;
    int c = i % channels, tile = i / channels;
    REAL d[36];
    if (tile < count) {
        int column = (first + tile) % across, rest = (first + tile) / across;
        read_tile<6>(x, d, rest / down, 4 * (rest % down) - padding, 4 * column - padding, height, width, channels, c);
    } else {
        UNROLL for (int f = 0; f < 36; ++f) d[f] = 0;
    }
    UNROLL for (int row = 0; row < 6; ++row) times_bt<1>(d + 6 * row);
    UNROLL for (int column = 0; column < 6; ++column) times_bt<6>(d + column);
    UNROLL for (int f = 0; f < 36; ++f) v[f * padded * channels + i] = d[f];
}

// dM for the same tiles of dy (N, H', W', K).
extern "C" __global__ void gradient_transform(const REAL* dy, REAL* dm, int first, int count, int padded, int height, int width, int channels,
                                              int down, int across) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= padded * channels) return;
    int c = i % channels, tile = i / channels;
    REAL d[36];
    UNROLL for (int f = 0; f < 36; ++f) d[f] = 0;
    if (tile < count) {
        int column = (first + tile) % across, rest = (first + tile) / across;
        read_tile<4>(dy, d, rest / down, 4 * (rest % down), 4 * column, height, width, channels, c);
    }
    UNROLL for (int row = 0; row < 4; ++row) times_a<1>(d + 6 * row);
    UNROLL for (int column = 0; column < 6; ++column) times_a<6>(d + column);
    UNROLL for (int f = 0; f < 36; ++f) dm[f * padded * channels + i] = d[f];
}

// y from M, with bias and ReLU while the results are still in registers.
extern "C" __global__ void output_transform(const REAL* m, const REAL* bias, REAL* y, int first, int count, int padded, int height, int width,
                                            int channels, int down, int across, int has_bias, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * channels) return;
    int k = i % channels, tile = i / channels;
    REAL d[36];
    UNROLL for (int f = 0; f < 36; ++f) d[f] = m[f * padded * channels + i];
    UNROLL for (int row = 0; row < 6; ++row) times_at<1>(d + 6 * row);
    UNROLL for (int column = 0; column < 4; ++column) times_at<6>(d + column);
    REAL shift = has_bias ? bias[k] : REAL(0);
    int left = 4 * ((first + tile) % across), rest = (first + tile) / across;
    int top = 4 * (rest % down), n = rest / down;
    UNROLL for (int a = 0; a < 4; ++a)
        UNROLL for (int b = 0; b < 4; ++b)
            if (top + a < height && left + b < width) {        // the last tiles stick out
                REAL value = d[6 * a + b] + shift;
                y[((n * height + top + a) * width + left + b) * channels + k] = relu && value < 0 ? 0 : value;
            }
}

// U (36, C, K) of weight (3, 3, C, K); or, with flip, of the kernel that the input gradient uses: turned by 180 degrees, (36, K, C).
extern "C" __global__ void weight_transform(const REAL* weight, REAL* u, int channels, int outputs, int flip) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, count = channels * outputs;
    if (i >= count) return;
    int source = flip ? i % channels * outputs + i / channels : i;           // where my (c, k) is in one tap of weight
    REAL g[18], w[36];                                         // (3, 6): three columns used; (6, 6)
    UNROLL for (int a = 0; a < 3; ++a)
        UNROLL for (int b = 0; b < 3; ++b) g[6 * a + b] = weight[(flip ? 8 - 3 * a - b : 3 * a + b) * count + source];
    UNROLL for (int column = 0; column < 3; ++column) times_g<6>(g + column, w + column);
    UNROLL for (int row = 0; row < 6; ++row) {
        REAL line[3] = {w[6 * row], w[6 * row + 1], w[6 * row + 2]};
        times_g<1>(line, w + 6 * row);
    }
    UNROLL for (int f = 0; f < 36; ++f) u[f * count + i] = w[f];
}

// dweight (3, 3, C, K) from dU (36, splits, C, K): the tiles were shared out over `splits` products, whose sums are added here.
extern "C" __global__ void weight_gradient(const REAL* du, REAL* dweight, int count, int splits, int accumulate) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    REAL w[36];
    UNROLL for (int f = 0; f < 36; ++f) {
        REAL sum = 0;
        for (int split = 0; split < splits; ++split) sum += du[(f * splits + split) * count + i];
        w[f] = sum;
    }
    UNROLL for (int column = 0; column < 6; ++column) times_gt<6>(w + column);
    UNROLL for (int row = 0; row < 3; ++row) times_gt<1>(w + 6 * row);
    UNROLL for (int a = 0; a < 3; ++a)
        UNROLL for (int b = 0; b < 3; ++b) {
            REAL* target = dweight + (3 * a + b) * count + i;
            *target = accumulate ? *target + w[6 * a + b] : w[6 * a + b];
        }
}
