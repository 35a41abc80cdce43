"""From one picture file to its mask: what is read, and how masks and probabilities are written (§1).

Memory: one forward pass of a tile, and for PNG one byte a pixel (four while it is written). TIFF output is a memory map
on the disk, and TIFF input is one where it is not compressed; pages of more than 2^27 pixels are written as TIFF, so
that 20,000 x 20,000 pixels need no more memory than one tile.
"""

import math
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import tifffile

from npunet import tiling
from npunet.commands import scaling, window
from npunet.commands.inputs import PROBABILITY
from npunet.errors import InputError
from npunet.files import images
from npunet.files.whole_file import written_whole

LARGEST_PNG = 2**27  # pixels; a larger page is written as TIFF, straight to the disk


class Page:
    """One page of an `images.ImageStack` as `tiling` reads it: parts of it, converted to the network's channels."""

    dtype = np.dtype(np.float32)

    def __init__(self, stack, page, channels):
        self.stack, self.page = stack, page
        self.shape = (*stack.shape[1:3], channels)

    def __getitem__(self, parts):
        rows, columns = parts
        window = self.stack.window(
            self.page, rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
        )
        return images.with_channels(window, self.shape[2], self.stack.path)


def written_values(net):
    """What is written for each class: (K,) uint8, or (K, 3) for colours."""
    values = np.asarray(net.mask_values or range(net.n_labels))
    if len(values) != net.n_labels or values.min() < 0 or values.max() > 255:  # 16-bit values do not fit
        values = np.arange(net.n_labels)
    if values.tolist() == [0, 1]:
        values = np.array([0, 255])  # 1 on 0 is black on black
    return np.round(values).astype(np.uint8)


def predicted_parts(net, page, tile, augment, scale):
    """tiling.predict_tiles, or with a scale one part that is the whole page."""
    if scale == 1:
        yield from tiling.predict_tiles(net, page, tile, augment)
    else:
        whole = slice(0, page.shape[0]), slice(0, page.shape[1])
        yield *whole, scaling.predict(net, page[whole], scale, tile, augment=augment)


def predict_file(
    net, path, output, tile=572, *, probabilities="none", threshold=0.5, augment=False, scale=1.0, progress=None
):
    """Predict all pages of one file; returns the list of files written, each there whole or not at all.

    probabilities: "none", "uint16" (round(65535 p)) or "float32". progress is called as progress(tiles done, tiles in
    all).
    """
    path, output = Path(path), Path(output)
    stack = images.open_image(path)
    n_pages, height, width = stack.shape[:3]
    total = n_pages * (tiling.count_tiles((height, width), net, tile) if scale == 1 else 1)
    values = written_values(net)
    shown = [1] if net.n_labels == 2 else list(range(net.n_labels))  # the classes whose probability is written
    as_tiff = n_pages > 1 or height * width > LARGEST_PNG
    mask_path, probability_path = (
        output / (path.stem + (".tif" if as_tiff else ".png")),
        output / f"{path.stem}{PROBABILITY}.tif",
    )
    output.mkdir(parents=True, exist_ok=True)
    done = 0
    with ExitStack() as files:
        shape = (n_pages, height, width, *values.shape[1:])
        mask = files.enter_context(tiff_on_disk(mask_path, shape, np.uint8)) if as_tiff else np.empty(shape, np.uint8)
        if probabilities != "none":
            kept = files.enter_context(
                tiff_on_disk(probability_path, (n_pages * len(shown), height, width), probabilities)
            )
        for page in range(n_pages):
            for rows, columns, p in predicted_parts(net, Page(stack, page, net.in_channels), tile, augment, scale):
                mask[page, rows, columns] = values[tiling.classify(p, threshold)]
                if probabilities != "none":
                    p = np.moveaxis(p[..., shown], 2, 0)  # (classes shown, h, w)
                    part = slice(page * len(shown), (page + 1) * len(shown))
                    kept[part, rows, columns] = np.round(p * 65535) if probabilities == "uint16" else p
                done += 1
                if progress is not None:
                    progress(done, total)
        if not as_tiff:
            write_values(mask_path, mask[0])
    return [mask_path] if probabilities == "none" else [mask_path, probability_path]


def write_values(path, mask):
    """One page of written values, (H, W) or (H, W, 3) uint8, as it is."""
    if mask.ndim == 3:
        images.write_image(path, mask / np.float32(255))
    else:
        images.write_mask(path, mask, n_classes=256)


@contextmanager
def tiff_on_disk(path, shape, dtype):
    """A memory map of shape (pages, H, W), or (pages, H, W, 3), to be filled, which becomes the TIFF at `path` when
    the block succeeds.
    """
    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:  # writing to a map on a full disk would kill the process
        raise InputError(
            f"{path} needs {needed / 1e6:,.1f} MB but {free / 1e6:,.1f} MB are free; make room or give another --output"
        )
    with written_whole(path) as temporary:
        stored = shape if shape[0] > 1 else shape[1:]  # one page is (H, W) to its readers
        pixels = tifffile.memmap(
            temporary,
            shape=stored,
            dtype=dtype,
            photometric="rgb" if len(shape) == 4 else "minisblack",
            metadata=None,
            bigtiff=needed > 2**32 - 2**25,
        )  # a classic TIFF counts bytes with 32 bits
        yield pixels.reshape(shape)  # a view
        pixels.flush()


def view_file(net, path, output, tile, *, threshold, augment, scale):
    """Show the first page of one file and its mask; see `window.show`."""
    stack = images.open_image(path)
    page = Page(stack, 0, net.in_channels)
    whole = slice(0, page.shape[0]), slice(0, page.shape[1])
    mask = np.empty((*page.shape[:2], *written_values(net).shape[1:]), np.uint8)
    for rows, columns, p in predicted_parts(net, page, tile, augment, scale):
        mask[rows, columns] = written_values(net)[tiling.classify(p, threshold)]
    window.show(Path(path).name, page[whole], mask, output and output / f"{Path(path).stem}_viz.png")


def described(net, count, output, probabilities):
    """What was written, in one line."""
    values = written_values(net)
    if values.ndim == 2:
        shown = "in the colours of the classes"
    elif net.n_labels == 2:
        shown = f"{values[0]} and {values[1]}"
    else:
        listed = ", ".join(map(str, values[:8])) + (", .." if len(values) > 8 else "")
        shown = f"pixel values {listed} are the classes; they may look dark"
    also = "" if probabilities == "none" else f", probabilities in *{PROBABILITY}.tif ({probabilities})"
    return f"{count} image{'s' * (count > 1)} predicted; masks ({shown}) in {output}/{also}"
