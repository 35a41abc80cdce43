"""Shapes: of convolutions, their borders and their flipped kernel; and what every operation checks of its arguments."""

from npunet.errors import InputError
from npunet.machine.backend import array_module, is_array


def output_shape(x_shape, weight_shape, padding):
    """(N, H', W', K) of the convolution of x (N, H, W, C) with weight (kh, kw, C, K): H' = H + 2 padding - kh + 1."""
    batch, height, width, _ = x_shape
    kh, kw, _, channels = weight_shape
    return batch, height + 2 * padding - kh + 1, width + 2 * padding - kw + 1, channels


def crop_or_pad(x, rows, columns):
    """x (N, H, W, C) with `rows` zeros added above and below, `columns` left and right;
    negative numbers crop instead.

    Zero-padding and cropping by the same amount are adjoint, so the gradient of one is the other.
    Returns x itself, not a copy, if there is nothing to add.
    """
    if rows <= 0 and columns <= 0:
        return x[:, -rows : x.shape[1] + rows, -columns : x.shape[2] + columns]
    x = crop_or_pad(x, min(rows, 0), min(columns, 0))
    rows, columns = max(rows, 0), max(columns, 0)
    batch, height, width, channels = x.shape
    padded = array_module(x).zeros((batch, height + 2 * rows, width + 2 * columns, channels), dtype=x.dtype)
    padded[:, rows : rows + height, columns : columns + width] = x
    return padded


def flipped(weight):
    """The kernel of the input gradient: weight (kh, kw, C, K) turned by 180 degrees, channels exchanged:
    (kh, kw, K, C).
    """
    return weight[::-1, ::-1].swapaxes(2, 3)


def check_arrays(name, **arrays):
    """Raises InputError unless the arguments of the operation `name` are arrays. None stands for one left out."""
    for argument, array in arrays.items():
        if array is not None and not is_array(array):
            raise InputError(
                f"{name}: {argument} is a {type(array).__name__}; expected an array of NumPy or CuPy, such as "
                f"np.asarray({argument}, 'float32')"
            )


def check_maps(name, **maps):
    """Raises InputError unless the arguments of the operation `name` are arrays (N, H, W, C)."""
    check_arrays(name, **maps)
    for argument, x in maps.items():
        if x.ndim != 4:
            raise InputError(f"{name}: {argument} has shape {x.shape}; expected (N, H, W, C)")


def check_gradient(name, dy, shape, dtype):
    """Raises InputError unless dy, handed to the backward pass `name`, has the shape and dtype that y had."""
    check_arrays(name, dy=dy)
    if dy.shape != tuple(shape) or dy.dtype != dtype:
        raise InputError(f"{name}: dy is {dy.dtype} {dy.shape}; expected {dtype} {tuple(shape)}, as y was")
