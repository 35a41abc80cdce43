"""From one picture file to its mask: what is read, and how masks and probabilities are written (§1).

Memory: one forward pass of a tile, and for PNG one byte a pixel (four while it is written). TIFF output is a memory map
on the disk, and TIFF input is one where it is not compressed; pages of more than 2^27 pixels are written as TIFF, so
that 20,000 x 20,000 pixels need no more memory than one tile.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from npunet import tiling
from npunet.commands import cell_files, scaling, window
from npunet.commands.grey_values import rule_of
from npunet.commands.inputs import PROBABILITY, stem
from npunet.commands.tiff_on_disk import tiff_on_disk
from npunet.files import images
from npunet.files.calibration import read_calibration
from npunet.files.images import write_pages
from npunet.instances.cutting import ClassComponents, Cutting, cutting_of

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
    if head_of(net):
        return np.array([0, 255], np.uint8)
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


@dataclass(frozen=True)
class Wanted:
    """What is written for a picture beside its mask. cutting: how cells are cut out, None for no files of cells."""

    probabilities: str = "none"  # "uint16" (round(65535 p)) or "float32": NAME_probability.tif
    cutting: Cutting | ClassComponents | None = None
    view: bool = False  # NAME_viz.png, or a window, of the first page
    pixel_size: float | None = None  # micrometres, instead of what the file says


def predict_file(
    net, path, output, tile=572, *, wanted=Wanted(), threshold=0.5, augment=False, scale=1.0, progress=None
):
    """Predict all pages of one file, once; returns how many cells each page has, [] without a cutting.

    output: the folder of the results, each there whole or not at all; None writes nothing (and only a view is left).
    progress is called as progress(tiles done, tiles in all).
    """
    path, stack = Path(path), images.open_image(path, rule_of(net))
    height, width = stack.shape[1:3]
    n_pages = len(stack) if output else 1  # a view shows the first page
    calibration = read_calibration(path)
    if wanted.pixel_size:
        calibration = replace(calibration, x=wanted.pixel_size, y=wanted.pixel_size)
    values, heads = written_values(net), head_of(net)
    classes = 2 if heads else net.n_labels
    shown = [1] if classes == 2 else list(range(classes))  # the classes whose probability is written
    total = n_pages * (tiling.count_tiles((height, width), net, tile) if scale == 1 else 1)
    done = 0
    with ExitStack() as files:
        opened = files.enter_context
        mask = opened(mask_file(output, path, (n_pages, height, width, *values.shape[1:]), calibration))
        shape = (n_pages * len(shown), height, width)
        kept = opened(probability_file(output, path, shape, len(shown), wanted.probabilities, calibration))
        cutting = wanted.cutting if output else None
        finder = opened(cell_files.cell_finder(net, cutting, (n_pages, height, width), output, augment, scale))
        for page in range(n_pages):
            image = Page(stack, page, net.in_channels)
            if finder:
                finder.begin_page(image)
            for rows, columns, p in predicted_parts(net, image, tile, augment, scale):
                if finder:
                    finder.add(rows, columns, p)
                p = heads.foreground(p) if heads else p  # (h, w, classes)
                mask[page, rows, columns] = values[tiling.classify(p, threshold)]
                if kept is not None:
                    part = slice(page * len(shown), (page + 1) * len(shown))
                    p = np.moveaxis(p[..., shown], 2, 0)  # (classes shown, h, w)
                    kept[part, rows, columns] = np.round(p * 65535) if wanted.probabilities == "uint16" else p
                done += 1
                if progress is not None:
                    progress(done, total)
            if finder:
                finder.end_page(page)
        if wanted.view:
            view(path, stack, net, mask[0], output)
        return cell_files.write_cells(output, path, stack, finder.cells, calibration) if finder else []


@contextmanager
def mask_file(output, path, shape, calibration):
    """The mask to be filled, (pages, H, W) or (pages, H, W, 3) uint8: NAME.png, for stacks and large pages NAME.tif."""
    if output is None:
        yield np.empty(shape, np.uint8)
        return
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    if shape[0] > 1 or shape[1] * shape[2] > LARGEST_PNG:
        with tiff_on_disk(output / f"{stem(path)}.tif", shape, np.uint8, calibration) as mask:
            yield mask
    else:
        mask = np.empty(shape, np.uint8)
        yield mask
        write_values(output / f"{stem(path)}.png", mask[0], calibration)


@contextmanager
def probability_file(output, path, shape, shown, dtype, calibration):
    """The probabilities to be filled, (pages * classes shown, H, W); None if none are wanted."""
    if output is None or dtype == "none":
        yield None
    else:
        with tiff_on_disk(Path(output) / f"{stem(path)}{PROBABILITY}.tif", shape, dtype, calibration, shown) as kept:
            yield kept


def write_values(path, mask, calibration):
    """One page of written values, (H, W) or (H, W, 3) uint8, as it is."""
    write_pages(path, mask[None], 1, calibration=calibration)


def view(path, stack, net, mask, output):
    """Show the first page of one file and its mask; see `window.show`."""
    image = Page(stack, 0, net.in_channels)[slice(0, stack.shape[1]), slice(0, stack.shape[2])]
    window.show(path.name, image, mask, output and Path(output) / f"{stem(path)}_viz.png")


def head_of(net):
    """The cutting of a network whose classes are depths in cells; None where they are classes of things."""
    cutting = cutting_of(net) if net.cutting else None
    return cutting if cutting and cutting.head != "mask" else None


def described(net, count, output, probabilities, counts=None, cutting=None):
    """What was written, in one line, and in a second one the cells."""
    values = written_values(net)
    if values.ndim == 2:
        shown = "in the colours of the classes"
    elif len(values) == 2:
        shown = f"{values[0]} and {values[1]}"
    else:
        listed = ", ".join(map(str, values[:8])) + (", .." if len(values) > 8 else "")
        shown = f"pixel values {listed} are the classes; they may look dark"
    also = "" if probabilities == "none" else f", probabilities in *{PROBABILITY}.tif ({probabilities})"
    line = f"{count} image{'s' * (count > 1)} predicted; masks ({shown}) in {output}/{also}"
    if cutting is None:
        return line
    found = [row["cells"] for row in counts]
    each = f", {min(found)} to {max(found)} in each" if len(found) > 1 else ""
    return (
        f"{line}\n{sum(found)} cells{each} ({cutting}): numbered in *{cell_files.CELLS}.tif, measured in "
        f"{cell_files.TABLE}, outlined for ImageJ in *{cell_files.ROIS}.zip, shown in *{cell_files.OVERLAY}.*"
    )
