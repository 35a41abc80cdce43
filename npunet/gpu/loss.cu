// Eq. 1 with its gradient: soft-max, weighted cross-entropy and dE/da in one pass over the logits (§3; loss.py has the derivation).
//
//     p_k = exp(a_k) / sum exp(a)          E = mean of w (log sum exp(a) - a_l)          dE/da_k = w (p_k - [k = l]) / pixels
//
// One thread takes one pixel: its K logits lie side by side. Its share of the energy goes into a sum of its block, those of the
// blocks into `partial`; `mean_energy` adds them up in a fixed order. A label that is no class, and a weight that is negative or
// not finite, give NaN: the host cannot be asked from here, and a loss of NaN stops the training.

extern "C" __global__ void __launch_bounds__(SUM_THREADS) cross_entropy(const REAL* logits, const long long* labels, const REAL* weights,
                                                                   REAL* dlogits, double* partial, int pixels, int classes, int weighted) {
    int pixel = blockIdx.x * SUM_THREADS + threadIdx.x;
    double energy = 0;
    if (pixel < pixels) {
        const REAL* a = logits + (long long)pixel * classes;
        REAL* da = dlogits + (long long)pixel * classes;
        REAL largest = a[0];
        for (int k = 1; k < classes; ++k) largest = a[k] > largest ? a[k] : largest;          // nothing overflows
        REAL total = 0;
        for (int k = 0; k < classes; ++k) total += exp(a[k] - largest);
        long long label = labels[pixel];
        REAL weight = weighted ? weights[pixel] : REAL(1);
        bool valid = label >= 0 && label < classes && weight >= 0 && weight - weight == 0;             // inf - inf is NaN
        energy = valid ? weight * (log(total) - (a[label] - largest)) : REAL(nan(""));
        for (int k = 0; k < classes; ++k) {
            REAL p = exp(a[k] - largest) / total;
            da[k] = weight * (p - (k == label ? 1 : 0)) / pixels;
        }
    }
    energy = block_sum(energy);
    if (threadIdx.x == 0) partial[blockIdx.x] = energy;
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS) mean_energy(const double* partial, REAL* energy, int blocks, int pixels) {
    double sum = 0;
    for (int block = threadIdx.x; block < blocks; block += SUM_THREADS) sum += partial[block];
    sum = block_sum(sum);
    if (threadIdx.x == 0) energy[0] = sum / pixels;
}
