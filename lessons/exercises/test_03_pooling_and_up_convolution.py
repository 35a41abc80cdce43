"""Check of exercise 3, run as: pytest lessons/exercises -k 03"""

import numpy as np
from exercise import check_of, load

READ = 'lesson 3, "Max-pooling: keep the largest of four"'
AXES = ("image", "row", "column", "channel")
CASES = {
    "by hand": np.array([[1.0, 3, 0, 0], [5, 7, 0, 8]]).reshape(1, 2, 4, 1),
    "4 x 6 pixels": np.random.default_rng(1).standard_normal((1, 4, 6, 1)),
    "two images, 3 channels": np.random.default_rng(2).standard_normal((2, 6, 4, 3)),
}


def test_average_pool2d():
    check = check_of("03_pooling_and_up_convolution", "average_pool2d", READ)
    function = check.function
    check.function = lambda x: function(x)[0]
    for case, x in CASES.items():
        y = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
        for n, i, j, c in np.ndindex(y.shape):
            y[n, i, j, c] = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c].sum() / 4
        mistakes = {
            "a sum: divide by 4": 4 * y,
            "divided by 2; four pixels are in a window": 2 * y,
            "the largest of the four, not their mean": np.max(corners(x), axis=0),
            "the first corner only": x[:, ::2, ::2],
            "halves of the image meet, not neighbours: a reshape with its axes in the wrong order": x.reshape(
                len(x), 2, x.shape[1] // 2, 2, x.shape[2] // 2, x.shape[3]
            ).mean(axis=(1, 3)),
            "only the upper two of the four": (x[:, ::2, ::2] + x[:, ::2, 1::2]) / 2,
            "the median of the four, not their mean": np.median(corners(x), axis=0),
        }
        check(case, {"x": x}, y, mistakes, axes=AXES)
    check.keeps_float32({"x": x})


def corners(x):
    return [x[:, a::2, b::2] for a in (0, 1) for b in (0, 1)]


def test_average_pool2d_backward():
    check = check_of("03_pooling_and_up_convolution", "average_pool2d_backward", READ)
    backward, forward = check.function, load("03_pooling_and_up_convolution").average_pool2d
    check.function = lambda dy, x: backward(dy, forward(x)[1])
    for seed, (case, x) in enumerate(CASES.items()):
        dy = np.random.default_rng(10 + seed).standard_normal((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
        dx = np.zeros(x.shape)
        for n, i, j, c in np.ndindex(x.shape):
            dx[n, i, j, c] = dy[n, i // 2, j // 2, c] / 4
        first, largest = np.zeros(x.shape), np.max(corners(x), axis=0).repeat(2, axis=1).repeat(2, axis=2)
        first[:, ::2, ::2] = dy
        mistakes = {
            "every pixel gets all of dy; its share in the mean is a quarter": 4 * dx,
            "only the first corner gets dy; all four have the same share": first,
            "only the first corner gets its quarter; all four have the same share": first / 4,
            "the largest pixel gets dy, as in max-pooling": 4 * dx * (x == largest),
            "dy is laid out as a whole picture four times; each of its pixels belongs to one window": np.tile(
                dy, (1, 2, 2, 1)
            )
            / 4,
            "dy is laid out as a whole picture four times, and the quarter is missing": np.tile(dy, (1, 2, 2, 1)),
        }
        check(case, {"dy": dy, "x": x}, dx, mistakes, outputs=("dx",), axes=AXES)
    check.keeps_float32({"dy": dy, "x": x}, ("dx",))
