"""python -m npunet.predict: apply a trained network to images of any size (§2, the overlap-tile strategy of Fig. 2).

For an input NAME.* of one page it writes DIR/NAME.png, for several pages DIR/NAME.tif with as many, of the same height and
width: 255 where the probability of class 1 is above the threshold and 0 elsewhere if the network has two classes, otherwise
the number of the most likely class. Probabilities go to DIR/NAME_probability.tif: of class 1 for two classes (a page for
each page), otherwise of each class in turn (K pages for each page).

Images are scaled by the rule of `npunet.images`, as in training. A grey image is repeated for a network that wants RGB; an
RGB image whose channels are equal becomes grey; real colour for a grey network is an error.

Memory: one forward pass of a tile, and for PNG one byte a pixel (four while it is written). TIFF output is a memory map on
the disk, and TIFF input is one where it is not compressed; pages of more than 2^27 pixels are written as TIFF, so that
20,000 x 20,000 pixels need no more memory than one tile.
"""

import argparse
import math
import shutil
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import tifffile
from tqdm import tqdm

from npunet import cli, images, tiling
from npunet.errors import InputError
from npunet.unet import UNet

LARGEST_PNG = 2 ** 27             # pixels; a larger page is written as TIFF, straight to the disk
PROBABILITY = "_probability"


class Page:
    """One page of an `images.ImageStack` as `tiling` reads it: parts of it, converted to the network's channels."""

    dtype = np.dtype(np.float32)

    def __init__(self, stack, page, channels):
        self.stack, self.page = stack, page
        self.shape = (*stack.shape[1:3], channels)

    def __getitem__(self, parts):
        rows, columns = parts
        window = self.stack.window(self.page, rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        return images.with_channels(window, self.shape[2], self.stack.path)


def find_inputs(paths):
    """The image files among files and folders, folders in the order of their names. Raises InputError if there is none."""
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")
                            and entry.suffix.lower() in images.EXTENSIONS)
            if not inside:
                raise InputError(f"{path}: no image in this folder; expected {', '.join(images.EXTENSIONS)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return found


def check_outputs(inputs, output):
    """Raises InputError if two inputs would be written to one name, or an output would overwrite an input."""
    sources = {path.resolve() for path in inputs}
    owner = {}
    for path in inputs:
        for name in (path.stem, path.stem + PROBABILITY):
            other = owner.setdefault(name.lower(), path)          # some file systems do not tell upper from lower case
            if other is not path:
                raise InputError(f"{other} and {path} would both be written to {output / name}.*; rename one, or predict them into two folders")
            for suffix in (".png", ".tif"):
                if (output / (name + suffix)).resolve() in sources:
                    raise InputError(f"--output {output}: {name}{suffix} would overwrite the input of that name; give another folder")


def predict_file(net, path, output, tile=572, *, probabilities="none", threshold=0.5, augment=False, progress=None):
    """Predict all pages of one file; returns the list of files written, each there whole or not at all.

    probabilities: "none", "uint16" (round(65535 p)) or "float32". progress is called as progress(tiles done, tiles in all).
    """
    path, output = Path(path), Path(output)
    stack = images.open_image(path)
    n_pages, height, width = stack.shape[:3]
    total = n_pages * tiling.count_tiles((height, width), net, tile)
    shown = [1] if net.n_classes == 2 else list(range(net.n_classes))          # the classes whose probability is written
    as_tiff = n_pages > 1 or height * width > LARGEST_PNG
    mask_path, probability_path = output / (path.stem + (".tif" if as_tiff else ".png")), output / f"{path.stem}{PROBABILITY}.tif"
    output.mkdir(parents=True, exist_ok=True)
    done = 0
    with ExitStack() as files:
        mask = (files.enter_context(tiff_on_disk(mask_path, (n_pages, height, width), np.uint8)) if as_tiff
                else np.empty((1, height, width), np.uint8))
        if probabilities != "none":
            kept = files.enter_context(tiff_on_disk(probability_path, (n_pages * len(shown), height, width), probabilities))
        for page in range(n_pages):
            for rows, columns, p in tiling.predict_tiles(net, Page(stack, page, net.in_channels), tile, augment):
                mask[page, rows, columns] = tiling.classify(p, threshold) * (255 if net.n_classes == 2 else 1)
                if probabilities != "none":
                    p = np.moveaxis(p[..., shown], 2, 0)                       # (classes shown, h, w)
                    part = slice(page * len(shown), (page + 1) * len(shown))
                    kept[part, rows, columns] = np.round(p * 65535) if probabilities == "uint16" else p
                done += 1
                if progress is not None:
                    progress(done, total)
        if not as_tiff:
            images.write_mask(mask_path, mask[0] > 0 if net.n_classes == 2 else mask[0], net.n_classes)
    return [mask_path] if probabilities == "none" else [mask_path, probability_path]


@contextmanager
def tiff_on_disk(path, shape, dtype):
    """A memory map of shape (pages, H, W) to be filled, which becomes the TIFF at `path` when the block succeeds."""
    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if needed > free:                                     # writing to a map on a full disk would kill the process
        raise InputError(f"{path} needs {needed / 1e9:.1f} GB but {free / 1e9:.1f} GB are free; make room or give another --output")
    with images.written_whole(path) as temporary:
        stored = shape if shape[0] > 1 else shape[1:]                          # one page is (H, W) to its readers
        pixels = tifffile.memmap(temporary, shape=stored, dtype=dtype, photometric="minisblack", metadata=None,
                                 bigtiff=needed > 2 ** 32 - 2 ** 25)           # a classic TIFF counts bytes with 32 bits
        yield pixels.reshape(shape)                                            # a view
        pixels.flush()


def main(arguments=None):
    options = parser().parse_args(arguments)
    inputs, output = find_inputs(options.input), Path(options.output)
    check_outputs(inputs, output)
    if not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}; expected a probability, 0 to 1")
    net = UNet.load(options.model, device=options.device)
    options.tile = options.tile or tiling.default_tile(net)
    net.output_size(options.tile)                         # an invalid tile is refused before any work
    if net.n_classes > 256:
        raise InputError(f"{options.model} tells {net.n_classes} classes apart; a mask of 8 bits holds at most 256")
    for number, path in enumerate(inputs, start=1):
        with tqdm(desc=f"{path.name} ({number}/{len(inputs)})", unit="tile", dynamic_ncols=True, leave=False) as bar:
            def progress(done, total):
                bar.total = total
                bar.update(done - bar.n)
            try:
                predict_file(net, path, output, options.tile, probabilities=options.probabilities, threshold=options.threshold,
                             augment=options.augment, progress=progress)
            except MemoryError:
                raise InputError(f"out of memory at tile {options.tile}; give a smaller --tile "
                                 "(python -m npunet.summary tells what each needs)") from None
            except OSError as error:
                raise InputError(f"--output {output}: {error.strerror or error}; check the folder and the space left") from None
            except KeyboardInterrupt:
                tqdm.write(f"{number - 1} of {len(inputs)} images are done and kept in {output}/", file=sys.stderr)
                raise
    values = "0 and 255" if net.n_classes == 2 else f"pixel values 0 to {net.n_classes - 1} are the classes; they look dark"
    also = "" if options.probabilities == "none" else f", probabilities in *{PROBABILITY}.tif ({options.probabilities})"
    print(f"{len(inputs)} image{'s' * (len(inputs) > 1)} predicted; masks ({values}) in {output}/{also}")


def parser():
    parse = argparse.ArgumentParser(prog="python -m npunet.predict", description="Apply a trained network to images of any size.")
    parse.add_argument("--model", required=True, help="a .npz file that training wrote, such as runs/isbi/best.npz")
    parse.add_argument("--input", required=True, nargs="+", help="images, or folders of images", metavar="IMAGE")
    parse.add_argument("--output", required=True, help="folder for the results; files of the same name in it are replaced", metavar="DIR")
    parse.add_argument("--tile", type=int, help="largest side of an input tile in pixels (default 572, or the nearest that is valid)")
    parse.add_argument("--device", choices=["cpu", "gpu", "auto"], default="cpu", help="where to compute (default cpu)")
    parse.add_argument("--probabilities", choices=["none", "uint16", "float32"], default="none",
                       help="also write probabilities as TIFF, of this type (default none)")
    parse.add_argument("--threshold", type=float, default=0.5, help="probability of class 1 above which a pixel is object (two classes only; default 0.5)")
    parse.add_argument("--augment", action="store_true", help="mean over all rotated and mirrored versions (§4); eight times the work")
    return parse


if __name__ == "__main__":
    cli.run(main)
