"""Sizes (§2, Fig. 1): why 572 in gives 388 out, which inputs are valid, and what one output pixel sees.

Every 3x3 convolution of the paper is valid: it costs one pixel on each side. Pooling needs even sizes: "it is important
to select the input tile size such that all 2x2 max-pooling operations are applied to a layer with an even x- and
y-size" (§2). With `depth` poolings:

    contracting level:   n -> n - 4 -> (n - 4) / 2          bottleneck:   n -> n - 4
    expansive level:     n -> 2n -> 2n - 4
"""

import itertools

from npunet.errors import InputError


def output_size(input_size: int, depth: int = 4, padding: int = 0) -> int:
    """Side of the output for a side of the input: output_size(572) == 388.

    padding is that of the 3x3 convolutions: 0 (the paper) or 1. Raises InputError if the size is not valid.
    """
    output = _through_the_u(input_size, depth, padding)
    if output is None:
        below, above = valid_sizes_around(input_size, depth, padding)
        nearest = f"the smallest is {above}" if below is None else f"nearest are {below} and {above}"
        raise InputError(f"tile {input_size} is not a valid input size; {nearest}")
    return output


def is_valid_size(input_size: int, depth: int = 4, padding: int = 0) -> bool:
    """True if every pooling meets an even size and something is left at the end."""
    return _through_the_u(input_size, depth, padding) is not None


def _through_the_u(size, depth, padding):
    """The output side, or None where a pooling meets an odd size or nothing is left."""
    cost = 4 * (1 - padding)  # of two 3x3 convolutions
    for _ in range(depth):
        size -= cost
        if size % 2:
            return None
        size //= 2
    size -= cost
    for _ in range(depth):
        size = 2 * size - cost
    return size if size > 0 else None


def smallest_valid_size(depth: int = 4, padding: int = 0) -> int:
    """188 for the paper's network."""
    return next(size for size in itertools.count(1) if is_valid_size(size, depth, padding))


def valid_input_sizes(largest: int, depth: int = 4, padding: int = 0) -> list[int]:
    """All valid sides up to `largest`, ascending: 188, 204, 220, ... (12 mod 16) for the paper's network."""
    return list(range(smallest_valid_size(depth, padding), largest + 1, 2**depth))


def valid_sizes_around(input_size: int, depth: int = 4, padding: int = 0) -> tuple[int | None, int]:
    """The nearest valid sides below (or None) and above; both the size itself if it is valid."""
    smallest, step = smallest_valid_size(depth, padding), 2**depth
    if input_size < smallest:
        return None, smallest
    below = input_size - (input_size - smallest) % step
    return below, below if below == input_size else below + step


def nearest_valid_size(input_size: int, depth: int = 4, padding: int = 0) -> int:
    """The valid side closest to `input_size`; the larger one of two equally close."""
    below, above = valid_sizes_around(input_size, depth, padding)
    return above if below is None or above - input_size <= input_size - below else below


def input_size_for(output: int, depth: int = 4, padding: int = 0) -> int:
    """The smallest valid input side whose output side is at least `output`."""
    border = 0 if padding else border_lost(depth)
    return valid_sizes_around(max(output, 1) + border, depth, padding)[1]


def padded_output_size(input_size: int, depth: int = 4, whole: bool = True) -> int:
    """Side of the output of a padded network, which takes any size that can be halved `depth` times:
    at least one pixel is left.

    whole: odd sizes are made up for on the way up (pad and concatenate), so the size is kept; otherwise the part that
    the pooling windows cover comes out, 100 -> 96 for depth 4. Raises InputError for a smaller size.
    """
    if input_size < 2**depth:
        raise InputError(f"tile {input_size} is too small for {depth} poolings; the smallest is {2**depth}")
    return input_size if whole else input_size >> depth << depth


def padded_context(depth: int = 4) -> int:
    """How many pixels of the image beside it a block of output pixels of a padded network sees: 94 for depth 4.

    For blocks that begin and end at multiples of 2^depth; followed backwards from the block's first pixel as in
    `receptive_field`.
    """
    low = 0
    for _ in range(depth):  # expansive path: two 3x3 convolutions, then half of the up-convolution
        low = (low - 2) // 2
    low -= 2  # bottleneck
    for _ in range(depth):
        low = 2 * low - 2  # pooling and the two convolutions before it
    return -low


def border_lost(depth: int = 4) -> int:
    """Input side minus output side of the valid network: 184 for depth 4."""
    size = smallest_valid_size(depth)
    return size - output_size(size, depth)


def receptive_field(depth: int = 4) -> tuple[int, int]:
    """(smallest, largest) side of the square of input pixels that one output pixel of the valid network sees.

    Not all output pixels see the same: it depends on where they lie in the pooling windows. Followed
    backwards, layer by layer: a 3x3 convolution widens the interval [low, high] to [low, high + 2],
    an up-convolution halves it, a pooling doubles it; a skip connection sees less than the way around.
    """
    sides = []
    for pixel in range(2**depth):  # then it repeats
        low = high = pixel
        for _ in range(depth):  # expansive path, from the output down
            high += 4
            low, high = low // 2, high // 2
        high += 4  # bottleneck
        for _ in range(depth):  # contracting path, upwards
            low, high = 2 * low, 2 * high + 1
            high += 4
        sides.append(high - low + 1)
    return min(sides), max(sides)
