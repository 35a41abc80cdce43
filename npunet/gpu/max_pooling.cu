// 2x2 max-pooling with stride 2, and where the winner stood; backward puts the gradient there (§2; max_pooling.py has the derivation).
//
// Forward keeps one byte for each window, 0 to 3 in row-major order, instead of x and y: backward needs nothing else.
// Both kernels give one element of their RESULT to each thread, so that no two threads ever write to the same place. For backward this
// turns the scatter ("send my gradient to the winner") into a gather ("is the winner of my window me?").

extern "C" __global__ void max_pool(const MAP* x, MAP* y, unsigned char* winner, int count, int height, int width, int channels) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;             // my element of y (N, H/2, W/2, C), counted flat
    if (i >= count) return;
    int c = i % channels, rest = i / channels;                 // from the flat number back to (n, row, column, c)
    int column = rest % (width / 2);
    rest /= width / 2;
    int row = rest % (height / 2), n = rest / (height / 2);
    const MAP* corner = x + ((n * height + 2 * row) * width + 2 * column) * channels + c;     // my window's upper left pixel
    REAL best = corner[0];
    int position = 0;
    for (int p = 1; p < 4; ++p) {
        REAL value = corner[(p / 2 * width + p % 2) * channels];
        if (value > best || (isnan(value) && !isnan(best))) {  // ">" and not ">=": the first of equal values wins. NaN stays NaN
            best = value;
            position = p;
        }
    }
    y[i] = best;
    winner[i] = position;
}

extern "C" __global__ void max_pool_backward(const MAP* dy, const unsigned char* winner, const MAP* dskip, MAP* dx, int count, int height,
                                             int width, int channels, int has_skip) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;             // my element of dx (N, H, W, C)
    if (i >= count) return;
    int c = i % channels, rest = i / channels;
    int column = rest % width;
    rest /= width;
    int row = rest % height, n = rest / height;
    REAL gradient = has_skip ? REAL(dskip[i]) : REAL(0);             // what the skip connection, which reads the same x, has found
    if (row / 2 < height / 2 && column / 2 < width / 2) {      // an odd last row or column has no window
        int window = ((n * (height / 2) + row / 2) * (width / 2) + column / 2) * channels + c;
        if (winner[window] == row % 2 * 2 + column % 2) gradient += dy[window];
    }
    dx[i] = gradient;
}
