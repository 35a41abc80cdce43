"""The blocks of a slide: what each keeps, what it reads, and the memory that one takes.

A block begins at a multiple of its side, which is one of the pooling grid (see `npunet.tiling`) and of 16, as TIFF
wants its tiles. So all blocks pool the same windows, and agree with one big forward pass to rounding.
"""

import math
from dataclasses import dataclass

from npunet import geometry, tiling
from npunet.commands import memory_needs
from npunet.commands.rows import rows
from npunet.errors import InputError
from npunet.machine import backend

try:
    import resource
except ImportError:  # Windows, and Python in the browser
    resource = None

FORMATS = ("auto", "tiff", "zarr", "zarr-0.4", "zarr-0.5")
LARGEST_TILE = 2048  # of --tile auto: larger ones save little, and whole blocks are lost to a kill
AT_START = 130 * 10**6  # bytes of Python, NumPy, SciPy and zarr, measured


@dataclass(frozen=True)
class Block:
    """One square of the output: a tile of the network, and one chunk. index counts over all pages."""

    index: int
    page: int
    rows: tiling.Part
    columns: tiling.Part

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns in the image."""
        return self.rows.kept, self.columns.kept


def side_of(net, tile: int, longest: int) -> int:
    """Side of a block, the largest that an input tile of so many pixels yields, and no larger than the image needs."""
    unit = math.lcm(16, 2**net.depth)
    output = tile - 2 * margin(net) if net.options.padding else net.output_size(tile)
    side = output // unit * unit
    if side < unit:
        least = unit + 2 * margin(net) if net.options.padding else geometry.input_size_for(unit, net.depth)
        raise InputError(
            f"tile {tile} is too small for a slide, whose chunks are multiples of {unit}; use {least} or more"
        )
    return min(side, -(-longest // unit) * unit)


def margin(net) -> int:
    """Pixels beside a block that a padded network sees, rounded up to the pooling grid."""
    grid = 2**net.depth
    return -(-geometry.padded_context(net.depth) // grid) * grid


def parts(length: int, net, side: int) -> list[tiling.Part]:
    """What the blocks along one axis keep and read."""
    kept = [slice(start, min(start + side, length)) for start in range(0, length, side)]
    if not net.options.padding:
        border = geometry.border_lost(net.depth) // 2
        sizes = [geometry.input_size_for(one.stop - one.start, net.depth) for one in kept]
        return [tiling.Part(one, one.start - border, one.start - border + n, 0) for one, n in zip(kept, sizes)]
    grid, around = 2**net.depth, margin(net)
    end = length if net.options.pads_upsampled and length >= grid else -(-length // grid) * grid
    found = []
    for one in kept:
        start, stop = max(0, one.start - around), min(one.start + side + around, end)
        found.append(tiling.Part(one, start, stop, one.start - start))
    return found


def blocks(shape: tuple[int, int, int], net, side: int) -> tuple[list[Block], tuple[int, int]]:
    """All blocks of (pages, H, W), page by page in reading order, and the (rows, columns) of blocks on a page."""
    down, across = parts(shape[1], net, side), parts(shape[2], net, side)
    places = [(page, row, column) for page in range(shape[0]) for row in down for column in across]
    return [Block(index, *place) for index, place in enumerate(places)], (len(down), len(across))


def memory(net, side: int, pixels) -> int:
    """Predicted bytes of one process: the network on one tile, the block with its probabilities, and one chunk read."""
    tile = side + 2 * margin(net) if net.options.padding else geometry.input_size_for(side, net.depth)
    chunk = getattr(pixels, "chunk", (0, 0))
    read = 2 * math.prod(chunk) * pixels.shape[3] * pixels.dtype.itemsize + 8 * tile**2 * pixels.shape[3]
    block = side**2 * (4 * net.n_labels + 64)  # probabilities, marks, components
    return AT_START + memory_needs.inference_memory(net, rows(net, tile)) + read + block


def check_memory(needed: int, processes: int) -> None:
    """Raises InputError if it is more than is free, or than the system allows to a process."""
    free = backend.free_memory("cpu")
    if free is not None and processes * (needed - AT_START) > free:
        each = f"{processes} processes need" if processes > 1 else "this needs"
        raise InputError(
            f"{each} about {processes * needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free; give a smaller --tile"
        )
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    if 0 <= allowed < needed:
        raise InputError(
            f"a process needs about {needed / 1e6:,.0f} MB, but the system allows it {allowed / 1e6:,.0f} MB; give a "
            f"smaller --tile"
        )
