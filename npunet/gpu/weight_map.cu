// The border term of Eq. 2 for a deformed tile: w0 exp(-(d1 + d2)^2 / (2 sigma^2)) where there is background (§3; weight_map.py has the idea).
//
// The host makes one distance transform for each cell. Here every pixel looks for its own two nearest cells, in two passes of a line each:
//     nearest_in_row    the two nearest cells in my row, and how far away they are
//     border_term       of those of all rows near me, the two nearest: squares of distances add up, d^2 = across^2 + down^2
// Two of each row are enough. If the second nearest cell of all comes closest in some row, at most one other cell is closer in that row: two
// would both be nearer. Nobody looks further than `reach` pixels: beyond, Eq. 2 adds less than float32 can see (weight_map.border_reach).
//
// A cell that the deformation shows twice, itself and its mirror image, is two cells, so the pieces of the tile are numbered anew. Pixels
// that touch, corners too, join one piece: every pixel points to another one of its piece or to itself, and joining two pieces
// hangs the root of the one below that of the other. A piece is named by its root, the first of its pixels.

__device__ __forceinline__ int root_of(const int* parent, int i) {
    while (parent[i] != i) i = parent[i];
    return i;
}

// parent[i] = i for pixels of cells, -1 for background; position: where in the section (H, W) each pixel of the region comes from.
extern "C" __global__ void each_its_own(const int* instances, const long long* position, int* parent, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) parent[i] = instances[position[i]] > 0 ? i : -1;
}

// Every pixel with those of its neighbours that come before it. Others do the same at the same time, so what is read of `parent` may be old:
// then it names an older root of the same piece, and atomicMin, which says what was there really, goes on from that.
extern "C" __global__ void join_neighbours(int* parent, int size) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size * size || parent[i] < 0) return;
    for (int n = 0; n < 4; ++n) {                              // left; above: left, middle, right
        int row = i / size - (n > 0), column = i % size + (n == 0 ? -1 : n - 2);
        if (row < 0 || column < 0 || column >= size || parent[row * size + column] < 0) continue;
        int a = i, b = row * size + column;
        while (true) {
            a = root_of(parent, a);
            b = root_of(parent, b);
            if (a == b) break;
            if (a < b) { int other = a; a = b; b = other; }
            int before = atomicMin(parent + a, b);             // the later root below the earlier one
            if (before == a) break;                            // a was a root: done. Else its piece must be joined as well
            a = before;
        }
    }
}

// cell: 0 for background, else the number of the instance and of the piece, side by side.
extern "C" __global__ void name_cells(const int* instances, const long long* position, const int* parent, long long* cell, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) cell[i] = parent[i] < 0 ? 0 : ((long long)instances[position[i]] << 32) + root_of(parent, i) + 1;
}

// The two nearest cells so far, of different names, and the squares of their distances.
struct TwoNearest {
    long long cell[2] = {0, 0};
    int square[2] = {1 << 30, 1 << 30};                        // no cell at all
    __device__ __forceinline__ void meet(long long found, int distance) {
        if (found == 0) return;
        if (found == cell[0]) {
            square[0] = min(square[0], distance);
        } else if (distance < square[0]) {                     // the nearest one becomes the second
            cell[1] = cell[0]; square[1] = square[0];
            cell[0] = found; square[0] = distance;
        } else if (distance < square[1]) {
            cell[1] = found; square[1] = distance;
        }
    }
};

// For pixel (row, column) of (size, output), the region without the rims left and right: near_cell and near_square (2, size, output).
extern "C" __global__ void nearest_in_row(const long long* cell, long long* near_cell, int* near_square, int size, int output, int reach) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, count = size * output;
    if (i >= count) return;
    const long long* me = cell + i / output * size + i % output + reach;
    TwoNearest two;
    two.meet(me[0], 0);
    for (int away = 1; away <= reach && two.cell[1] == 0; ++away) {
        two.meet(me[-away], away * away);
        two.meet(me[away], away * away);
    }
    for (int n = 0; n < 2; ++n) {
        near_cell[n * count + i] = two.cell[n];
        near_square[n * count + i] = two.square[n];
    }
}

// weights (output, output) = 1, the w_c of one class for all, + the border term.
extern "C" __global__ void border_term(const long long* cell, const long long* near_cell, const int* near_square, float* weights, int size, int output,
                                       int reach, double w0, double sigma) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, count = size * output;
    if (i >= output * output) return;
    int row = i / output + reach, column = i % output;
    double border = 0;
    if (cell[row * size + column + reach] == 0) {              // background
        TwoNearest two;
        for (int away = -reach; away <= reach; ++away)
            for (int n = 0; n < 2; ++n) {
                int at = n * count + (row + away) * output + column;
                two.meet(near_cell[at], near_square[at] + away * away);
            }
        double sum = sqrt((double)two.square[0]) + sqrt((double)two.square[1]);
        if (two.cell[1] != 0) border = w0 * exp(-sum * sum / (2 * sigma * sigma));
    }
    weights[i] = (float)(1 + border);
}
