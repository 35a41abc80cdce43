// One deformed tile from a section that is on the GPU (§3.1; augmentation.py has the derivation of every line).
//
//     source(t) = centre + L t + u(t)            u(t) = sum over the 3 x 3 grid of B[row, i] D[i, j] B[column, j]
//
// Each thread takes one pixel of the tile, computes where it comes from, in double as on the CPU, and reads there. So the coordinates, five
// megabytes for a tile of 572, are never written. deformation holds centre (2), L (2, 2), D (2, 3, 3), one after the other.

__device__ __forceinline__ double source(const double* deformation, const double* basis, int axis, int row, int column, int size) {
    const double *linear = deformation + 2 + 2 * axis, *grid = deformation + 6 + 9 * axis;
    double u = 0;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) u += basis[3 * row + i] * grid[3 * i + j] * basis[3 * column + j];
    double middle = (size - 1) / 2.0;
    return u + deformation[axis] + linear[0] * (row - middle) + linear[1] * (column - middle);
}

__device__ __forceinline__ int mirrored(long long i, int size) {             // ... 2 1 [0 1 2 ... n-1] n-2 ...: the edge is not repeated
    if (size == 1) return 0;
    long long period = 2 * (long long)size - 2;
    i = (i % period + period) % period;
    return (int)(i < size ? i : period - i);
}

// The four weights of a cubic B-spline for the pixels floor(x) - 1 .. floor(x) + 2, with f = x - floor(x).
__device__ __forceinline__ void spline_weights(double f, double* w) {
    double g = 1 - f;
    w[0] = g * g * g / 6;
    w[1] = (4 - 6 * f * f + 3 * f * f * f) / 6;
    w[2] = (4 - 6 * g * g + 3 * g * g * g) / 6;
    w[3] = f * f * f / 6;
}

// image (size, size, C) from spline coefficients (C, H, W), then another exposure: gain (value^gamma - 1/2) + 1/2 + offset, if grey.
extern "C" __global__ void warp_image(const float* coefficients, const double* deformation, const double* basis, float* image, int size, int channels,
                                      int height, int width, int grey, double gain, double offset, double gamma) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= size * size) return;
    int row = pixel / size, column = pixel % size;
    double y = source(deformation, basis, 0, row, column, size), x = source(deformation, basis, 1, row, column, size);
    double down[4], across[4];
    spline_weights(y - floor(y), down);
    spline_weights(x - floor(x), across);
    for (int c = 0; c < channels; ++c) {
        double value = 0;
        for (int i = 0; i < 4; ++i) {
            const float* line = coefficients + ((long long)c * height + mirrored((long long)floor(y) - 1 + i, height)) * width;
            double sum = 0;
            for (int j = 0; j < 4; ++j) sum += across[j] * line[mirrored((long long)floor(x) - 1 + j, width)];
            value += down[i] * sum;
        }
        float found = (float)value;
        if (grey) {
            found = powf(fminf(fmaxf(found, 0.0f), 1.0f), (float)gamma);
            found = (float)gain * found + (float)(0.5 - 0.5 * gain + offset);
        }
        image[pixel * channels + c] = found;
    }
}

// The flat position in the section (H, W) of the pixel nearest to where each pixel of the tile comes from.
extern "C" __global__ void nearest(const double* deformation, const double* basis, long long* position, int size, int height, int width) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= size * size) return;
    int row = pixel / size, column = pixel % size;
    long long y = (long long)floor(source(deformation, basis, 0, row, column, size) + 0.5);
    long long x = (long long)floor(source(deformation, basis, 1, row, column, size) + 0.5);
    position[pixel] = (long long)mirrored(y, height) * width + mirrored(x, width);
}
