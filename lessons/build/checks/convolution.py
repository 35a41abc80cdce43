"""Checks of convolution.py: cases from small to general, each with what known mistakes would give."""

import numpy as np

from lessons.build import oracles
from lessons.checking import tags_of

Y = ("image", "row", "column", "channel")
W = ("row of the kernel", "column of the kernel", "channel in", "channel out")


def arrays(seed, x_shape, kernel, outputs):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(x_shape)
    weight = rng.standard_normal((*kernel, x_shape[3], outputs))
    bias = rng.standard_normal(outputs)
    dy = rng.standard_normal((x_shape[0], x_shape[1] - kernel[0] + 1, x_shape[2] - kernel[1] + 1, outputs))
    return x, weight, bias, dy


CASES = {
    "one image, one channel": ((1, 6, 5, 1), (3, 3), 1),
    "one image, 3 channels in and 2 out": ((1, 6, 5, 3), (3, 3), 2),
    "two images, as many channels out as in": ((2, 5, 6, 2), (3, 3), 2),
    "two images, 2 channels in and 4 out": ((2, 7, 6, 2), (3, 3), 4),
    "a kernel of 1 x 1, as in the last layer": ((2, 4, 5, 3), (1, 1), 2),
    "a kernel of 2 x 4": ((1, 5, 7, 2), (2, 4), 3),
}
SHAPES = "right for kernels of 3 x 3, wrong for others: take the size from the arguments, do not write 3"


def tags(x_shape, weight_shape):
    return ((SHAPES,) if weight_shape[:2] != (3, 3) else ()) + tags_of(x_shape, weight_shape[3])


FAST = arrays(9, (1, 100, 100, 8), (3, 3), 8)


def check_conv2d(check):
    x = np.array([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]]).reshape(1, 3, 3, 1)
    weight, bias = np.array([[1.0, 2], [0, -1]]).reshape(2, 2, 1, 1), np.array([0.5])
    examples = {"the example of the form": (x, weight, bias)}
    for seed, (case, sizes) in enumerate(CASES.items()):
        examples[case] = arrays(seed, *sizes)[:3]
    for case, (x, weight, bias) in examples.items():
        check(
            case,
            {"x": x, "weight": weight, "bias": bias},
            oracles.conv2d(x, weight, bias),
            forward_mistakes(x, weight, bias),
            tags=tags(x.shape, weight.shape),
            axes=Y,
            factors={"elements of the kernel": weight[..., 0].size},
        )
    x, weight, bias, _ = FAST
    check.keeps_float32({"x": x[:, :9, :9], "weight": weight, "bias": bias})
    check.fast(
        "100 x 100 pixels, 8 to 8 channels",
        {"x": x.astype(np.float32), "weight": weight.astype(np.float32), "bias": bias.astype(np.float32)},
        0.05,
        "Loop over the nine places (u, v) of the kernel only: each is one product of all pixels with a matrix (C, K)",
    )


def forward_mistakes(x, weight, bias):
    conv = oracles.conv2d
    kh, kw = weight.shape[:2]
    down, across = kh // 2, kw // 2
    padded = np.pad(x, [(0, 0), (down, down), (across, across), (0, 0)])
    right = conv(x, weight, bias)
    return {
        "the kernel is flipped: the paper's convolution does not turn it (mathematicians' does)": conv(
            x, weight[::-1, ::-1], bias
        ),
        "the kernel is flipped along its rows": conv(x, weight[::-1], bias),
        "the kernel is flipped along its columns": conv(x, weight[:, ::-1], bias),
        "the kernel is transposed: rows and columns exchanged": conv(x, weight.transpose(1, 0, 2, 3), bias)
        if kh == kw
        else None,
        "channels in and channels out of the weight are exchanged": conv(x, weight.transpose(0, 1, 3, 2), bias)
        if weight.shape[2] == weight.shape[3]
        else None,
        "the axes of the windows and of the weight are flattened in different orders": conv(
            x, weight.reshape(weight.shape[2], kh, kw, -1).transpose(1, 2, 0, 3), bias
        ),
        "the bias of the first channel is added to all": conv(x, weight, 0 * bias + bias[0]),
        "the bias is forgotten": conv(x, weight, 0 * bias),
        "the bias is multiplied; it is added": conv(x, weight, 0 * bias) * bias,
        "the bias is subtracted": conv(x, weight, -bias),
        "the bias is added once for each place of the kernel": conv(x, weight, kh * kw * bias),
        "the image is padded with zeros; the paper's convolutions are unpadded": conv(padded, weight, bias),
        "every second row and column only: the stride is 1 here": right[:, ::2, ::2],
        "a ReLU is in it already; that is a function of its own": np.maximum(right, 0),
        "only the first channel of x is read": conv(x[..., :1], weight[:, :, :1], bias),
        "the weights of the first output channel serve for all": conv(
            x, np.repeat(weight[..., :1], weight.shape[3], 3), bias
        ),
        "a mean over the kernel instead of a sum": conv(x, weight / weight[..., 0].size, bias),
        "only the last place of the kernel counts: = where += should be": conv(x, last_place(weight), bias),
        "the channels are added up before they are multiplied": conv(
            x.sum(3, keepdims=True), weight.sum(2, keepdims=True), bias
        ),
        "one row and one column too few: the last position fits, too": right[:, :-1, :-1],
    }


def last_place(weight):
    only = np.zeros_like(weight)
    only[-1, -1] = weight[-1, -1]
    return only


def check_conv2d_input_gradient(check):
    dy = np.array([[1.0, 0], [2, -1]]).reshape(1, 2, 2, 1)
    weight = np.array([[1.0, 2], [0, -1]]).reshape(2, 2, 1, 1)
    examples = {"the example of the form": (np.zeros((1, 3, 3, 1)), weight, dy)}
    for seed, (case, sizes) in enumerate(CASES.items()):
        x, weight, _, dy = arrays(10 + seed, *sizes)
        examples[case] = x, weight, dy
    for case, (x, weight, dy) in examples.items():
        check(
            case,
            {"dy": dy, "weight": weight},
            oracles.conv2d_gradients(dy, x, weight)[0],
            input_mistakes(dy, x, weight),
            tags=tags(x.shape, weight.shape),
            outputs=("dx",),
            axes=Y,
        )
    _, weight, _, dy = FAST
    check.keeps_float32({"dy": dy[:, :9, :9], "weight": weight}, ("dx",))
    check.fast(
        "98 x 98 pixels of dy, 8 to 8 channels",
        {"dy": dy.astype(np.float32), "weight": weight.astype(np.float32)},
        0.05,
        "Loop over the nine places (u, v) of the kernel only: dy @ weight[u, v].T goes to a shifted part of dx",
    )


def input_mistakes(dy, x, weight):
    def gradient(weight):
        return oracles.conv2d_gradients(dy, x, weight)[0]

    kh, kw, channels, outputs = weight.shape
    square = kh == kw
    right = gradient(weight)
    overwritten = np.zeros_like(x)
    for u in range(kh):
        for v in range(kw):
            overwritten[:, u : u + dy.shape[1], v : v + dy.shape[2]] = dy @ weight[u, v].T
    down, across = kh // 2, kw // 2
    found = {
        "the kernel is flipped: dy[i, j] goes to x[i + u, j + v] with weight[u, v]; written as a convolution of the "
        "padded dy the kernel must be turned by half a turn": gradient(weight[::-1, ::-1]),
        "the kernel is flipped along its rows": gradient(weight[::-1]),
        "the kernel is flipped along its columns": gradient(weight[:, ::-1]),
        "the kernel is transposed: rows and columns exchanged": gradient(weight.transpose(1, 0, 2, 3))
        if square
        else None,
        "the kernel is flipped and transposed": gradient(weight[::-1, ::-1].transpose(1, 0, 2, 3)) if square else None,
        "channels in and channels out are exchanged: a .T is missing": gradient(weight.transpose(0, 1, 3, 2))
        if channels == outputs
        else None,
        "overwritten instead of added: a pixel of x is read by up to nine windows, use +=": overwritten,
        "divided by the number of places of the kernel: the shares of all windows are added, not averaged": right
        / (kh * kw),
    }
    if kh > 1:
        inner = right[:, down : down + dy.shape[1], across : across + dy.shape[2]]
        found["the frame is missing: dx has the size of x, which is larger than dy"] = inner
    return found


def check_conv2d_weight_gradient(check):
    x = np.array([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]]).reshape(1, 3, 3, 1)
    dy = np.array([[1.0, 0], [2, -1]]).reshape(1, 2, 2, 1)
    examples = {"the example of the form": (x, np.zeros((2, 2, 1, 1)), dy)}
    for seed, (case, sizes) in enumerate(CASES.items()):
        x, weight, _, dy = arrays(20 + seed, *sizes)
        examples[case] = x, weight, dy
    for case, (x, weight, dy) in examples.items():
        check(
            case,
            {"dy": dy, "x": x},
            oracles.conv2d_gradients(dy, x, weight)[1:],
            weight_mistakes(dy, x, weight),
            tags=tags(x.shape, weight.shape),
            outputs=("dweight", "dbias"),
            axes=(W, ("channel out",)),
            factors=counts(dy),
        )
    x, _, _, dy = FAST
    check.keeps_float32({"dy": dy[:, :9, :9], "x": x[:, :11, :11]}, ("dweight", "dbias"))
    check.fast(
        "100 x 100 pixels, 8 to 8 channels",
        {"dy": dy.astype(np.float32), "x": x.astype(np.float32)},
        0.05,
        "Loop over the nine places of the kernel only: each is one product (C, pixels) @ (pixels, K)",
    )


def counts(dy):
    """Numbers of things, where they differ from each other."""
    images, pixels = dy.shape[0], dy.shape[1] * dy.shape[2]
    found = {"pixels of an image": pixels}
    return found | ({"images": images, "pixels of all images": images * pixels} if images > 1 else {})


def weight_mistakes(dy, x, weight):
    _, dweight, dbias = oracles.conv2d_gradients(dy, x, weight)
    square, channels = weight.shape[0] == weight.shape[1], weight.shape[2] == weight.shape[3]
    turned = oracles.conv2d_gradients(dy[:, ::-1, ::-1], x, weight)[1]
    first = oracles.conv2d_gradients(dy[:1], x[:1], weight)[1:]
    return {
        "the kernel's gradient is flipped: place (u, v) collects x[i + u, j + v] dy[i, j]": (dweight[::-1, ::-1], None),
        "the axes are flattened in another order than they are put back": (
            dweight.transpose(2, 0, 1, 3).reshape(dweight.shape),
            None,
        ),
        "dy is read backwards along its rows: place (u, v) collects x[i + u, j + v] dy[i, j]": (
            oracles.conv2d_gradients(dy[:, ::-1], x, weight)[1],
            None,
        ),
        "dy is read backwards along its columns: place (u, v) collects x[i + u, j + v] dy[i, j]": (
            oracles.conv2d_gradients(dy[:, :, ::-1], x, weight)[1],
            None,
        ),
        "dy is read backwards: place (u, v) collects x[i + u, j + v] dy[i, j]": (turned, None),
        "rows and columns of the kernel are exchanged": (dweight.transpose(1, 0, 2, 3) if square else None, None),
        "channels in and channels out are exchanged": (dweight.transpose(0, 1, 3, 2) if channels else None, None),
        "channels in and channels out are exchanged in the order of the axes": (dweight.transpose(0, 1, 3, 2), None),
        "only the first image counts: the sum runs over all images": first,
        "a mean over the channels of dy, or a sum over all of them": (None, np.full(dbias.shape, dbias.sum())),
        "dbias is one number for each channel: sum dy over images, rows and columns": (None, dy.sum(axis=(1, 2))),
        "dbias is a sum over everything; each channel has a bias of its own": (None, np.asarray(dy.sum())),
        "dbias comes from x; the bias is added to y, so its gradient is a sum of dy": (
            None,
            np.resize(x.sum(axis=(0, 1, 2)), dbias.shape),
        ),
    }
