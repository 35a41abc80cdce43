"""The overlap-tile strategy (§1 and §2, Fig. 2): images of any size, tile by tile, without a seam.

"This strategy allows the seamless segmentation of arbitrarily large images by an overlap-tile strategy (see Figure 2).
To predict the pixels in the border region of the image, the missing context is extrapolated by mirroring the input
image." (§1)

**The definition.** Mirror the whole image outwards by the border that the network loses (92 pixels on each side for
depth 4), run one forward pass, keep the pixels of the image. Tiling computes the same numbers in bounded memory.

**Why tiles stand at multiples of 16.** A valid convolution does the same everywhere, but 2x2 max-pooling does not:
which pixels share a window depends on where the tile begins, and after four poolings the pattern repeats every 2^4 = 16
pixels. Only tiles whose origins differ by multiples of 2^depth pool the same windows, and so agree with each other and
with the one big forward pass to float32 rounding. A 572 tile yields 388 = 24 * 16 + 4 pixels; therefore the next tile
starts 384 pixels further and the last 4 rows and columns of the first are computed twice.

**Mirroring** does not repeat the edge pixel: ... 2 1 | 0 1 2 3 | 2 1 ... Where the image is smaller than the border it
is mirrored again and again, so that an image one pixel wide works too. Only index arrays are mirrored; the image is
never padded as a whole and may be memory-mapped.

**Padded networks** (variant "pytorch-unet") lose no border and take any size, so an image that fits into a tile goes
through whole, and its result is what the network's authors get. A larger one is cut into tiles that overlap by the
pixels that one output pixel sees (94 on each side for depth 4, rounded up to the pooling grid: 96): the outputs within
that margin of a cut saw zeros where the image goes on, and are thrown away. What is left equals the whole image's
result to rounding with up-convolutions, and nearly so with bilinear upsampling, whose aligned corners stretch
differently over a tile than over the image.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from npunet import geometry, loss
from npunet.errors import InputError
from npunet.machine.backend import to_cpu, to_device
from npunet.variants import Network


def default_tile(net: Network) -> int:
    """572, the paper's tile, or the valid size of this network that is nearest to it;
    1024 for padded ones, whose tiles overlap by 192.
    """
    return 1024 if net.options.padding else geometry.nearest_valid_size(572, net.depth)


class AxisPlan(NamedTuple):
    """`count` tiles of side `tile` along one axis, each `stride` after the one before; output begins at pixel 0."""

    tile: int  # pixels of the input
    output: int  # pixels of the output
    stride: int
    count: int  # type: ignore[assignment]    # a tuple has a method of that name

    def pieces(self, length: int) -> list[slice]:
        """What each tile is responsible for, as slices of the axis: `stride` pixels, the last one what is left."""
        last = (self.count - 1) * self.stride
        return [slice(start, start + self.stride) for start in range(0, last, self.stride)] + [slice(last, length)]


def plan_axis(length: int, net: Network, tile: int) -> AxisPlan:
    """How to cover `length` pixels with tiles of at most `tile`: as few as possible, and of those the smallest (512:
    2 x 444).

    Raises InputError if the tile is not a valid input size, or so small that its output is narrower than the pooling
    grid.
    """
    grid = 2**net.depth
    output = net.output_size(tile)  # raises InputError, with the nearest valid sizes
    border = tile - output
    aligned = output // grid * grid
    if length > output and aligned == 0:
        raise InputError(
            f"tile {tile} gives {output} pixels, fewer than the {grid} from one position of the pooling grid to the "
            f"next; for an image of {length} pixels use tile {tile + grid} or larger"
        )
    count = 1 if length <= output else 1 + -(-(length - output) // aligned)
    while True:  # shrink by one grid step as long as the same number of tiles covers
        smaller = output - grid
        if smaller < 1 or (count - 1) * (smaller // grid * grid) + smaller < length:
            return AxisPlan(output + border, output, max(output // grid * grid, 1), count)
        output = smaller


class Part(NamedTuple):
    """What one tile does along one axis. start and stop may lie outside the image, where it is mirrored."""

    kept: slice  # the pixels of the image that it is responsible for
    start: int  # the input it reads is start .. stop - 1
    stop: int
    skipped: int  # pixels of its output before those that are kept


def parts(length: int, net: Network, tile: int) -> list[Part]:
    """The `Part` of every tile along an axis of `length` pixels. Raises InputError for a tile that cannot be used."""
    if net.options.padding:
        return padded_parts(length, net, tile)
    plan = plan_axis(length, net, tile)
    border = (plan.tile - plan.output) // 2
    return [Part(kept, kept.start - border, kept.start - border + plan.tile, 0) for kept in plan.pieces(length)]


def padded_parts(length: int, net: Network, tile: int) -> list[Part]:
    """`parts` for a padded network: the whole axis if the tile is as large, else overlapping tiles on the grid."""
    grid = 2**net.depth
    net.output_size(tile)  # raises InputError if it is too small
    if length <= tile:
        whole = length if net.options.pads_upsampled and length >= grid else -(-length // grid) * grid
        return [Part(slice(0, length), 0, whole, 0)]
    margin = -(-geometry.padded_context(net.depth) // grid) * grid
    tile = tile // grid * grid
    if tile <= 2 * margin:
        raise InputError(
            f"tile {tile} is too small for an image of {length} pixels: tiles of this padded network overlap by "
            f"{2 * margin}; use at least {2 * margin + grid}, or {length} for the whole image at once"
        )
    starts = range(0, length - tile, tile - 2 * margin)
    found = []
    for start in starts:
        skipped = margin if start else 0
        found.append(Part(slice(start + skipped, start + tile - margin), start, start + tile, skipped))
    last = len(starts) * starts.step  # this one ends with the image
    end = length if net.options.pads_upsampled else last - (last - length) // grid * grid
    return [*found, Part(slice(last + margin, length), last, end, margin)]


def count_tiles(shape: tuple[int, ...], net: Network, tile: int = 572) -> int:
    """Number of tiles that `predict_tiles` yields for an image of this (H, W, ...)."""
    return len(parts(shape[0], net, tile)) * len(parts(shape[1], net, tile))


def mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Where the pixels start .. stop - 1 of a mirrored axis are found in 0 .. length - 1: (stop - start,) integers.

    >>> mirrored(-2, 6, 4)
    array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    period = max(2 * (length - 1), 1)  # 0 1 2 3 2 1 | 0 1 2 3 2 1 ...
    position = np.arange(start, stop) % period
    return np.minimum(position, period - position)


def gather(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The part of the mirrored image that begins at (top, left), which may lie outside: (height, width, C), a copy.

    Reads from the image only the rectangle that is needed, once, by two slices.
    """
    rows, columns = mirrored(top, top + height, image.shape[0]), mirrored(left, left + width, image.shape[1])
    first_row, first_column = rows.min(), columns.min()
    part = np.asarray(image[first_row : rows.max() + 1, first_column : columns.max() + 1])
    return part[(rows - first_row)[:, None], columns - first_column]


def symmetries(square: bool) -> list[tuple[Callable, Callable]]:
    """(turn, undo) of the eight symmetries of a square, the identity first, or of the identity alone if `square` is
    false.

    Both act on arrays whose first two axes are rows and columns; undo(turn(x)) == x.
    """

    def symmetry(quarters, mirror):
        def turn(x):
            return np.rot90(x[:, ::-1] if mirror else x, quarters)

        def undo(x):
            x = np.rot90(x, -quarters)
            return x[:, ::-1] if mirror else x

        return turn, undo

    return [symmetry(quarters, mirror) for mirror in (False, True) for quarters in range(4)][: 8 if square else 1]


def predict_tiles(
    net: Network, image: np.ndarray, tile: int = 572, augment: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yields (rows, columns, probabilities) for tile after tile, row by row;
    every pixel of the image comes exactly once.

    Arguments as in `predict`; image may be anything with .shape (H, W) or (H, W, C) and image[rows, columns] for
    slices, such as a memory map. rows and columns are slices of the image, probabilities (h, w, K) float32. The memory
    needed is that of one forward pass, whatever the size of the image.
    """
    _check(net, image)
    return tile_by_tile(net, image, tile, lambda piece: predict_piece(net, piece, augment))


def tile_by_tile(net: Network, image: np.ndarray, tile: int, apply: Callable) -> Iterator:
    """Yields (rows, columns, what apply makes of the tile) over an image of any size (§1, Fig. 2).

    apply: a tile (n, m) or (n, m, C) of a size that is valid for the network -> (n', m', K), the part that it knows.
    """
    height, width = image.shape[:2]
    across = parts(width, net, tile)
    for row in parts(height, net, tile):
        for column in across:
            size = row.stop - row.start, column.stop - column.start
            found = apply(gather(image, row.start, column.start, *size))  # (output, output', K)
            yield row.kept, column.kept, found[within(row), within(column)]


def within(part: Part) -> slice:
    """The kept pixels, as a slice of the tile's output."""
    return slice(part.skipped, part.skipped + part.kept.stop - part.kept.start)


def predict_piece(net: Network, piece: np.ndarray, augment: bool = False) -> np.ndarray:
    """One forward pass and soft-max: (n, m) or (n, m, C) of valid size -> (n', m', K) float32 on the CPU;
    K = net.n_labels.

    augment: the mean over all rotated and mirrored versions. The tile is turned, not the image: pooling meets even
    sizes only, so the pooling grid of a turned tile is the turned pooling grid, and the tiles still fit together.
    """
    piece = piece.reshape(*piece.shape[:2], net.in_channels).astype(net.dtype, copy=False)
    if not np.isfinite(piece).all():
        raise InputError("the image holds values that are not finite (NaN or infinity); replace them first")
    versions = []
    for turn, undo in symmetries(augment):
        x = to_device(np.ascontiguousarray(turn(piece))[None], net.device)  # (1, n, m, C)
        versions.append(undo(to_cpu(loss.probabilities(net.forward(x)))[0]))  # (n', m', K)
    return (sum(versions[1:], versions[0]) / len(versions)).astype(np.float32, copy=False)


def predict(
    net: Network,
    image: np.ndarray,
    tile: int = 572,
    *,
    augment: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Class probabilities of an image of any size: (H, W) or (H, W, C) floats -> (H, W, K) float32 (§1, Fig. 2);
    K = net.n_labels.

    net       a UNet. image: scaled as in training, to 0..1 (`npunet.files.images.read_image` does that); C =
              net.in_channels.
    tile      the largest side of an input tile, in pixels; smaller ones are used where as few of them suffice.
    augment   the paper's result is "averaged over 7 rotated versions of the input data" (§4); here the mean is over the
              plain image and seven more, all rotations by 90 degrees and their mirror images: eight times the work.
    progress  called as progress(tiles done, tiles in all) after every tile.
    Raises InputError for an invalid tile (with the nearest valid sizes), or an image that does not fit the network.
    """
    _check(net, image)
    result = np.empty((*image.shape[:2], net.n_labels), np.float32)
    total = count_tiles(image.shape, net, tile)
    for done, (rows, columns, probabilities) in enumerate(predict_tiles(net, image, tile, augment), start=1):
        result[rows, columns] = probabilities
        if progress is not None:
            progress(done, total)
    return result


def classify(probabilities: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """(..., K) -> (...) uint8 or int64 classes:
    for two classes 1 where p_1 > threshold, otherwise the most likely class.

    The same rule as in `npunet.metrics`, so that a best threshold found there can be given to npunet.predict.
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] > threshold).astype(np.uint8)
    return probabilities.argmax(axis=-1)


def _check(net, image):
    shape = tuple(image.shape)
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels != net.in_channels:
        wanted = "(H, W) or (H, W, 1)" if net.in_channels == 1 else f"(H, W, {net.in_channels})"
        raise InputError(
            f"the image has shape {shape}; this network expects {wanted}; "
            "npunet.files.images.with_channels converts between grey and RGB"
        )
    if 0 in shape:
        raise InputError(f"the image has shape {shape}: it holds no pixels; expected at least 1 x 1")
    dtype = getattr(image, "dtype", np.dtype(np.float32))
    if dtype.kind != "f":
        raise InputError(
            f"the image holds {dtype} values; expected floats in 0..1, as npunet.files.images.read_image returns them"
        )
