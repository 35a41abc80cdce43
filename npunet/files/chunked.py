"""Pixels that stay in their file and are read chunk by chunk: tiles of a TIFF, chunks of a Zarr array.

A slide of 40,000 x 40,000 pixels fits into no student's memory. What is here looks like an array of shape (pages, H, W,
C) to whoever slices it, and reads the chunks that a slice touches, no others.
"""

import numpy as np


class ChunkedPixels:
    """(pages, H, W, C), read when it is sliced. Each format has a class of its own with `read`.

    chunk    (rows, columns) that the file keeps together
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype, chunk: tuple[int, int]):
        self.shape, self.dtype, self.chunk = tuple(shape), np.dtype(dtype), tuple(chunk)
        self.size, self.ndim = int(np.prod(self.shape, dtype=np.int64)), 4

    def read(self, page: int, rows: slice, columns: slice) -> np.ndarray:
        """One rectangle of one page, (h, w, C); the slices have no steps and lie inside."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return self[:, :, :].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, parts):
        """pixels[page] is a `PageOfChunks`; pixels[pages, rows, columns] an array, (pages, h, w, C) or (h, w, C)."""
        if not isinstance(parts, tuple):
            return PageOfChunks(self, range(self.shape[0])[parts])
        pages, rows, columns = (*parts, slice(None))[:3]
        if isinstance(pages, (int, np.integer)):
            return self._page(range(self.shape[0])[pages], rows, columns)
        numbers = range(self.shape[0])[pages]
        size = (len(range(length)[part]) for length, part in zip(self.shape[1:3], (rows, columns)))
        found = np.empty((len(numbers), *size, self.shape[3]), self.dtype)
        for place, page in enumerate(numbers):
            found[place] = self._page(page, rows, columns)
        return found

    def _page(self, page, rows, columns):
        rows, columns = range(self.shape[1])[rows], range(self.shape[2])[columns]
        if not (len(rows) and len(columns)):
            return np.empty((len(rows), len(columns), self.shape[3]), self.dtype)
        if (rows.step, columns.step) == (1, 1):
            return self.read(page, slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        return self._every(page, rows, columns)

    def _every(self, page, rows, columns):
        """With steps: chunk after chunk, so that in memory are the pixels that are kept, and one chunk."""
        found = np.empty((len(rows), len(columns), self.shape[3]), self.dtype)
        for down, taken_rows in _by_chunk(rows, self.chunk[0]):
            for across, taken_columns in _by_chunk(columns, self.chunk[1]):
                y, x = slice(taken_rows[0], taken_rows[-1] + 1), slice(taken_columns[0], taken_columns[-1] + 1)
                found[down, across] = self.read(page, y, x)[:: rows.step, :: columns.step]
        return found


def _by_chunk(places: range, chunk: int):
    """(slice of the result, the places in it) for places that lie in one chunk."""
    start = 0
    while start < len(places):
        end_of_chunk = (places[start] // chunk + 1) * chunk
        stop = min(len(places), start + -(-(end_of_chunk - places[start]) // places.step))
        yield slice(start, stop), places[start:stop]
        start = stop


class PageOfChunks:
    """One page of `ChunkedPixels`: (H, W, C), read when rows and columns are sliced."""

    def __init__(self, pixels: ChunkedPixels, page: int):
        self.pixels, self.page = pixels, page
        self.shape, self.dtype, self.ndim = pixels.shape[1:], pixels.dtype, 3

    def __getitem__(self, parts):
        rows, columns = parts if isinstance(parts, tuple) else (parts, slice(None))
        return self.pixels[self.page, rows, columns]

    def __array__(self, dtype=None, copy=None):
        return self[:, :].astype(dtype or self.dtype, copy=False)
