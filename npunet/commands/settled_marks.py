"""Marks that do not depend on the tiles: what lies on the edge is asked again, always in the same place.

Two tilings of an image give the same probabilities only up to rounding, some 3e-6. A cell's outline is where a depth
crosses a level, and among millions of pixels some always lie so near a level that rounding decides. One pixel more or
less may join two cells, so "nearly the same" is not good enough.

A pixel is *doubtful* if its mark would be another one had its depth changed by TOLERANCE. For such a pixel the network
is run once more, on a small tile from a plan that depends on the size of the image alone. If rounding stays below
TOLERANCE, every tiling ends with the same marks: where one of them is sure, the second look says the same, and where
none is sure all of them take the second look.
"""

from collections.abc import Iterator

import numpy as np

from npunet import geometry, tiling

TOLERANCE = 1e-5  # of the depth; the largest difference between tilings that was seen is 3.5e-6


class SettledMarks:
    """The marks of one page, tile after tile. image: as `tiling.predict_tiles` takes it; cutting: see `instances`."""

    def __init__(self, net, image, cutting, augment: bool = False):
        self.net, self.image, self.cutting, self.augment = net, image, cutting, augment
        self._plan, self._last = None, (None, None)

    def of(self, rows: slice, columns: slice, probabilities: np.ndarray) -> np.ndarray:
        """Marks (h, w) uint8 of the part of the image with these (h, w, K) probabilities."""
        marks = self.cutting.marks(probabilities)
        for y, x in self._by_tile(np.argwhere(self.cutting.doubtful(probabilities, TOLERANCE)), rows, columns):
            again = self._probabilities_at(rows.start + y, columns.start + x)  # (K,)
            marks[y, x] = self.cutting.marks(again[None, None])[0, 0]
        return marks

    def _by_tile(self, pixels, rows, columns) -> Iterator[tuple[int, int]]:
        """The pixels (n, 2), those of one small tile together."""
        if not len(pixels):
            return iter(())
        down, across = self.plan()
        tiles = [
            np.searchsorted([part.kept.stop for part in parts], pixels[:, axis] + offset, side="right")
            for axis, (parts, offset) in enumerate(((down, rows.start), (across, columns.start)))
        ]
        return map(tuple, pixels[np.lexsort((tiles[1], tiles[0]))].tolist())

    def plan(self):
        """The small tiles, along rows and columns; they depend on the network and the size of the image alone."""
        if self._plan is None:
            tile = small_tile(self.net)
            self._plan = tuple(tiling.parts(length, self.net, tile) for length in self.image.shape[:2])
        return self._plan

    def _probabilities_at(self, y, x):
        row, column = (
            next(part for part in parts if part.kept.start <= place < part.kept.stop)
            for parts, place in zip(self.plan(), (y, x), strict=True)
        )
        if self._last[0] != (row, column):
            piece = tiling.gather(self.image, row.start, column.start, row.stop - row.start, column.stop - column.start)
            self._last = (row, column), tiling.predict_piece(self.net, piece, self.augment)
        return self._last[1][row.skipped + y - row.kept.start, column.skipped + x - column.kept.start]


def small_tile(net) -> int:
    """The smallest input tile whose tiles fit together."""
    grid = 2**net.depth
    if net.options.padding:
        margin = -(-geometry.padded_context(net.depth) // grid) * grid
        return 2 * margin + grid
    return geometry.input_size_for(grid, net.depth)
