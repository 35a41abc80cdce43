// The norm of the gradient and the update of the parameters (§3) without asking the host anything (optimizers.py has the formulas).
//
// As array expressions Adam is a dozen kernels and some twenty passes over memory for each parameter; here one kernel does all parameters,
// reads four numbers of each element and writes three. The host would also have to wait for the norm in order to clip by it, and to know
// that it is finite, while the GPU idles. So `gradient_scale` decides both on the GPU and leaves one number, by which every update
// multiplies its gradient: 1, or clip / norm, or 0 after a loss or gradient that is not finite: then nothing is updated, now and later,
// until the host has seen it and has said why.
//
// A network has weights of millions of elements and biases of 64. A launch for each of them, 92 in a step of Fig. 1, would cost more time
// for its beginning and end than for its work. So all go into one: the parameters are cut into pieces of PIECE elements, and each block
// takes one. Where the arrays lie comes as an argument by value, `Tensors`: 2.5 of the 4 kilobytes that arguments may have. MOST, the
// number of parameters in a launch, and PIECE come from optimizers.py.

struct Tensors {
    REAL* array[4][MOST];                                      // gradient, value and up to two slots of each parameter
    int size[MOST];                                            // its elements
    int first_block[MOST + 1];                                 // the number of the first block that works on it
};

// What is this block's: parameter `tensor`, elements first to last - 1.
struct Piece {
    int tensor, first, last;
    __device__ __forceinline__ Piece(const Tensors& all) {
        tensor = 0;
        while ((int)blockIdx.x >= all.first_block[tensor + 1]) ++tensor;
        first = (blockIdx.x - all.first_block[tensor]) * PIECE;
        last = min(first + PIECE, all.size[tensor]);
    }
};

// partial[offset + block] = the sum of squares of this block's piece of the gradients.
extern "C" __global__ void __launch_bounds__(SUM_THREADS) sum_of_squares(Tensors all, double* partial, int offset) {
    Piece piece(all);
    const REAL* grad = all.array[0][piece.tensor];
    double sum = 0;
#pragma unroll 4
    for (int i = piece.first + threadIdx.x; i < piece.last; i += SUM_THREADS) sum += (double)grad[i] * grad[i];
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

// The updates. `step` holds what differs from step to step, in the memory of the GPU: so a recorded step (graph.py) can be replayed.
// No two arrays overlap (__restrict__): so the compiler may load the next elements before it has stored these.

// step: learning rate
extern "C" __global__ void __launch_bounds__(256) sgd(Tensors all, const double* scale, const double* step, double momentum, double weight_decay) {
    if (scale[0] == 0) return;
    Piece piece(all);
    const REAL* __restrict__ grad = all.array[0][piece.tensor];
    REAL *__restrict__ value = all.array[1][piece.tensor], *__restrict__ velocity = all.array[2][piece.tensor];
    REAL factor = scale[0], rate = step[0];
#pragma unroll 4
    for (int i = piece.first + threadIdx.x; i < piece.last; i += 256) {
        REAL p = value[i], g = grad[i] * factor + REAL(weight_decay) * p;
        REAL v = REAL(momentum) * velocity[i] + g;
        velocity[i] = v;
        value[i] = p - rate * v;
    }
}

// step: learning rate. Without momentum there is no velocity; then the slot is `square` once more, and not touched.
extern "C" __global__ void __launch_bounds__(256) rmsprop(Tensors all, const double* scale, const double* step, double alpha, double eps, double momentum,
                                                          double weight_decay) {
    if (scale[0] == 0) return;
    Piece piece(all);
    const REAL* grad = all.array[0][piece.tensor];
    REAL *value = all.array[1][piece.tensor], *square = all.array[2][piece.tensor], *velocity = all.array[3][piece.tensor];
    for (int i = piece.first + threadIdx.x; i < piece.last; i += 256) {
        REAL g = grad[i] * REAL(scale[0]) + REAL(weight_decay) * value[i];
        REAL s = REAL(alpha) * square[i] + REAL(1 - alpha) * g * g;
        square[i] = s;
        REAL direction = g / (sqrt(s) + REAL(eps));
        if (momentum != 0) velocity[i] = direction = REAL(momentum) * velocity[i] + direction;
        value[i] -= REAL(step[0]) * direction;
    }
}

// step: learning rate / (1 - beta1^t), 1 / (1 - beta2^t); the host knows t.
extern "C" __global__ void __launch_bounds__(256) adam(Tensors all, const double* scale, const double* step, double beta1, double beta2, double eps,
                                                       double weight_decay) {
    if (scale[0] == 0) return;
    Piece piece(all);
    const REAL* __restrict__ grad = all.array[0][piece.tensor];
    REAL *__restrict__ value = all.array[1][piece.tensor], *__restrict__ mean = all.array[2][piece.tensor];
    REAL* __restrict__ square = all.array[3][piece.tensor];
    REAL factor = scale[0], rate = step[0], square_scale = step[1];
#pragma unroll 4
    for (int i = piece.first + threadIdx.x; i < piece.last; i += 256) {
        REAL p = value[i], g = grad[i] * factor + REAL(weight_decay) * p;
        REAL m = REAL(beta1) * mean[i] + REAL(1 - beta1) * g;
        REAL s = REAL(beta2) * square[i] + REAL(1 - beta2) * g * g;
        mean[i] = m;
        square[i] = s;
        value[i] = p - rate * m / (sqrt(square_scale * s) + REAL(eps));
    }
}
