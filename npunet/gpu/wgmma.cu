// The products of tensor_cores.cu for feature maps in 16 bits, by the tensor cores of compute capability 9.0 as they want to be asked: wgmma.
//
// There, a warp fetches operands from shared memory into registers and hands them over: less than half of the instructions of its loop multiply. Here
// four warps, a "warpgroup", hand over two addresses, and tensor cores fetch by themselves: (64, 16) by (16, 128) with one instruction, in
// the background. Three things have to be right, and no compiler looks at any of them:
//
// 1. How operands lie. A row is 64 channels of a pixel (A) or of an output (B): 128 bytes, eight pieces of 16. Eight rows are a pattern
//    of 1024 bytes, and patterns follow each other. Were piece p of every row at place p, one instruction would read the same p of eight
//    rows, from the same banks. So in row r it is at place p ^ r % 8 ("swizzled": the exclusive or of two numbers of three bits):
//        row 0:  0 1 2 3 4 5 6 7        row 2:  2 3 0 1 6 7 4 5
//        row 1:  1 0 3 2 5 4 7 6        row 3:  3 2 1 0 7 6 5 4    ... row 7:  7 6 5 4 3 2 1 0
//    The tensor cores take bits 7 to 9 of an address for r, so a pattern begins at a multiple of 1024. An instruction multiplies 16
//    channels, 32 bytes of each row: the next 16 are asked for by an address that is 32 bytes higher, swizzled or not.
// 2. Who sees what. A copy in the background (cp.async) is there for its thread after wait_for_groups, for tensor cores after show_copies,
//    for all threads after the barrier. In this order.
// 3. Who waits for what. Between wgmma_fence and wgmma_wait<0> the sums belong to the tensor cores, and what is multiplied must stay as it is.
//
// One block computes 256 pixels x 128 outputs, each of its four warpgroups 64 pixels; it has a multiprocessor for itself. Four slabs of 64 channels of
// one tap are in shared memory: one is multiplied, the one before may still be, two are on their way. So tensor cores never wait at
// a barrier. What a thread keeps of D is as in mma.sync, 8 columns after 8 columns: with group = lane / 4, member = lane % 4, warp w
// of its warpgroup: rows 16 w + group and + 8, columns 2 member and 2 member + 1.

#define THREADS 512
#define BM 256
#define BN 128
#define SLAB 64                                                // channels
#define AHEAD 2                                                // slabs on their way
#define SLABS (AHEAD + 2)
#define ROW 128                                                // bytes of a row of a slab
#define PATTERN 1024                                           // bytes of eight rows
enum Kind { CONVOLVE, FLIPPED, UP, DOWN };

// What wgmma wants to know of an operand at such an address: bits 0 to 13 the address, 16 to 29 nothing for this layout (1 by custom), 32 to 45
// how far eight rows are from the next eight, all in 16 bytes; bits 62 and 63: 1, swizzled in rows of 128 bytes.
__device__ __forceinline__ unsigned long long descriptor(unsigned address) {
    return address / 16 | 1ull << 16 | (unsigned long long)(PATTERN / 16) << 32 | 1ull << 62;
}

// y (pixels of (rows, columns), outputs) = A (pixels, taps * channels) @ B, as in tensor_cores.cu. Channels and outputs come in multiples of
// 64 and 128, and B (taps, outputs, channels) is there with its channels as neighbours, for all four products.
template <Kind KIND>
__device__ __forceinline__ void multiply(const MAP* x, const MAP* weight, const float* bias, MAP* y, float* partial, int pixels, int height,
                                         int width, int channels, int rows, int columns, int outputs, int padding, int has_bias, int relu) {
    constexpr int SIDE = KIND == UP ? 1 : KIND == DOWN ? 2 : 3, STRIDE = KIND == DOWN ? 2 : 1;
    constexpr int A_BYTES = BM * ROW, BYTES = A_BYTES + BN * ROW, LOADED = THREADS / 8;      // of a slab: A, and B behind it; rows in a round
    SHARED_OF_LAUNCH(given);
    unsigned char* slabs = given + (PATTERN - shared_address(given) % PATTERN) % PATTERN;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int first_pixel = blockIdx.x * BM, first_k = blockIdx.y * BN;

    // What this thread gathers: one piece of 16 bytes of each 64th row, so r % 8 is the same for all of them. For each pixel: where its window
    // begins, and which of its taps lie inside the image, a bit for each.
    int load_row = threadIdx.x / 8, piece = threadIdx.x % 8, to = load_row * ROW + (piece ^ load_row % 8) * 16;
    int corner[BM / LOADED], k_at = (first_k + load_row) * channels + piece * IN_COPY;
    unsigned inside[BM / LOADED];
    UNROLL for (int r = 0; r < BM / LOADED; ++r) {
        int pixel = first_pixel + load_row + LOADED * r, known = min(pixel, pixels - 1), image_row = known / columns;
        int top = image_row % rows * STRIDE - padding, left = known % columns * STRIDE - padding;
        corner[r] = ((image_row / rows * height + top) * width + left) * channels + piece * IN_COPY;
        inside[r] = 0;
        UNROLL for (int tap = 0; tap < SIDE * SIDE; ++tap) {
            int row = top + tap / SIDE, column = left + tap % SIDE;
            bool is = pixel < pixels && row >= 0 && row < height && column >= 0 && column < width;
            inside[r] |= (unsigned)is << tap;
        }
    }
    int taps = KIND == UP ? 1 : SIDE * SIDE / gridDim.z, first_tap = KIND == UP ? 0 : blockIdx.z * taps, tap = first_tap, c0 = 0;
    int count = taps * (channels / SLAB);
    bool whole = KIND == UP || gridDim.z == 1;
    partial += (long long)blockIdx.z * pixels * outputs;
    auto gather = [&](int slab) {                              // slabs come in order: the taps of 64 channels, then the next 64
        if (slab < count) {
            unsigned char* place = slabs + slab % SLABS * BYTES + to;
            int from = (tap / SIDE * width + tap % SIDE) * channels + c0, which = KIND == UP ? blockIdx.z : KIND == FLIPPED ? 8 - tap : tap;
            UNROLL for (int r = 0; r < BM / LOADED; ++r) {
                bool is = inside[r] >> tap & 1;
                copy_16_bytes<SIDE == 3>(place + LOADED * r * ROW, x + (is ? corner[r] + from : 0), is);
            }
            UNROLL for (int r = 0; r < BN / LOADED; ++r)
                copy_16_bytes<false>(place + A_BYTES + LOADED * r * ROW, weight + (which * outputs + LOADED * r) * channels + c0 + k_at, true);
            if (++tap == first_tap + taps) { tap = first_tap; c0 += SLAB; }
        }
        end_of_group();                                        // an empty one behind the last slab, so that the count of groups goes on
    };

    float sum[BN / 2] = {};                                    // this thread's share of y
    unsigned a_at = shared_address(slabs) + warp / 4 * 64 * ROW, b_at = shared_address(slabs) + A_BYTES;
    for (int slab = 0; slab < AHEAD; ++slab) gather(slab);
    for (int slab = 0; slab < count; ++slab) {
        wait_for_groups<AHEAD - 1>();                          // of this thread all copies of this slab are there
        show_copies();
        __syncthreads();                                       // of all threads; and the slab before the last is multiplied: its place is free
        unsigned long long a = descriptor(a_at + slab % SLABS * BYTES), b = descriptor(b_at + slab % SLABS * BYTES);
        wgmma_fence(sum);
        UNROLL for (int step = 0; step < SLAB / 16; ++step) wgmma(sum, a + 2 * step, b + 2 * step);          // 2: 32 bytes
        wgmma_close();
        gather(slab + AHEAD);                                  // while tensor cores are at work
        wgmma_wait<1>(sum);                                    // until they have done with the slab before
    }
    wgmma_wait<0>(sum);
    UNROLL for (int half = 0; half < 2; ++half) {
        int pixel = first_pixel + warp * 16 + lane / 4 + 8 * half;
        if (pixel >= pixels) continue;
        long long place = pixel;
        if (KIND == UP)                                        // (row, column) of x goes to (2 row + z / 2, 2 column + z % 2) of y
            place = (2LL * (pixel / columns) + blockIdx.z / 2) * 2 * columns + 2 * (pixel % columns) + blockIdx.z % 2;
        UNROLL for (int t = 0; t < BN / 8; ++t) {              // two neighbouring outputs of a pixel: one store
            int k = first_k + 8 * t + lane % 4 * 2;
            store_outputs(y, partial, place * outputs + k, whole, sum[4 * t + 2 * half], sum[4 * t + 2 * half + 1], bias, k, has_bias, relu);
        }
    }
}

#define PRODUCT(name, KIND)                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) name(const MAP* x, const MAP* weight, const float* bias, MAP* y, float* partial,    \
            int pixels, int height, int width, int channels, int rows, int columns, int outputs, int padding, int has_bias, int relu) {       \
        multiply<KIND>(x, weight, bias, y, partial, pixels, height, width, channels, rows, columns, outputs, padding, has_bias, relu);        \
    }
PRODUCT(convolve_128, CONVOLVE)
PRODUCT(flipped_128, FLIPPED)
PRODUCT(up_128, UP)
PRODUCT(down_128, DOWN)
