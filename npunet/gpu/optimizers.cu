// The norm of the gradient and the update of the parameters (§3) without asking the host anything (optimizers.py has the formulas).
//
// As array expressions Adam is a dozen kernels and some twenty passes over memory for each parameter; here it is one kernel, which reads
// four numbers and writes three. The host would also have to wait for the norm in order to clip by it, and to know that it is
// finite, while the GPU idles. So `gradient_scale` decides both on the GPU and leaves one number, by which every update multiplies its
// gradient: 1, or clip / norm, or 0 after a loss or gradient that is not finite: then nothing is updated, now and later,
// until the host has seen it and has said why.

// partial[offset + block] = the sum of squares of the elements that this block read; blocks stride over the gradient together.
extern "C" __global__ void __launch_bounds__(SUM_THREADS) sum_of_squares(const REAL* grad, double* partial, int count, int offset) {
    double sum = 0;
    for (int i = blockIdx.x * SUM_THREADS + threadIdx.x; i < count; i += gridDim.x * SUM_THREADS) sum += (double)grad[i] * grad[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[offset + blockIdx.x] = sum;
}

// One block. report[0] = energy, report[1] = norm of the gradient, for the host to read when it likes; scale[0] as said above.
extern "C" __global__ void __launch_bounds__(SUM_THREADS) gradient_scale(const double* partial, const REAL* energy, double* report, double* scale,
                                                                    int count, double clip) {
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += SUM_THREADS) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    double norm = sqrt(sum);
    report[0] = energy[0];
    report[1] = norm;
    if (!isfinite(norm) || !isfinite(report[0])) scale[0] = 0;
    else if (scale[0] != 0) scale[0] = clip > 0 && norm > clip ? clip / norm : 1;
}

extern "C" __global__ void sgd(REAL* value, const REAL* grad, REAL* velocity, const double* scale, int count, double learning_rate,
                               double momentum, double weight_decay) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || scale[0] == 0) return;
    REAL g = grad[i] * REAL(scale[0]) + REAL(weight_decay) * value[i];
    REAL v = REAL(momentum) * velocity[i] + g;
    velocity[i] = v;
    value[i] -= REAL(learning_rate) * v;
}

extern "C" __global__ void rmsprop(REAL* value, const REAL* grad, REAL* square, REAL* velocity, const double* scale, int count,
                                   double learning_rate, double alpha, double eps, double momentum, double weight_decay) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || scale[0] == 0) return;
    REAL g = grad[i] * REAL(scale[0]) + REAL(weight_decay) * value[i];
    REAL s = REAL(alpha) * square[i] + REAL(1 - alpha) * g * g;
    square[i] = s;
    REAL direction = g / (sqrt(s) + REAL(eps));
    if (momentum != 0) velocity[i] = direction = REAL(momentum) * velocity[i] + direction;
    value[i] -= REAL(learning_rate) * direction;
}

// mean_scale = 1 / (1 - beta1^t), square_scale = 1 / (1 - beta2^t): the host knows t.
extern "C" __global__ void adam(REAL* value, const REAL* grad, REAL* mean, REAL* square, const double* scale, int count, double learning_rate,
                                double beta1, double beta2, double eps, double mean_scale, double square_scale, double weight_decay) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || scale[0] == 0) return;
    REAL g = grad[i] * REAL(scale[0]) + REAL(weight_decay) * value[i];
    REAL m = REAL(beta1) * mean[i] + REAL(1 - beta1) * g;
    REAL s = REAL(beta2) * square[i] + REAL(1 - beta2) * g * g;
    mean[i] = m;
    square[i] = s;
    value[i] -= REAL(learning_rate * mean_scale) * m / (sqrt(REAL(square_scale) * s) + REAL(eps));
}
