"""Check of exercise 2, run as: pytest lessons/exercises -k 02"""

import numpy as np
from exercise import check_of, load

READ = 'lesson 2, "Two gradients, one question"'
AXES = ("image", "row", "column", "channel")
KERNEL = "right for kernels of 3 x 3, wrong for others: take the size from the arguments, do not write 3"
CASES = {
    "one image of 7 x 9, one channel": ((1, 7, 9, 1), (3, 3), 1),
    "two images of 7 x 9": ((2, 7, 9, 3), (3, 3), 2),
    "8 x 6: an even number of rows and columns": ((2, 8, 6, 2), (3, 3), 2),
    "a kernel of 1 x 1": ((1, 5, 4, 2), (1, 1), 3),
    "a kernel of 3 x 5": ((2, 6, 9, 2), (3, 5), 3),
}


def definition(x, weight, stride=2, begin=0):
    kh, kw, _, outputs = weight.shape
    rows = range(begin, x.shape[1] - kh + 1, stride)
    columns = range(begin, x.shape[2] - kw + 1, stride)
    y = np.zeros((len(x), len(rows), len(columns), outputs))
    for n, i, j, k in np.ndindex(y.shape):
        y[n, i, j, k] = (x[n, rows[i] : rows[i] + kh, columns[j] : columns[j] + kw] * weight[..., k]).sum()
    return y


def gradients(dy, x, weight, stride=2):
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    kh, kw = weight.shape[:2]
    for n, i, j, k in np.ndindex(dy.shape):
        window = n, slice(stride * i, stride * i + kh), slice(stride * j, stride * j + kw)
        dx[window] += dy[n, i, j, k] * weight[..., k]
        dweight[..., k] += dy[n, i, j, k] * x[window]
    return dx, dweight


def arrays(seed, x_shape, kernel, outputs):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(x_shape), rng.standard_normal((*kernel, x_shape[3], outputs)), rng


def test_strided_conv2d():
    check = check_of("02_convolution", "strided_conv2d", READ)
    function = check.function
    check.function = lambda x, weight: function(x, weight)[0]
    for seed, (case, sizes) in enumerate(CASES.items()):
        x, weight, _ = arrays(seed, *sizes)
        mistakes = {
            "every second pixel of x is taken before the convolution; it belongs behind it": thinned(x, weight),
            "every row and column is there: the step of 2 is missing": definition(x, weight, stride=1),
            "rows and columns 1, 3, 5 ...; the first is number 0": definition(x, weight, begin=1),
            "every third row and column; every second is wanted": definition(x, weight, stride=3),
            "the kernel is flipped": definition(x, weight[::-1, ::-1]),
            "means of 2 x 2 results; every second result is wanted": pooled(definition(x, weight, stride=1)),
        }
        tags = (KERNEL,) if sizes[1] != (3, 3) else ()
        check(case, {"x": x, "weight": weight}, definition(x, weight), mistakes, axes=AXES, tags=tags)
    check.verdict()


def thinned(x, weight):
    small = x[:, ::2, ::2]
    fits = small.shape[1] >= weight.shape[0] and small.shape[2] >= weight.shape[1]
    return definition(small, weight, stride=1) if fits else None


def pooled(y):
    y = y[:, : y.shape[1] // 2 * 2, : y.shape[2] // 2 * 2]
    return (y[:, ::2, ::2] + y[:, 1::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, 1::2]) / 4


def test_strided_conv2d_backward():
    check = check_of("02_convolution", "strided_conv2d_backward", READ)
    backward, forward = check.function, load("02_convolution").strided_conv2d
    check.function = lambda dy, x, weight: backward(dy, forward(x, weight)[1])
    for seed, (case, sizes) in enumerate(CASES.items()):
        x, weight, rng = arrays(10 + seed, *sizes)
        dy = rng.standard_normal(definition(x, weight).shape)
        dx, dweight = gradients(dy, x, weight)
        full = definition(x, weight, stride=1).shape
        repeated = dy.repeat(2, axis=1).repeat(2, axis=2)[:, : full[1], : full[2]]
        shifted = np.zeros(full)
        place = shifted[:, 1::2, 1::2]
        place[...] = dy[:, : place.shape[1], : place.shape[2]]
        mistakes = {
            "dy is repeated: results that were not taken have no gradient, put zeros between": gradients(
                repeated, x, weight, stride=1
            )
            if repeated.shape == full
            else (None, None),
            "dy is put back one row and column too far": gradients(shifted, x, weight, stride=1),
            "the kernel is flipped": (gradients(dy, x, weight[::-1, ::-1])[0], dweight[::-1, ::-1]),
            "four times too large: taking a result does not change its size": (4 * dx, 4 * dweight),
            "dx and dweight are returned in the other order": (dweight, dx),
        }
        tags = (KERNEL,) if sizes[1] != (3, 3) else ()
        arguments = {"dy": dy, "x": x, "weight": weight}
        outputs = ("dx", "dweight")
        check(case, arguments, (dx, dweight), mistakes, outputs=outputs, axes=(AXES, ()), tags=tags)
    check.verdict()
