// Dropout (§3.1; dropout.py has the formula): y = x / (1 - rate) where the element's random number is large enough, else 0.
//
// On a CPU random numbers come out of a generator one after the other, each from the state that the one before has left. A GPU cannot
// wait for the one before. Philox has no state: its counter number b, scrambled by ten rounds of multiplications under a key, IS the
// b-th block of four random words of 64 bits, eight numbers of 32. So the thread that needs them computes them, no mask is stored
// anywhere, and backward computes the same ones again. These are the numbers of np.random.Philox(key=key), bit by bit; NumPy counts
// blocks from 1.
//
// One round: two products of 64 by 64 bits; their upper halves are mixed with the other two words and the key. Constants: Salmon et al. 2011.

typedef unsigned long long Word;

__device__ __forceinline__ void philox(Word key, Word counter, Word* w) {
    Word k[2] = {key, 0};
    w[0] = counter, w[1] = w[2] = w[3] = 0;
    for (int round = 0; round < 10; ++round) {
        Word high0 = __umul64hi(0xD2E7470EE14C6C93ull, w[0]), low0 = 0xD2E7470EE14C6C93ull * w[0];
        Word high1 = __umul64hi(0xCA5A826395121157ull, w[2]), low1 = 0xCA5A826395121157ull * w[2];
        w[0] = high1 ^ w[1] ^ k[0];
        w[1] = low1;
        w[2] = high0 ^ w[3] ^ k[1];
        w[3] = low0;
        k[0] += 0x9E3779B97F4A7C15ull;                         // the golden ratio
        k[1] += 0xBB67AE8584CAA73Bull;                         // sqrt(3) - 1
    }
}

extern "C" __global__ void dropout(const MAP* x, MAP* y, int count, unsigned long long first,
                                   const unsigned long long* key, unsigned int threshold, double scale) {
    // x[0] is element number `first` of the big batch: 0 unless several processes share it. My block of eight numbers:
    Word block = first / 8 + blockIdx.x * blockDim.x + threadIdx.x;
    Word words[4];
    philox(key[0], block + 1, words);
    for (int j = 0; j < 8; ++j) {
        long long i = (long long) (8 * block + j - first);
        unsigned int number = words[j / 2] >> 32 * (j % 2);    // the lower half first
        if (0 <= i && i < count) y[i] = x[i] * (number >= threshold ? REAL(scale) : REAL(0));
    }
}
