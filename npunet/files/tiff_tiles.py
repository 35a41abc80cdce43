"""A TIFF in tiles, read tile by tile: what a slide scanner writes, pyramids included.

tifffile says where the tiles lie and how to unpack one; the tiles that a rectangle touches are read, no others. Of a
pyramid the largest level is read, and of a scanner's file the slide itself, not its label or thumbnail.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from npunet.errors import InputError
from npunet.files.chunked import ChunkedPixels

ASIDE = ("Thumbnail", "Label", "Macro")  # tifffile's names for the other pictures in a scanner's file


def slide_series(tiff: tifffile.TiffFile) -> list:
    """The series of a file without what stands beside a slide: smaller levels, thumbnail, label."""
    found = [one for one in tiff.series if one.name not in ASIDE and not one.keyframe.is_reduced]
    return found or tiff.series[:1]


class TiffTiles(ChunkedPixels):
    """(pages, H, W, C) of a tiled TIFF.

    planes    for each page its channels: a list of (offsets, bytecounts) of tiles, one where samples lie together
    decode    (bytes, number of the tile) -> its pixels (tile height, tile width, samples)
    """

    def __init__(self, path: Path, planes: list, decode: Callable, shape: tuple, dtype, tile: tuple[int, int]):
        super().__init__(shape, dtype, tile)
        self.path, self.planes, self.decode = path, planes, decode

    def read(self, page, rows, columns):
        found = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[3]), self.dtype)
        (height, width), across = self.chunk, -(-self.shape[2] // self.chunk[1])
        with open(self.path, "rb") as file:
            for down in range(rows.start // height, -(-rows.stop // height)):
                for right in range(columns.start // width, -(-columns.stop // width)):
                    y, there_y = _overlap(rows, down * height, height)
                    x, there_x = _overlap(columns, right * width, width)
                    tile = self._tile(file, page, down * across + right)
                    found[there_y, there_x] = tile[y, x, : self.shape[3]]
        return found

    def _tile(self, file, page, number):
        """(tile height, tile width, C or more) of one tile."""
        parts = []
        for offsets, counts in self.planes[page]:
            file.seek(offsets[number])
            try:
                parts.append(self.decode(file.read(counts[number]), number))
            except Exception as error:  # the decoders raise many kinds; each means that this tile is damaged
                raise InputError(f"{self.path}: tile {number} of page {page + 1} is damaged ({error})") from None
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _overlap(wanted, start, length):
    """Where a slice of an axis and the tile that begins at `start` meet: (slice in the tile, slice in the result)."""
    first, last = max(wanted.start, start), min(wanted.stop, start + length)
    return slice(first - start, last - start), slice(first - wanted.start, last - wanted.start)


def open_tiles(path: Path, tiff: tifffile.TiffFile, series, for_labels: bool) -> TiffTiles | None:
    """The tiles of one series; None where they are arranged in a way that is read as a whole instead.

    Raises ValueError if no decoder is at hand.
    """
    page, axes, pages = series.keyframe, series.axes, list(series.pages)
    leading = [name for name in axes if name not in "YXS"]
    counts = [series.shape[axes.index(name)] for name in leading]
    here = all(one is not None and one.parent.filehandle is tiff.filehandle for one in pages)
    plain = page.is_tiled and page.tiledepth == 1 and (page.samplesperpixel == 1 or page.planarconfig == 1)
    if not (plain and here and len(pages) == int(np.prod(counts)) and axes.replace("S", "").endswith("YX")):
        return None
    order = np.arange(len(pages)).reshape(counts)
    few = "C" in leading and "S" not in axes and counts[leading.index("C")] <= 4 and not for_labels
    order = np.moveaxis(order, leading.index("C"), -1) if few else order[..., None]
    order = order.reshape(-1, order.shape[-1])  # (pages, channels)
    planes = [[(pages[i].dataoffsets, pages[i].databytecounts) for i in row] for row in order.tolist()]
    alpha = "S" in axes and len(page.extrasamples) == 1
    channels = page.samplesperpixel - alpha if "S" in axes else order.shape[1]
    shape = (len(order), series.shape[axes.index("Y")], series.shape[axes.index("X")], channels)
    tiles = TiffTiles(path, planes, _decoder(page), shape, series.dtype, (page.tilelength, page.tilewidth))
    tiles.read(0, slice(0, 1), slice(0, 1))  # whether there is a decoder
    return tiles


def _decoder(page):
    keywords = {}
    if page.jpegtables is not None:
        keywords = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    unpack, samples = page.decode, page.samplesperpixel

    def decode(data, number):
        tile, _, shape = unpack(data, number, **keywords)  # (1, rows, columns, samples)
        if tile is None:
            return np.zeros((page.tilelength, page.tilewidth, samples), page.dtype)
        return tile.reshape(-1, *tile.shape[-2:]) if tile.ndim == 4 else tile.reshape(*shape[1:3], samples)

    return decode


def check_directories(path: Path) -> None:
    """Raises InputError if the pages go in a circle, which tifffile would follow without end, or a page's list of tags
    reaches beyond the file, when it would complain of each tag.

    A page is a directory: the number of its tags, the tags, and where the next page's directory is (TIFF 6.0, its
    second part; BigTIFF has wider numbers). What else is wrong with the chain is left to tifffile.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(16)
        order = "little" if start[:2] == b"II" else "big"
        big = int.from_bytes(start[2:4], order) == 43
        count, tag, pointer = (8, 20, 8) if big else (2, 12, 4)  # bytes of each
        if not big and size >= 2**32:  # a scanner's own dialect
            return
        at, seen = int.from_bytes(start[8:] if big else start[4:8], order), set()
        while 0 < at <= size - count and at not in seen:
            seen.add(at)
            file.seek(at)
            tags = int.from_bytes(file.read(count), order)
            end = at + count + tags * tag
            if end > size:
                raise InputError(
                    f"{path}: the page at byte {at:,} declares {tags:,} tags, which the {size:,} bytes of the file "
                    f"cannot hold; it is damaged or cut short, copy it again"
                )
            file.seek(end)
            at = int.from_bytes(file.read(pointer), order)
    if at in seen:
        raise InputError(f"{path}: after its last page the page at byte {at:,} comes again; the file is damaged")
