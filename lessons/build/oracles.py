"""What the checks compare with: the formulas of the paper as loops, one element at a time. Slow, and meant to be.

They belong to the checks: whoever reads them first has read half of the answer. tests/test_build.py compares each with
npunet, so that they are right, and they call neither npunet nor the solutions, so that they are independent.
"""

import math

import numpy as np


def conv2d(x, weight, bias):
    """y[n, i, j, k] = bias[k] + sum over u, v, c of x[n, i + u, j + v, c] weight[u, v, c, k]."""
    kh, kw, _, outputs = weight.shape
    y = np.zeros((len(x), x.shape[1] - kh + 1, x.shape[2] - kw + 1, outputs), x.dtype)
    for n, i, j, k in np.ndindex(y.shape):
        y[n, i, j, k] = bias[k] + (x[n, i : i + kh, j : j + kw] * weight[..., k]).sum()
    return y


def conv2d_gradients(dy, x, weight):
    """dx, dweight, dbias: every product of the forward loop sends its share back."""
    kh, kw = weight.shape[:2]
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight[0, 0, 0])
    for n, i, j, k in np.ndindex(dy.shape):
        dx[n, i : i + kh, j : j + kw] += dy[n, i, j, k] * weight[..., k]
        dweight[..., k] += dy[n, i, j, k] * x[n, i : i + kh, j : j + kw]
        dbias[k] += dy[n, i, j, k]
    return dx, dweight, dbias


def max_pool(x, ties="first"):
    """y, and the row and column in x of each winner; ties "first" or "last" in row-major order."""
    n, height, width, channels = x.shape
    y = np.zeros((n, height // 2, width // 2, channels), x.dtype)
    winner = {}
    for place in np.ndindex(y.shape):
        image, i, j, c = place
        corners = [(2 * i + a, 2 * j + b) for a in (0, 1) for b in (0, 1)]
        if ties == "last":
            corners.reverse()
        best = max(corners, key=lambda corner: x[image, corner[0], corner[1], c])  # the first of equal ones
        winner[place], y[place] = best, x[image, best[0], best[1], c]
    return y, winner


def max_pool_gradient(dy, x, ties="first"):
    """The winner gets it; ties "all" gives it to every pixel that equals the maximum, "shared" in equal parts."""
    y, winner = max_pool(x, "last" if ties == "last" else "first")
    dx = np.zeros(x.shape, dy.dtype)
    for place, (row, column) in winner.items():
        image, i, j, c = place
        if ties in ("first", "last"):
            dx[image, row, column, c] += dy[place]
            continue
        window = x[image, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c] == y[place]
        share = dy[place] / (window.sum() if ties == "shared" else 1)
        dx[image, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c] += share * window
    return dx


def up_conv(x, weight, bias):
    """y[n, 2i + a, 2j + b, k] = bias[k] + sum over c of x[n, i, j, c] weight[a, b, c, k]."""
    n, height, width, channels = x.shape
    y = np.zeros((n, 2 * height, 2 * width, weight.shape[3]), x.dtype)
    for image, row, column, k in np.ndindex(y.shape):
        total = bias[k]
        for c in range(channels):
            total = total + x[image, row // 2, column // 2, c] * weight[row % 2, column % 2, c, k]
        y[image, row, column, k] = total
    return y


def up_conv_gradients(dy, x, weight):
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight[0, 0, 0])
    for image, row, column, k in np.ndindex(dy.shape):
        d = dy[image, row, column, k]
        dx[image, row // 2, column // 2] += d * weight[row % 2, column % 2, :, k]
        dweight[row % 2, column % 2, :, k] += d * x[image, row // 2, column // 2]
        dbias[k] += d
    return dx, dweight, dbias


def crop_concat(upsampled, skip, top=None, left=None):
    n, height, width, channels = upsampled.shape
    top = (skip.shape[1] - height) // 2 if top is None else top
    left = (skip.shape[2] - width) // 2 if left is None else left
    y = np.zeros((n, height, width, channels + skip.shape[3]), upsampled.dtype)
    for image, i, j, c in np.ndindex(y.shape):
        mine = c < channels
        y[image, i, j, c] = upsampled[image, i, j, c] if mine else skip[image, top + i, left + j, c - channels]
    return y


def crop_concat_gradients(dy, channels, skip_shape, top=None, left=None):
    _, height, width, _ = dy.shape
    top = (skip_shape[1] - height) // 2 if top is None else top
    left = (skip_shape[2] - width) // 2 if left is None else left
    dupsampled, dskip = np.zeros((*dy.shape[:3], channels), dy.dtype), np.zeros(skip_shape, dy.dtype)
    for image, i, j, c in np.ndindex(dy.shape):
        if c < channels:
            dupsampled[image, i, j, c] = dy[image, i, j, c]
        else:
            dskip[image, top + i, left + j, c - channels] = dy[image, i, j, c]
    return dupsampled, dskip


def softmax(logits):
    p = np.zeros(logits.shape, logits.dtype)
    for place in np.ndindex(logits.shape[:-1]):
        largest = max(float(a) for a in logits[place])
        exponentials = [math.exp(float(a) - largest) for a in logits[place]]
        p[place] = [e / sum(exponentials) for e in exponentials]
    return p


def energy(logits, labels, weights):
    """Eq. 1 as a mean, and its gradient w (p - q) / pixels."""
    p, loss, dlogits = softmax(logits), 0.0, np.zeros(logits.shape, logits.dtype)
    for place in np.ndindex(labels.shape):
        loss -= float(weights[place]) * math.log(p[place][labels[place]]) / labels.size
        for k in range(logits.shape[-1]):
            dlogits[place][k] = weights[place] * (p[place][k] - (k == labels[place])) / labels.size
    return loss, dlogits


def distances(instances, power=2):
    """(d1, d2) of every pixel: to the nearest and the second nearest cell.

    power 2 is a straight line; for mistakes: 1 along rows and columns, 0 the larger of the two.
    """
    cells = [np.argwhere(instances == label) for label in np.unique(instances) if label != 0]
    d1, d2 = np.full(instances.shape, np.inf), np.full(instances.shape, np.inf)
    for y, x in np.ndindex(instances.shape):
        found = []
        for cell in cells:
            dy, dx = np.abs(cell[:, 0] - y).astype(float), np.abs(cell[:, 1] - x).astype(float)
            lengths = {2: np.sqrt(dy * dy + dx * dx), 1: dy + dx, 0: np.maximum(dy, dx)}[power]
            found.append(float(lengths.min()))
        found = [*sorted(found), np.inf, np.inf]
        d1[y, x], d2[y, x] = found[:2]
    return d1, d2


def weight_map(instances, w0, sigma):
    """Eq. 2 with w_c = 1, on background pixels; without a second cell d2 is infinite and exp(-inf) = 0."""
    d1, d2 = distances(instances)
    return 1 + (instances == 0) * w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))


def displacement_field(vectors, size):
    """The natural cubic spline through three numbers, first along each row of the grid, then along each column."""

    def spline(values, t):
        a, b, c = (float(v) for v in values)
        bend = (a - 2 * b + c) / 4
        near, far, s = (a, b, t) if t <= 1 else (c, b, 2 - t)
        return near * (1 - s) + far * s + bend * (s**3 - s)

    field = np.zeros((2, size, size))
    for axis, row, column in np.ndindex(field.shape):
        t_row, t_column = 2 * row / (size - 1), 2 * column / (size - 1)
        field[axis, row, column] = spline([spline(line, t_column) for line in vectors[axis]], t_row)
    return field


def mirrored(position, length):
    """Where a position outside 0 .. length - 1 is found, the outermost pixel not repeated."""
    while not 0 <= position < length:
        position = -position if position < 0 else 2 * (length - 1) - position
    return position


def v_rand(regions, truth, alone=True):
    """All pairs of foreground pixels, one by one."""
    places = [place for place in np.ndindex(truth.shape) if truth[place] > 0]
    both = in_regions = in_cells = 0
    for p in places:
        for q in places:
            together = regions[p] == regions[q] and (regions[p] > 0 or not alone or p == q)
            in_regions += together
            in_cells += truth[p] == truth[q]
            both += together and truth[p] == truth[q]
    return 2 * both / (in_regions + in_cells)
