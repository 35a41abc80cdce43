"""Checks of up_convolution.py and crop_concat.py."""

import numpy as np

from lessons.build import oracles
from lessons.checking import tags_of

AXES = ("image", "row", "column", "channel")
W = ("row of the kernel", "column of the kernel", "channel in", "channel out")

UP = {
    "one pixel, one channel": ((1, 1, 1, 1), 1),
    "one image, one channel": ((1, 2, 3, 1), 1),
    "one image, 3 channels in and 2 out": ((1, 2, 3, 3), 2),
    "as many channels out as in": ((1, 3, 2, 2), 2),
    "two images, 4 channels in and 2 out": ((2, 3, 2, 4), 2),
}


def arrays(seed, x_shape, outputs):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal(x_shape), rng.standard_normal((2, 2, x_shape[3], outputs))
    dy = rng.standard_normal((x_shape[0], 2 * x_shape[1], 2 * x_shape[2], outputs))
    return x, weight, rng.standard_normal(outputs), dy


def check_up_conv(check):
    x = np.array([[1.0, 2]]).reshape(1, 1, 2, 1)
    weight, bias = np.array([[1.0, 10], [100, 1000]]).reshape(2, 2, 1, 1), np.array([0.5])
    examples = {"the example of the form": (x, weight, bias)}
    examples |= {case: arrays(seed, *sizes)[:3] for seed, (case, sizes) in enumerate(UP.items())}
    for case, (x, weight, bias) in examples.items():
        arguments = {"x": x, "weight": weight, "bias": bias}
        tags = tags_of(x.shape, weight.shape[3])
        check(case, arguments, oracles.up_conv(x, weight, bias), up_mistakes(x, weight, bias), axes=AXES, tags=tags)
    x, weight, bias, _ = arrays(9, (1, 60, 60, 16), 8)
    arguments = {"x": x, "weight": weight, "bias": bias}
    check.keeps_float32(arguments)
    how = "Loop over the four places (a, b) of the block only: y[:, a::2, b::2] is one matrix product"
    check.fast("60 x 60 pixels, 16 to 8 channels", {k: v.astype(np.float32) for k, v in arguments.items()}, 0.05, how)


def up_mistakes(x, weight, bias):
    up = oracles.up_conv
    right = up(x, weight, bias)
    apart = np.concatenate([np.concatenate([right[:, a::2, b::2] for b in (0, 1)], axis=2) for a in (0, 1)], axis=1)
    same = weight.shape[2] == weight.shape[3]
    return {
        "a and b are exchanged: a is the row within the block, b the column": up(x, weight.transpose(1, 0, 2, 3), bias),
        "the kernel is turned by half a turn": up(x, weight[::-1, ::-1], bias),
        "the kernel is flipped along its rows": up(x, weight[::-1], bias),
        "the kernel is flipped along its columns": up(x, weight[:, ::-1], bias),
        "channels in and channels out are exchanged": up(x, weight.transpose(0, 1, 3, 2), bias) if same else None,
        "the bias is forgotten": up(x, weight, 0 * bias),
        "the bias is added at the first place of each block only": up(x, weight, 0 * bias)
        + at_first_place(right.shape) * bias,
        "the four results stand side by side as whole pictures; they should be interleaved, y[:, a::2, b::2]": apart,
        "every pixel is repeated with one weight; each place of the block has its own": up(
            x, np.broadcast_to(weight[:1, :1], weight.shape), bias
        ),
        "divided by 4: nothing is averaged here, every output pixel has one product": up(x, weight / 4, bias),
        "all four weights are added up for every place of the block; each place has its own": up(
            x, np.broadcast_to(weight.sum(axis=(0, 1)), weight.shape), bias
        ),
        "a convolution slides over the upsampled image; here every output pixel has one product": slid(x, weight, bias),
        "zeros between the pixels: only one of four output pixels is written": right * at_first_place(right.shape),
        "a reshape without a transpose before it: the block's axes must stand beside height and width": blocks_mixed(
            x, weight, bias
        ),
        "a ReLU is in it; the paper's up-convolution has none": np.maximum(right, 0),
    }


def slid(x, weight, bias):
    y = np.pad(x.repeat(2, axis=1).repeat(2, axis=2), [(0, 0), (0, 1), (0, 1), (0, 0)])
    return oracles.conv2d(y, weight, bias)


def at_first_place(shape):
    first = np.zeros(shape)
    first[:, ::2, ::2] = 1
    return first


def blocks_mixed(x, weight, bias):
    n, height, width, channels = x.shape
    parts = np.einsum("nhwc,abck->nhwabk", x, weight) + bias
    return parts.reshape(n, 2 * height, 2 * width, -1)


def check_up_conv_gradients(check):
    for seed, (case, sizes) in enumerate(UP.items()):
        x, weight, _, dy = arrays(20 + seed, *sizes)
        check(
            case,
            {"dy": dy, "x": x, "weight": weight},
            oracles.up_conv_gradients(dy, x, weight),
            up_gradient_mistakes(dy, x, weight),
            outputs=("dx", "dweight", "dbias"),
            axes=(AXES, W, ("channel out",)),
            factors=up_counts(dy),
            tags=tags_of(x.shape, weight.shape[3]),
        )
    x, weight, _, dy = arrays(9, (1, 60, 60, 16), 8)
    arguments = {"dy": dy, "x": x, "weight": weight}
    check.keeps_float32(arguments, ("dx", "dweight", "dbias"))
    how = "Loop over the four places (a, b) of the block only, with dy[:, a::2, b::2]"
    check.fast("60 x 60 pixels, 16 and 8 channels", {k: v.astype(np.float32) for k, v in arguments.items()}, 0.08, how)


def up_counts(dy):
    pixels = dy.shape[1] * dy.shape[2] // 4
    return {"places in a block": 4} | ({"pixels of x": pixels} if pixels > 1 else {})


def up_gradient_mistakes(dy, x, weight):
    gradients = oracles.up_conv_gradients
    dx, dweight, dbias = gradients(dy, x, weight)
    last = np.zeros_like(weight)
    last[1, 1] = weight[1, 1]
    first = np.zeros_like(weight)
    first[0, 0] = weight[0, 0]
    swapped = gradients(dy, x, weight.transpose(1, 0, 2, 3))
    same = weight.shape[2] == weight.shape[3]
    block = dy.reshape(*x.shape[:3], 4, -1).sum(axis=3) @ weight[0, 0].T
    return {
        "a and b are exchanged": (swapped[0], dweight.transpose(1, 0, 2, 3), None),
        "the kernel is turned by half a turn": (
            gradients(dy, x, weight[::-1, ::-1])[0],
            dweight[::-1, ::-1],
            None,
        ),
        "channels in and out are exchanged: a .T is missing": (
            gradients(dy, x, weight.transpose(0, 1, 3, 2))[0] if same else None,
            dweight.transpose(0, 1, 3, 2),
            None,
        ),
        "only the last place of the block counts: = where += should be": (gradients(dy, x, last)[0], None, None),
        "only the first place of the block counts": (gradients(dy, x, first)[0], None, None),
        "a mean over the four places of a block: their shares are added": (dx / 4, None, None),
        "the weights of the first place serve for all four": (block, None, None),
        "dbias is one number for each channel: sum dy over images, rows and columns": (None, None, dy.sum(axis=(1, 2))),
        "dbias is a sum over everything; each channel has a bias of its own": (None, None, np.asarray(dy.sum())),
        "dbias counts only one place of each block": (None, None, dy[:, ::2, ::2].sum(axis=(0, 1, 2))),
        "dbias counts only the right column of each block": (None, None, dy[:, :, 1::2].sum(axis=(0, 1, 2))),
        "dbias counts only the left column of each block": (None, None, dy[:, :, ::2].sum(axis=(0, 1, 2))),
        "dbias counts only the lower row of each block": (None, None, dy[:, 1::2].sum(axis=(0, 1, 2))),
        "dbias counts only the upper row of each block": (None, None, dy[:, ::2].sum(axis=(0, 1, 2))),
        "dbias counts only the last place of each block": (None, None, dy[:, 1::2, 1::2].sum(axis=(0, 1, 2))),
        "only the first image counts": (None, gradients(dy[:1], x[:1], weight)[1], dy[:1].sum(axis=(0, 1, 2))),
    }


CROPS = {
    "nothing to crop": ((1, 2, 3, 1), (1, 2, 3, 1)),
    "a frame of one pixel": ((1, 2, 3, 2), (1, 4, 5, 3)),
    "two images, a frame of 2 rows and 3 columns": ((2, 4, 3, 2), (2, 8, 9, 2)),
    "an odd rest: one row more is cut at the bottom": ((1, 3, 4, 1), (1, 6, 4, 2)),
}


def check_crop_concat(check):
    example = np.array([[7.0]]).reshape(1, 1, 1, 1), np.arange(1.0, 10).reshape(1, 3, 3, 1)
    examples = {"the example of the form": example}
    for seed, (case, (small, large)) in enumerate(CROPS.items()):
        rng = np.random.default_rng(30 + seed)
        examples[case] = rng.standard_normal(small), rng.standard_normal(large)
    for case, (upsampled, skip) in examples.items():
        check(
            case,
            {"upsampled": upsampled, "skip": skip},
            oracles.crop_concat(upsampled, skip),
            concat_mistakes(upsampled, skip),
            axes=AXES,
            tags=tags_of(skip.shape, upsampled.shape[3]),
        )
    check.keeps_float32({"upsampled": upsampled, "skip": skip})


def places(small, large):
    """(sentence, top, left) of crops that are not central."""
    down, across = large[1] - small[1], large[2] - small[2]
    return [
        ("the crop is the top left corner of the skip; it should be its middle", 0, 0),
        ("the crop is the bottom right corner of the skip; it should be its middle", down, across),
        (
            "the crop is shifted by one: an odd rest is rounded down at the top, (Hs - H) // 2",
            -(-down // 2),
            -(-across // 2),
        ),
        ("the crop is shifted by one row and column", min(down, down // 2 + 1), min(across, across // 2 + 1)),
        ("the crop is shifted by one row and column", max(0, down // 2 - 1), max(0, across // 2 - 1)),
        ("the margin of the rows is used for the columns, too", down // 2, min(down // 2, across)),
        ("the margin of the columns is used for the rows, too", min(across // 2, down), across // 2),
        ("the margins of rows and columns are exchanged", min(across // 2, down), min(down // 2, across)),
        ("the crop begins at a quarter of the rest: Hs - H is halved twice", down // 4, across // 4),
    ]


def concat_mistakes(upsampled, skip):
    concat = oracles.crop_concat
    right, channels = concat(upsampled, skip), upsampled.shape[3]
    middle = right[..., channels:]
    found = {
        "the skip comes first; the upsampled channels should": np.concatenate([middle, upsampled], axis=3),
        "joined along the rows; channels are the last axis": joined(upsampled, middle, 1),
        "joined along the columns; channels are the last axis": joined(upsampled, middle, 2),
        "joined along the images; channels are the last axis": joined(upsampled, middle, 0),
        "added instead of concatenated": upsampled + middle if upsampled.shape == middle.shape else None,
        "only the cropped skip came back": middle,
        "the upsampled map is padded to the size of the skip; the skip should be cropped": padded(upsampled, skip),
        "every second pixel of the skip is taken; the middle of it should be": np.concatenate(
            [upsampled, skip[:, ::2, ::2]], axis=3
        )
        if skip[:, ::2, ::2].shape[:3] == upsampled.shape[:3]
        else None,
    }
    for sentence, top, left in places(upsampled.shape, skip.shape):
        wrong = concat(upsampled, skip, top, left)
        if not np.array_equal(wrong, right):
            found.setdefault(sentence + " " * (sentence in found), wrong)
    return found


def joined(a, b, axis):
    same = all(m == n for i, (m, n) in enumerate(zip(a.shape, b.shape)) if i != axis)
    return np.concatenate([a, b], axis=axis) if same else None


def padded(upsampled, skip):
    whole = np.zeros((*skip.shape[:3], upsampled.shape[3]))
    top, left = ((skip.shape[a] - upsampled.shape[a]) // 2 for a in (1, 2))
    whole[:, top : top + upsampled.shape[1], left : left + upsampled.shape[2]] = upsampled
    return np.concatenate([whole, skip], axis=3)


def check_crop_concat_gradients(check):
    examples = {"the example of the form": ((1, 1, 1, 1), (1, 3, 3, 1))} | CROPS
    for seed, (case, (small, large)) in enumerate(examples.items()):
        dy = np.random.default_rng(40 + seed).standard_normal((*small[:3], small[3] + large[3]))
        dy = np.array([5.0, 6]).reshape(1, 1, 1, 2) if seed == 0 else dy
        check(
            case,
            {"dy": dy, "channels": small[3], "skip_shape": large},
            oracles.crop_concat_gradients(dy, small[3], large),
            concat_gradient_mistakes(dy, small[3], large),
            outputs=("dupsampled", "dskip"),
            axes=AXES,
        )
    check.keeps_float32({"dy": dy, "channels": small[3], "skip_shape": large}, ("dupsampled", "dskip"))


def concat_gradient_mistakes(dy, channels, large):
    gradients = oracles.crop_concat_gradients
    small, right = (*dy.shape[:3], channels), gradients(dy, channels, large)
    found = {
        "the two halves of the channels are exchanged: the first belong to upsampled": (
            dy[..., -channels:],
            exchanged(dy, large),
        ),
        "the two halves of the channels are exchanged: the first belong to upsampled, the rest to the skip": (
            dy[..., channels:],
            None,
        ),
        "the channels are cut in two at the wrong place: the first `channels` belong to upsampled": (
            dy[..., : large[3]],
            None,
        ),
        "what upsampled gets is all of dy: only its own channels belong to it": (dy, None),
        "the frame is missing: dskip has the size of the skip, 0 where it was cut off": (None, dy[..., channels:]),
        "where the skip was cut off the gradient is 0": (None, np.where(right[1] == 0, 1.0, right[1])),
        "halved: each of the two gets its own channels in full": (right[0] / 2, right[1] / 2),
    }
    for sentence, top, left in places(small, large):
        wrong = gradients(dy, channels, large, top, left)[1]
        if not np.array_equal(wrong, right[1]):
            found.setdefault(sentence + " " * (sentence in found), (None, wrong))
    return found


def exchanged(dy, large):
    """dskip if the first channels are given to it."""
    other = np.concatenate([dy[..., large[3] :], dy[..., : large[3]]], axis=3)
    return oracles.crop_concat_gradients(other, dy.shape[3] - large[3], large)[1]
