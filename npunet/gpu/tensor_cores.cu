// Convolution as one large matrix product on the tensor cores ("implicit GEMM"); needs compute capability 8.0.
//
// im2col makes of every window a row of a matrix (pixels, 9 C) and multiplies it by the kernel as a matrix (9 C, K). That matrix is nine
// times as large as the image, so here it is never written: a block of threads gathers just the piece of it that it needs next, from the
// image into shared memory. That memory is small, near, and common to the threads of the block.
//
// One block computes BM pixels x BN channels of y. It goes through the 9 C products in slabs of 16 channels of one tap:
//     gather A (BM pixels, 16) and B (16, BN) of a slab further on      <- memory works (cp.async: without waiting, past the registers)
//     multiply the slab that is there already                          <- tensor cores work meanwhile
// so SLABS of them are in shared memory at a time: one is multiplied, the others are on their way. With NEAR the nine taps of 16 channels follow
// each other: they need nearly the same pixels, which are in the multiprocessor's cache after the first three. Without it, all channels of a
// tap do.
//
// The block's warps share its result out. The larger a warp's part, the fewer times A and B are read from shared memory; the more warps, the
// better they fill each other's waits. WARPS says which:
//     4     64 x 64 results each: 128 pixels x 128 channels of a block, or 256 x 64. Half of a thread's 255 registers are sums then.
//     8     32 x 64 or 32 x 32 each: 128 pixels x 128 channels, or 128 x 64
// A tensor core multiplies (16, 8) by (8, 8) for a whole warp at once: each of the 32 threads brings some elements of both and keeps four of
// the result; which ones, NVIDIA's PTX manual lays down (mma.m16n8k8):
// with group = lane / 4 and member = lane % 4,
//     A: rows group and group + 8, columns member and member + 4      B: rows member and member + 4, column group
//     D: rows group and group + 8, columns 2 member and 2 member + 1
// An instruction made for it (load_four) brings four such elements to each thread, if rows of 16 bytes lie in shared memory as they lie in the
// matrix. Rows there are 20 (or BN + 8) numbers long, not 16 (or BN): so what a warp reads at once comes from 32 different banks.
//
// Two precisions, by what feature maps are stored in (MAP); sums are float32 in both:
//     float      multiplied as TF32: 8 bits of exponent, 10 of mantissa
//     bf16       8 bits of exponent, 7 of mantissa: two neighbours in a register, (16, 16) by (16, 8) at once. A slab has 32 channels then, as
//                many bytes as 16 floats, and everything above counts pairs. Operands lie in shared memory as the tensor core wants
//                them, so nothing is rounded in this loop, and half as much is read for each product.
// Two neighbours of B are two channels of one output. For FLIPPED and DOWN they are neighbours in memory; for the others the weights are turned
// while they are rounded (sixteen_bits.cu), once a step.
//
// Four products are of this form. They differ in where A lies, in how B lies, and in where the result goes:
//     CONVOLVE   3x3 convolution
//     FLIPPED    its input gradient: the kernel turned by 180 degrees, of which no copy is made. B is gathered from the weights
//                where they lie, a channel of dx with 16 channels of dy that are neighbours in memory (BY_CHANNEL)
//     UP         2x2 up-convolution: one tap for each blockIdx.z, its results to every other pixel of every other row
//     DOWN       its input gradient: a 2x2 convolution in steps of two pixels

#define SLAB (64 / (int)sizeof(MAP))                           // channels
#define IN_ROW 4                                               // copies of 16 bytes that a slab has of a pixel
enum Kind { CONVOLVE, FLIPPED, UP, DOWN };

// y (pixels of (rows, columns), outputs) = A (pixels, taps * channels) @ B. One share of the taps, that of blockIdx.z: all of them where there
// are enough blocks without. Shares go to partial (shares, pixels, outputs), without bias and ReLU, to be added up by add_shares.
template <int BN, Kind KIND>
__device__ __forceinline__ void multiply(const MAP* x, const MAP* weight, const float* bias, MAP* y, float* partial, int pixels, int height,
                                         int width, int channels, int rows, int columns, int outputs, int padding, int has_bias, int relu) {
    constexpr int SIDE = KIND == UP ? 1 : KIND == DOWN ? 2 : 3, STRIDE = KIND == DOWN ? 2 : 1;
    constexpr bool BY_CHANNEL = KIND == FLIPPED || KIND == DOWN || sizeof(MAP) == 2, AGAIN = NEAR && SIDE == 3;
    constexpr int WM = WARPS == 8 ? 32 : 64, WN = WARPS == 8 ? BN / 2 : 64, ACROSS = BN / WN, BM = WARPS / ACROSS * WM;
    constexpr int TILES_M = WM / 16, TILES_N = WN / 8;         // of a warp: products of (16, 8) results
    constexpr int B_ROWS = BY_CHANNEL ? BN : SLAB, B_IN_ROW = BY_CHANNEL ? IN_ROW : BN / IN_COPY;      // B is there as it lies in memory
    constexpr int A_ROW = SLAB + IN_COPY, B_ROW = BY_CHANNEL ? A_ROW : BN + 8, A_SLAB = BM * A_ROW, B_SLAB = B_ROWS * B_ROW;
    constexpr int A_MORE = 32 * WARPS / IN_ROW, B_MORE = 32 * WARPS / B_IN_ROW;                              // rows that all threads gather at once
    SHARED_OF_LAUNCH(bytes);
    MAP *a_slabs = (MAP*)bytes, *b_slabs = a_slabs + SLABS * A_SLAB;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    int first_pixel = blockIdx.x * BM, first_k = blockIdx.y * BN;
    if (KIND == UP) weight += (long long)blockIdx.z * channels * outputs;

    // What this thread gathers of A: 16 bytes of every A_MORE-th pixel. Where their windows begin, and which taps lie in the image, a bit each.
    int a_row = gathered_row(threadIdx.x / IN_ROW), a_at = threadIdx.x % IN_ROW * IN_COPY, corner[BM / A_MORE];
    unsigned inside[BM / A_MORE];
    UNROLL for (int r = 0; r < BM / A_MORE; ++r) {
        int pixel = first_pixel + a_row + r * A_MORE, rest = pixel / columns;
        int left = pixel % columns * STRIDE - padding, top = rest % rows * STRIDE - padding;
        corner[r] = ((rest / rows * height + top) * width + left) * channels + a_at;
        inside[r] = 0;
        UNROLL for (int tap = 0; tap < SIDE * SIDE; ++tap) {
            int row = top + tap / SIDE, column = left + tap % SIDE;
            if (pixel < pixels && row >= 0 && row < height && column >= 0 && column < width) inside[r] |= 1 << tap;
        }
    }
    int b_row = BY_CHANNEL ? gathered_row(threadIdx.x / IN_ROW) : threadIdx.x / B_IN_ROW, b_at = threadIdx.x % B_IN_ROW * IN_COPY;
    int b_length = BY_CHANNEL ? channels : outputs;
    int b_from = b_row * b_length + b_at + first_k * (BY_CHANNEL ? channels : 1);

    int taps = KIND == UP ? 1 : SIDE * SIDE / gridDim.z, first_tap = KIND == UP ? 0 : blockIdx.z * taps, tap = first_tap, c0 = 0;
    int slabs = taps * (channels / SLAB);
    auto gather = [&](int slab) {                              // slabs come in order, so that tap and c0 need no division
        if (slab < slabs) {
            MAP *a = a_slabs + slab % SLABS * A_SLAB, *b = b_slabs + slab % SLABS * B_SLAB;
            int a_further = (tap / SIDE * width + tap % SIDE) * channels + c0, which = KIND == FLIPPED ? 8 - tap : tap;
            int b_further = BY_CHANNEL ? which * outputs * channels + c0 : (which * channels + c0) * outputs;
            UNROLL for (int r = 0; r < BM / A_MORE; ++r) {
                bool here = inside[r] >> tap & 1;
                copy_16_bytes<AGAIN>(a + (a_row + r * A_MORE) * A_ROW + a_at, x + (here ? corner[r] + a_further : 0), here);
            }
            UNROLL for (int r = 0; r < B_ROWS / B_MORE; ++r) {
                bool here = first_k + (BY_CHANNEL ? b_row + r * B_MORE : b_at) < outputs;
                copy_16_bytes<false>(b + (b_row + r * B_MORE) * B_ROW + b_at, weight + (here ? b_from + r * B_MORE * b_length + b_further : 0), here);
            }
            if (NEAR || KIND == UP) {
                if (++tap == first_tap + taps) { tap = first_tap; c0 += SLAB; }
            } else {
                c0 += SLAB;
                if (c0 == channels) { c0 = 0; ++tap; }
            }
        }
        end_of_group();                                        // an empty one at the end, so that the count of groups is right
    };

    float sum[TILES_M][TILES_N][4] = {};                       // this thread's share of y, in registers all along
    int warp_row = warp / ACROSS * WM, warp_column = warp % ACROSS * WN;
    UNROLL for (int slab = 0; slab < SLABS - 1; ++slab) gather(slab);
    for (int slab = 0; slab < slabs; ++slab) {
        arrived<SLABS - 2>();                                  // this slab is there, and all have read the one before:
        gather(slab + SLABS - 1);                              // its place is free
        // One load brings what all threads need of 16 rows of A, or of 16 outputs of B where these lie row by row. Its four matrices: eight
        // rows, the next eight, and of both the other half of the channels; of B the two halves of eight outputs, then those of the next.
        const MAP* a = a_slabs + slab % SLABS * A_SLAB + (warp_row + lane % 16) * A_ROW + lane / 16 * IN_COPY;
        const MAP* b = b_slabs + slab % SLABS * B_SLAB + (BY_CHANNEL ? (warp_column + lane % 8 + lane / 16 * 8) * B_ROW + lane / 8 % 2 * IN_COPY
                                                                     : member * B_ROW + warp_column + group);
        UNROLL for (int step = 0; step < SLAB; step += DEPTH) {
            unsigned of_a[TILES_M][4], of_b[2 * TILES_N];
            UNROLL for (int m = 0; m < TILES_M; ++m) load_operands(of_a[m], a + 16 * m * A_ROW + step);
            if (BY_CHANNEL) {
                UNROLL for (int t = 0; t < TILES_N; t += 2) load_operands(of_b + 2 * t, b + 8 * t * B_ROW + step);
            } else {
                UNROLL for (int i = 0; i < 2 * TILES_N; ++i) of_b[i] = to_tf32(b[8 * (i / 2) + (step + DEPTH / 2 * (i % 2)) * B_ROW]);
            }
            UNROLL for (int m = 0; m < TILES_M; ++m)
                UNROLL for (int t = 0; t < TILES_N; ++t) mma(sum[m][t], of_a[m], of_b + 2 * t);
        }
    }
    bool whole = KIND == UP || gridDim.z == 1;
    partial += (long long)blockIdx.z * pixels * outputs;
    UNROLL for (int m = 0; m < TILES_M; ++m)
        UNROLL for (int half = 0; half < 2; ++half) {
            int pixel = first_pixel + warp_row + 16 * m + group + 8 * half;
            if (pixel >= pixels) continue;
            long long place = pixel;
            if (KIND == UP)                                    // (row, column) of x goes to (2 row + z / 2, 2 column + z % 2) of y
                place = (2LL * (pixel / columns) + blockIdx.z / 2) * 2 * columns + 2 * (pixel % columns) + blockIdx.z % 2;
            UNROLL for (int t = 0; t < TILES_N; ++t) {         // two neighbouring channels of a pixel: one store
                int k = first_k + warp_column + 8 * t + 2 * member;
                if (k >= outputs) continue;
                store_outputs(y, partial, place * outputs + k, whole, sum[m][t][2 * half], sum[m][t][2 * half + 1], bias, k, has_bias, relu);
            }
        }
}

// So many blocks are to run on a multiprocessor at once, and for that there must be registers.
#define PRODUCT(name, BN, KIND)                                                                                                               \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, BN == 64 && WARPS == 8 ? 3 : 2) name(                                             \
            const MAP* x, const MAP* weight, const float* bias, MAP* y, float* partial, int pixels, int height, int width, int channels,       \
            int rows, int columns, int outputs, int padding, int has_bias, int relu) {                                                         \
        multiply<BN, KIND>(x, weight, bias, y, partial, pixels, height, width, channels, rows, columns, outputs, padding, has_bias, relu);    \
    }
PRODUCT(convolve_128, 128, CONVOLVE)
PRODUCT(convolve_64, 64, CONVOLVE)
PRODUCT(flipped_128, 128, FLIPPED)
PRODUCT(flipped_64, 64, FLIPPED)
PRODUCT(up_128, 128, UP)
PRODUCT(up_64, 64, UP)
PRODUCT(down_128, 128, DOWN)
PRODUCT(down_64, 64, DOWN)

// y = the sum of the shares of `multiply`, in their order, + bias, then max(0, y) with relu.
extern "C" __global__ void add_shares(const float* partial, const float* bias, MAP* y, int count, int outputs, int shares, int has_bias, int relu) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float value = partial[i];
    for (int share = 1; share < shares; ++share) value += partial[(long long)share * count + i];
    if (has_bias) value += bias[i % outputs];
    y[i] = relu && value < 0 ? 0 : value;
}
