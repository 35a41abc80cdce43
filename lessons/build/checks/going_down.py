"""Checks of relu.py and pooling.py."""

import numpy as np

from lessons.build import oracles
from lessons.checking import tags_of

AXES = ("image", "row", "column", "channel")


def check_relu(check):
    rng = np.random.default_rng(1)
    signs = np.array([[-2.0, 0, 3], [0.5, -0.25, 1]]).reshape(1, 2, 3, 1)
    for case, x in {"the example of the form": signs, "random numbers": rng.standard_normal((2, 3, 4, 2))}.items():
        expected = np.array([max(0.0, value) for value in x.ravel()]).reshape(x.shape)
        check(
            case,
            {"x": x},
            expected,
            {
                "x comes back as it was": x,
                "the other half: positive numbers became 0": np.minimum(x, 0),
                "absolute values: negative numbers become 0, not positive": np.abs(x),
                "1 where x is positive: that is its derivative, not the function": (x > 0) * 1.0,
                "negative numbers leak through with a small factor (a leaky ReLU)": np.where(x > 0, x, 0.01 * x),
                "a sigmoid": 1 / (1 + np.exp(-x)),
                "a hyperbolic tangent": np.tanh(x),
                "numbers above 1 are cut off": np.clip(x, 0, 1),
            },
            axes=AXES,
        )
    check.keeps_float32({"x": rng.standard_normal((1, 4, 4, 2))})
    check.fast("200 x 200 x 8 numbers", {"x": rng.standard_normal((1, 200, 200, 8))}, 0.02, "No loop: one NumPy call")


def check_relu_gradient(check):
    rng = np.random.default_rng(2)
    example = np.array([[4.0, 5, -6], [7, 8, -9]]).reshape(1, 2, 3, 1), np.array([[-2.0, 0, 3], [0.5, -0.25, 1]])
    examples = {
        "the example of the form": (example[0], example[1].reshape(1, 2, 3, 1)),
        "random numbers": (rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 3, 4, 2))),
    }
    for case, (dy, x) in examples.items():
        expected = np.array([d if value > 0 else 0.0 for d, value in zip(dy.ravel(), x.ravel())]).reshape(x.shape)
        check(
            case,
            {"dy": dy, "x": x},
            expected,
            {
                "the gradient at x = 0 should be 0: write x > 0, not x >= 0": dy * (x >= 0),
                "the sign of dy decides; the sign of x should": np.maximum(dy, 0),
                "dy comes back as it was": dy,
                "the derivative alone: it is multiplied with dy (chain rule)": (x > 0) * 1.0,
                "relu(x) is multiplied with dy; its derivative, 0 or 1, should be": dy * np.maximum(x, 0),
                "x comes back where x is positive; dy should": np.maximum(x, 0),
                "the wrong half: dy passes where x is negative": dy * (x < 0),
                "dy passes where x is not positive: the wrong half": dy * (x <= 0),
                "dy passes where dy and x are positive; only x decides": dy * ((x > 0) & (dy > 0)),
            },
            outputs=("dx",),
            axes=AXES,
        )
    arguments = {"dy": rng.standard_normal((1, 200, 200, 8)), "x": rng.standard_normal((1, 200, 200, 8))}
    check.keeps_float32(arguments, ("dx",))
    check.fast("200 x 200 x 8 numbers", arguments, 0.02, "No loop: a comparison gives a mask for all at once")


def shuffled(seed, shape):
    """Distinct numbers, negative ones too."""
    rng = np.random.default_rng(seed)
    return (rng.permutation(int(np.prod(shape))) - np.prod(shape) // 2).reshape(shape) / 8.0


POOLED = {
    "one image, one channel": (1, 4, 6, 1),
    "one image, 3 channels": (1, 4, 6, 3),
    "three images, 2 channels": (3, 6, 4, 2),
}


def check_max_pool(check):
    example = np.array([[1.0, 3, -5, -2], [4, 2, -1, -8], [0, 0, 7, 7], [0, 0, 6, 9]]).reshape(1, 4, 4, 1)
    examples = {"the example of the form": example}
    examples |= {case: shuffled(seed, shape) for seed, (case, shape) in enumerate(POOLED.items())}
    for case, x in examples.items():
        check(case, {"x": x}, oracles.max_pool(x)[0], pool_mistakes(x), axes=AXES, tags=tags_of(x.shape))
    x = np.random.default_rng(3).standard_normal((1, 200, 200, 8))
    check.keeps_float32({"x": x})
    how = "No loop over pixels: x[:, 0::2, 0::2] is the first corner of all windows at once"
    check.fast("200 x 200 pixels, 8 channels", {"x": x.astype(np.float32)}, 0.03, how)


def pool_mistakes(x):
    first, second, third, fourth = (x[:, a::2, b::2] for a in (0, 1) for b in (0, 1))
    n, height, width, channels = x.shape
    slides = [x[:, a : height - 1 + a, b : width - 1 + b] for a in (0, 1) for b in (0, 1)]
    found = {
        "the mean of the four, not the largest": (first + second + third + fourth) / 4,
        "the sum of the four, not the largest": first + second + third + fourth,
        "the smallest of the four": np.minimum(np.minimum(first, second), np.minimum(third, fourth)),
        "the first corner of each window, not the largest": first,
        "the last corner of each window, not the largest": fourth,
        "only the upper two of the four are looked at": np.maximum(first, second),
        "only the left two of the four are looked at": np.maximum(first, third),
        "only the first and the last of the four are looked at": np.maximum(first, fourth),
        "the last corner of each window is not looked at": np.maximum(np.maximum(first, second), third),
        "the windows overlap: the stride is 2": np.max(slides, axis=0),
        "the windows begin one row too late": oracles.max_pool(np.roll(x, -1, axis=1))[0],
        "the windows begin one column too late": oracles.max_pool(np.roll(x, -1, axis=2))[0],
        "the windows begin one row and one column too late": oracles.max_pool(np.roll(x, -1, axis=(1, 2)))[0],
        "positions instead of values: argmax gives the place of the largest, max the largest": np.argmax(
            [first, second, third, fourth], axis=0
        ),
        "never below 0: the largest of four negative numbers is negative": np.maximum(oracles.max_pool(x)[0], 0),
        "absolute values are compared": oracles.max_pool(np.abs(x))[0],
        "the largest over all channels as well": np.broadcast_to(
            oracles.max_pool(x)[0].max(axis=3, keepdims=True), first.shape
        ),
        "the largest is taken over wrong axes: of (n, H/2, 2, W/2, 2, c) the two of length 2 are meant": x.reshape(
            n, height // 2, 2, width // 2, 2, channels
        ).max(axis=(2, 3)),
        "the largest is taken over wrong axes: of (n, H/2, 2, W/2, 2, c) those of length 2 are meant": x.reshape(
            n, height // 2, 2, width // 2, 2, channels
        ).max(axis=(1, 3)),
        "halves of the image meet, not neighbours: pixel 2i and 2i + 1 share a window": np.max(
            x.reshape(n, 2, height // 2, 2, width // 2, channels), axis=(1, 3)
        ),
    }
    return {sentence: result for sentence, result in found.items()}


def check_max_pool_gradient(check):
    example = np.array([[1.0, 3, -5, -2], [4, 2, -1, -8], [0, 0, 7, 7], [0, 0, 6, 9]]).reshape(1, 4, 4, 1)
    rng = np.random.default_rng(4)
    examples = {"without ties": (rng.standard_normal((1, 2, 3, 1)), shuffled(5, (1, 4, 6, 1)))}
    examples["the example of the form: its windows of zeros and of two 7 have ties, or nearly"] = (
        np.array([[10.0, 20], [30, -40]]).reshape(1, 2, 2, 1),
        example,
    )
    ties = np.maximum(rng.integers(-3, 3, (2, 6, 4, 3)), 0).astype(float)
    examples["three images, 2 channels"] = rng.standard_normal((3, 2, 3, 2)), shuffled(6, (3, 4, 6, 2))
    examples["small whole numbers: many ties, the first in reading order wins"] = (
        rng.standard_normal((2, 3, 2, 3)),
        ties,
    )
    for case, (dy, x) in examples.items():
        check(
            case,
            {"dy": dy, "x": x},
            oracles.max_pool_gradient(dy, x),
            gradient_mistakes(dy, x),
            outputs=("dx",),
            axes=AXES,
            tags=tags_of(x.shape),
        )
    dy, x = rng.standard_normal((1, 100, 100, 8)), np.maximum(rng.standard_normal((1, 200, 200, 8)), 0)
    check.keeps_float32({"dy": dy, "x": x}, ("dx",))
    how = "No loop over pixels: compare each of the four corners x[:, a::2, b::2] with the maximum"
    check.fast("200 x 200 pixels, 8 channels", {"dy": dy.astype(np.float32), "x": x.astype(np.float32)}, 0.06, how)


def gradient_mistakes(dy, x):
    gradient = oracles.max_pool_gradient
    repeated = dy.repeat(2, axis=1).repeat(2, axis=2)
    largest = oracles.max_pool(x)[0].repeat(2, axis=1).repeat(2, axis=2)
    corner = np.zeros(x.shape)
    corner[:, ::2, ::2] = dy
    right = gradient(dy, x)
    by_column = gradient(dy.swapaxes(1, 2), x.swapaxes(1, 2)).swapaxes(1, 2)
    return {
        "ties: every pixel that equals the maximum gets dy; only the first should": gradient(dy, x, "all"),
        "ties: equal pixels share dy; the first should get all of it": gradient(dy, x, "shared"),
        "ties: the last of the equal pixels gets dy; the first should": gradient(dy, x, "last"),
        "ties: the first going down the columns wins; rows go first (reading order)": by_column,
        "only the largest of the whole image gets its dy; every window of four has a largest": repeated
        * (x == x.max(axis=(1, 2), keepdims=True)),
        "ties among zeros get nothing; the first of four zeros is a maximum, too": right * (x > 0),
        "all four pixels get dy; only the largest should": repeated,
        "all four get a quarter, the gradient of a mean": repeated / 4,
        "always the first corner gets dy; the largest pixel should": corner,
        "the derivative alone, 0 or 1: it is multiplied with dy": gradient(np.ones_like(dy), x),
        "the maxima are put back, not dy": gradient(oracles.max_pool(x)[0], x),
        "dy is multiplied with the maximum; the derivative is 1": right * largest,
        "the smallest pixel gets it": gradient(dy, -x),
        "pixels that did not win get the gradient": repeated * (x != largest),
    }
