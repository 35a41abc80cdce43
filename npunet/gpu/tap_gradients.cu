// The weight gradient of a convolution on the tensor cores: for each tap, dweight (C, K) = x shifted by the tap, turned (C, pixels), times
// dz (pixels, K). tensor_cores.cu explains slabs, warps, fragments, banks and precisions.
//
// A block computes TILE_C x TILE_K results for each of TAPS taps; its warps share them out, two across. The pixels are shared out over several
// blocks, whose sums go to partial (splits, taps, C, K), to be added up afterwards. The more results of a block, the fewer times x and dz are
// read. Three taps of a row of the kernel need the same pixels of dz, which is fetched once for them, and of x nearly the same, which are in the
// multiprocessor's cache after the first.
//
// In 16 bits an operand holds two numbers that the sum runs over, here two pixels, but neighbours in memory are two channels. So they are turned
// while they are read from shared memory: load_four does that for numbers of 16 bits, not for those of 32, which come one by one.

#define SLAB (64 / (int)sizeof(MAP))                           // pixels

// A thread's four registers of 16 channels of DEPTH pixels, which begin at `at` and lie `row` numbers apart. Of A, register i holds numbers of
// the channels' eight i % 2 and of the pixels' half i / 2; of B, where they are two tiles side by side, it is the other way round.
template <bool OF_A> __device__ __forceinline__ void operands(const float* at, int row, unsigned* four) {
    int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
    UNROLL for (int i = 0; i < 4; ++i) {
        int eight = OF_A ? i % 2 : i / 2, half = OF_A ? i / 2 : i % 2;
        four[i] = to_tf32(at[(4 * half + member) * row + 8 * eight + group]);
    }
}
template <bool OF_A> __device__ __forceinline__ void operands(const bf16* at, int row, unsigned* four) {
    int lane = threadIdx.x % 32, i = lane / 8, eight = OF_A ? i % 2 : i / 2, half = OF_A ? i / 2 : i % 2;
    load_four<true>(four, at + (8 * half + lane % 8) * row + 8 * eight);                  // where a row of matrix i lies
}

// UP: of the 2x2 up-convolution. There it is dz that a tap shifts, (2 row + tap / 2, 2 column + tap % 2), and x stays.
// rows, columns: of the pixels that are summed over; height, width: of the array that is shifted.
template <int TILE_C, int TILE_K, int TAPS, bool UP>
__device__ __forceinline__ void tap_gradients(const MAP* x, const MAP* dz, float* partial, int pixels, int share, int height, int width,
                                              int channels, int rows, int columns, int outputs, int padding) {
    constexpr int WM = TILE_C / (WARPS / 2), WN = TILE_K / 2, TILES_M = WM / 16, TILES_N = WN / 8;     // of a warp; products of (16, 8) in it
    constexpr int A_ROW = TILE_C + 8, A_SLAB = SLAB * A_ROW, B_ROW = TILE_K + 8, B_SLAB = SLAB * B_ROW;
    constexpr int MORE = 32 * WARPS / SLAB * IN_COPY;                  // numbers of a pixel that all threads together gather at once
    constexpr int STEP = UP ? 2 : 1;                                   // how far apart what a tap shifts is from pixel to pixel
    SHARED_OF_LAUNCH(bytes);
    MAP *a_slabs = (MAP*)bytes, *b_slabs = a_slabs + SLABS * TAPS * A_SLAB;        // SLAB pixels x TILE channels of x, for each tap; and of dz
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    int groups = UP ? 4 : 9 / TAPS, first_tap = blockIdx.z % groups * TAPS, split = blockIdx.z / groups;
    int first_c = blockIdx.x * TILE_C, first_k = blockIdx.y * TILE_K;
    int first = split * share, last = min(first + share, pixels), slabs = (last - first + SLAB - 1) / SLAB;

    // What this thread gathers of each slab: 16 bytes, and those MORE numbers further on, of one pixel. Where that is, and where its first tap
    // takes it; a slab further on, SLAB pixels further on.
    int of_slab = gathered_row(threadIdx.x * IN_COPY / MORE), at = threadIdx.x * IN_COPY % MORE;
    int pixel = first + of_slab, column = pixel % columns, row = pixel / columns % rows;
    int down = UP ? first_tap / 2 : first_tap / 3 - padding, right = UP ? first_tap % 2 : first_tap % 3 - padding;
    int shifted = (pixel / columns / rows * height + STEP * row + down) * width + STEP * column + right;
    auto gather = [&](int slab) {                              // slabs come in order, so that no pixel needs a division
        if (slab < slabs) {
            MAP *a = a_slabs + slab % SLABS * TAPS * A_SLAB + of_slab * A_ROW + at, *b = b_slabs + slab % SLABS * B_SLAB + of_slab * B_ROW + at;
            const MAP* of_dz = dz + (pixel < last ? (UP ? shifted : pixel) * outputs + first_k + at : 0);
            UNROLL for (int more = 0; more < TILE_K; more += MORE)         // what is not inside is not read, wherever it would be
                copy_16_bytes<false>(b + more, of_dz + more, pixel < last && first_k + at + more < outputs);
            UNROLL for (int t = 0; t < TAPS; ++t) {
                int above = row + down, across = column + right + t;
                bool inside = pixel < last && (UP || above >= 0 && above < height && across >= 0 && across < width);
                const MAP* of_x = x + (inside ? ((UP ? pixel : shifted) + t) * channels + first_c + at : 0);
                UNROLL for (int more = 0; more < TILE_C; more += MORE)
                    copy_16_bytes<(TAPS > 1)>(a + t * A_SLAB + more, of_x + more, inside && first_c + at + more < channels);
            }
            pixel += SLAB;
            shifted += STEP * SLAB;
            for (column += SLAB; column >= columns; column -= columns) {
                shifted += STEP * (width - columns);
                if (++row < rows) continue;
                row = 0;
                shifted += (height - STEP * rows) * width;
            }
        }
        end_of_group();
    };
    float sum[TAPS][TILES_M][TILES_N][4] = {};
    int warp_row = warp / 2 * WM, warp_column = warp % 2 * WN;
    UNROLL for (int slab = 0; slab < SLABS - 1; ++slab) gather(slab);
    for (int slab = 0; slab < slabs; ++slab) {
        arrived<SLABS - 2>();                                  // this slab is there, and all have read the one before:
        gather(slab + SLABS - 1);                              // its place is free
        const MAP *a = a_slabs + slab % SLABS * TAPS * A_SLAB + warp_row, *b = b_slabs + slab % SLABS * B_SLAB + warp_column;
        UNROLL for (int step = 0; step < SLAB; step += DEPTH) {
            unsigned of_a[TAPS][TILES_M][4], of_b[4];
            UNROLL for (int tap = 0; tap < TAPS; ++tap)
                UNROLL for (int m = 0; m < TILES_M; ++m) operands<true>(a + tap * A_SLAB + step * A_ROW + 16 * m, A_ROW, of_a[tap][m]);
            UNROLL for (int t = 0; t < TILES_N; t += 2) {
                operands<false>(b + step * B_ROW + 8 * t, B_ROW, of_b);
                UNROLL for (int tap = 0; tap < TAPS; ++tap)
                    UNROLL for (int m = 0; m < TILES_M; ++m)
                        UNROLL for (int u = 0; u < 2; ++u) mma(sum[tap][m][t + u], of_a[tap][m], of_b + 2 * u);
            }
        }
    }
    int taps = groups * TAPS;
    UNROLL for (int tap = 0; tap < TAPS; ++tap)
        UNROLL for (int m = 0; m < TILES_M; ++m)
            UNROLL for (int t = 0; t < TILES_N; ++t)
                UNROLL for (int half = 0; half < 2; ++half) {  // two neighbouring channels of dz: one store
                    int c = first_c + warp_row + 16 * m + group + 8 * half, k = first_k + warp_column + 8 * t + 2 * member;
                    if (c < channels && k < outputs)
                        store_two(partial + ((long long)(split * taps + first_tap + tap) * channels + c) * outputs + k, sum[tap][m][t][2 * half],
                                  sum[tap][m][t][2 * half + 1]);
                }
}

#define GRADIENT(name, TILE_C, TILE_K, TAPS, UP)                                                                                               \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) name(const MAP* x, const MAP* dz, float* partial, int pixels, int share,          \
            int height, int width, int channels, int rows, int columns, int outputs, int padding) {                                            \
        tap_gradients<TILE_C, TILE_K, TAPS, UP>(x, dz, partial, pixels, share, height, width, channels, rows, columns, outputs, padding);      \
    }
#if WARPS == 4
GRADIENT(three_taps_128, 64, 128, 3, false)
#else
GRADIENT(tap_gradient_128, 128, 128, 1, false)
#endif
GRADIENT(three_taps_64, 64, 64, 3, false)
GRADIENT(up_gradient_128, 128, 128, 1, true)
GRADIENT(up_gradient_64, 64, 64, 1, true)
