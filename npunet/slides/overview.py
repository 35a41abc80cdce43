"""What is looked at first: the whole slide, small, with the outline of each cell in a colour of its own.

NAME_overlay.png (.tif of several pages) is a level of the pyramid, every 2^k-th pixel, of at most LARGEST pixels. Its
cells are read from the pyramid. The grey values are kept when a block is predicted, so the slide is read once.
"""

from pathlib import Path

import numpy as np

from npunet.commands import cell_files
from npunet.files.calibration import Calibration
from npunet.slides.plan import Block
from npunet.slides.work import Work

LARGEST = 2048  # pixels of its longer side


def level_of(shape: tuple[int, int, int]) -> int:
    """The level of the pyramid of (pages, H, W) that is shown: the largest that is small enough."""
    level = 0
    while -(-max(shape[1:]) // 2**level) > LARGEST:
        level += 1
    return level


def seen(piece: np.ndarray, block: Block, step: int) -> np.ndarray:
    """Every step-th pixel of the image in a block: (h, w, 1) or (h, w, 3) float16, 0..1.

    piece    (n, m, C), what the network saw for the block
    """
    places = []
    for part in (block.rows, block.columns):
        first = part.kept.start + -part.kept.start % step
        places.append(slice(first - part.start, part.kept.stop - part.start, step))
    shown = 3 if piece.shape[2] == 3 else 1
    return piece[(*places, slice(shown))].astype(np.float16)


class Small:
    """The slide at the level that is shown, as `cell_files.write_overlay` looks at a picture; a page at a time."""

    def __init__(self, work: Work, plan: list[Block], grid: tuple[int, int], shape: tuple[int, int, int]):
        self.work, self.grid = work, grid
        self.pages, self.on_page = shape[0], grid[0] * grid[1]
        channels = work.load("block", plan[0].index, "seen")["seen"].shape[2]
        self.shape = (shape[0], *(-(-length // 2 ** level_of(shape)) for length in shape[1:]), channels)
        self._page, self._pixels = None, None

    def window(self, page: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, C) float32."""
        if page != self._page:
            index = page * self.on_page
            rows = [index + self.grid[1] * down for down in range(self.grid[0])]
            lines = [[self._block(row + across) for across in range(self.grid[1])] for row in rows]
            self._page, self._pixels = page, np.concatenate([np.concatenate(line, axis=1) for line in lines])
        return self._pixels[top : top + height, left : left + width].astype(np.float32)

    def _block(self, index):
        return self.work.load("block", index, "seen")["seen"]


class Numbers:
    """The numbers of cells at one level of a pyramid, page by page, read when asked for."""

    def __init__(self, pyramid, level: int, pages: int):
        self.pyramid, self.level, self.shape = pyramid, level, (pages, *pyramid.shapes[level])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, page: int) -> np.ndarray:
        if page >= len(self):
            raise IndexError(page)
        height, width = self.shape[1:]
        return self.pyramid.read(self.level, page, slice(0, height), slice(0, width))


def write(path: Path, small: Small, cells, level: int, calibration: Calibration) -> None:
    """The picture. cells: the pyramid of their numbers."""
    numbers = Numbers(cells, level, small.pages)
    cell_files.write_overlay(path, small, numbers, calibration.enlarged(2**level))
