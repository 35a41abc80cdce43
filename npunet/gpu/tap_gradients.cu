// The weight gradient of a convolution on the tensor cores: for each tap, dweight (C, K) = x shifted by the tap, turned (C, pixels), times
// dz (pixels, K). tensor_cores.cu explains slabs, fragments, banks and precisions.
//
// TILE x TILE results for each block and tap, TILE / 4 x TILE / 2 of them for each warp. The pixels are shared out over several blocks, whose
// sums go to partial (splits, taps, C, K), to be added up afterwards. The larger the tile, the fewer times x and dz are read, from memory
// and from shared memory. With few channels a large tile would be half empty; there a block does the three taps of one row of the kernel
// (TAPS), so that dz is fetched and rounded once for three products.
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
template <int TILE, int TAPS, bool UP>
__device__ __forceinline__ void tap_gradients(const MAP* x, const MAP* dz, float* partial, int pixels, int share, int height, int width,
                                              int channels, int rows, int columns, int outputs, int padding) {
    constexpr int ROW = TILE + 8, COPIES = TILE / IN_COPY, LOADS = SLAB * COPIES / 256, TILES_M = TILE / 64, TILES_N = TILE / 16;
    __shared__ __align__(16) MAP a_slab[2][TAPS][SLAB * ROW];          // SLAB pixels x TILE channels of x, for each tap
    __shared__ __align__(16) MAP b_slab[2][SLAB * ROW];                // SLAB pixels x TILE channels of dz
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, member = lane % 4;
    int groups = UP ? 4 : 9 / TAPS, first_tap = blockIdx.z % groups * TAPS, split = blockIdx.z / groups;
    int first_c = blockIdx.x * TILE, first_k = blockIdx.y * TILE;
    int first = split * share, last = min(first + share, pixels), slabs = (last - first + SLAB - 1) / SLAB;

    // What this thread gathers of each slab: 16 bytes of LOADS pixels. Where these are; a slab further on, SLAB pixels further on.
    int load_c = threadIdx.x % COPIES * IN_COPY, pixel[LOADS], column[LOADS], row[LOADS], image[LOADS];
    UNROLL for (int l = 0; l < LOADS; ++l) {
        pixel[l] = first + threadIdx.x / COPIES + l * (256 / COPIES);
        column[l] = pixel[l] % columns;
        row[l] = pixel[l] / columns % rows;
        image[l] = pixel[l] / columns / rows;
    }
    auto gather = [&](int slab) {                              // slabs come in order, so that no pixel needs a division
        UNROLL for (int l = 0; l < LOADS; ++l) {
            int at = (threadIdx.x / COPIES + l * (256 / COPIES)) * ROW + load_c;
            bool known = pixel[l] < last, inside_x = known && first_c + load_c < channels, inside_dz = known && first_k + load_c < outputs;
            UNROLL for (int t = 0; t < TAPS; ++t) {
                int tap = first_tap + t, down = row[l] + tap / 3 - padding, across = column[l] + tap % 3 - padding;
                bool inside = UP ? inside_x : inside_x && down >= 0 && down < height && across >= 0 && across < width;
                long long place = UP ? pixel[l] : ((long long)image[l] * height + down) * width + across;
                copy_16_bytes<false>(a_slab[slab % 2][t] + at, x + (inside ? place * channels + first_c + load_c : 0), inside);
            }
            long long place = UP ? ((long long)image[l] * height + 2 * row[l] + first_tap / 2) * width + 2 * column[l] + first_tap % 2 : pixel[l];
            copy_16_bytes<false>(b_slab[slab % 2] + at, dz + (inside_dz ? place * outputs + first_k + load_c : 0), inside_dz);
            pixel[l] += SLAB;
            for (column[l] += SLAB; column[l] >= columns; column[l] -= columns)
                if (++row[l] == rows) {
                    row[l] = 0;
                    ++image[l];
                }
        }
        end_of_group();
    };
    float sum[TAPS][TILES_M][TILES_N][4] = {};
    int warp_row = warp / 2 * (TILE / 4), warp_column = warp % 2 * (TILE / 2);
    if (slabs > 0) gather(0);
    for (int slab = 0; slab < slabs; ++slab) {
        if (slab + 1 < slabs) {
            gather(slab + 1);
            arrived<1>();
        } else {
            arrived<0>();
        }
        UNROLL for (int step = 0; step < SLAB; step += DEPTH) {
            unsigned of_a[TAPS][TILES_M][4], of_b[4];
            UNROLL for (int tap = 0; tap < TAPS; ++tap)
                UNROLL for (int m = 0; m < TILES_M; ++m)
                    operands<true>(a_slab[slab % 2][tap] + step * ROW + warp_row + 16 * m, ROW, of_a[tap][m]);
            UNROLL for (int t = 0; t < TILES_N; t += 2) {
                operands<false>(b_slab[slab % 2] + step * ROW + warp_column + 8 * t, ROW, of_b);
                UNROLL for (int tap = 0; tap < TAPS; ++tap)
                    UNROLL for (int m = 0; m < TILES_M; ++m)
                        UNROLL for (int u = 0; u < 2; ++u) mma(sum[tap][m][t + u], of_a[tap][m], of_b + 2 * u);
            }
        }
        __syncthreads();                                       // all have read this slab; the next gather may overwrite it
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

#define GRADIENT(name, TILE, TAPS, UP)                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, 2) name(const MAP* x, const MAP* dz, float* partial, int pixels, int share, int height,     \
            int width, int channels, int rows, int columns, int outputs, int padding) {                                                        \
        tap_gradients<TILE, TAPS, UP>(x, dz, partial, pixels, share, height, width, channels, rows, columns, outputs, padding);                \
    }
GRADIENT(tap_gradient_128, 128, 1, false)
GRADIENT(three_taps_64, 64, 3, false)
GRADIENT(up_gradient_128, 128, 1, true)
GRADIENT(up_gradient_64, 64, 1, true)
