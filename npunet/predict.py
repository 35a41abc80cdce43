"""python -m npunet.predict: apply a trained network to images of any size (§1, the overlap-tile strategy of Fig. 2).

For an input NAME.* of one page it writes DIR/NAME.png, for several pages DIR/NAME.tif with as many, of the same height
and width: 255 where the probability of class 1 is above the threshold and 0 elsewhere if the network has two classes,
otherwise the number of the most likely class. A network that knows the values of its classes in the masks it was
trained on (mask_values) writes those, colours too; only 0 and 1 become 0 and 255. Probabilities go to
DIR/NAME_probability.tif: of class 1 for two classes (a page for each page), otherwise of each class in turn (K pages
for each page).

Images are scaled by the rule of `npunet.files.images`, as in training. A grey image is repeated for a network that
wants RGB; an RGB image whose channels are equal becomes grey; real colour for a grey network is an error. With --scale,
and without it for a network that was trained so, a smaller copy of each page is seen, whole, and the result is
enlarged.

Memory: one forward pass of a tile, and for PNG one byte a pixel (four while it is written). TIFF output is a memory map
on the disk, and TIFF input is one where it is not compressed; pages of more than 2^27 pixels are written as TIFF, so
that 20,000 x 20,000 pixels need no more memory than one tile.
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

from npunet import summary, tiling
from npunet.commands import cli, memory_needs, scaling
from npunet.commands.run_folder import trained_scale
from npunet.commands.train_options import tile_size
from npunet.errors import InputError
from npunet.files import images
from npunet.unet import UNet

LARGEST_PNG = 2**27  # pixels; a larger page is written as TIFF, straight to the disk
PROBABILITY = "_probability"


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


def find_inputs(paths):
    """The image files among files and folders, folders in the order of their names.

    Raises InputError if there is none.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                entry
                for entry in path.iterdir()
                if entry.is_file() and not entry.name.startswith(".") and entry.suffix.lower() in images.EXTENSIONS
            )
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
            other = owner.setdefault(name.lower(), path)  # some file systems do not tell upper from lower case
            if other is not path:
                raise InputError(
                    f"{other} and {path} would both be written to {output / name}.*; rename one, or predict them into "
                    f"two folders"
                )
            for suffix in (".png", ".tif"):
                if (output / (name + suffix)).resolve() in sources:
                    raise InputError(
                        f"--output {output}: {name}{suffix} would overwrite the input of that name; give another folder"
                    )


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
    with images.written_whole(path) as temporary:
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
    """Show the first page of one file and its mask; see `viewing.show`."""
    from npunet.commands import window  # here, for opening a window takes Matplotlib a second to prepare

    stack = images.open_image(path)
    page = Page(stack, 0, net.in_channels)
    whole = slice(0, page.shape[0]), slice(0, page.shape[1])
    mask = np.empty((*page.shape[:2], *written_values(net).shape[1:]), np.uint8)
    for rows, columns, p in predicted_parts(net, page, tile, augment, scale):
        mask[rows, columns] = written_values(net)[tiling.classify(p, threshold)]
    window.show(Path(path).name, page[whole], mask, output and output / f"{Path(path).stem}_viz.png")


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.no_save and not options.viz:
        raise InputError("--no-save without --viz leaves nothing to do; give --viz, or --output instead of --no-save")
    if options.output is None and not options.no_save:
        raise InputError("--output is missing: give a folder for the results, or --no-save")
    inputs, output = find_inputs(options.input), None if options.no_save else Path(options.output)
    if output:
        check_outputs(inputs, output)
    if not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}; expected a probability, 0 to 1")
    options.scale = trained_scale(options.model) if options.scale is None else options.scale
    scaling.scaled_size((100, 100), options.scale)
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device)
    options.tile = options.tile or tiling.default_tile(net)
    if options.tile == "auto":
        options.tile = summary.tile_for_inference(net, max(max(images.open_image(path).shape[1:3]) for path in inputs))
    net.output_size(options.tile)  # an invalid tile is refused before any work
    if net.n_labels > 256:
        raise InputError(f"{options.model} tells {net.n_labels} classes apart; a mask of 8 bits holds at most 256")
    how = dict(threshold=options.threshold, augment=options.augment, scale=options.scale)
    for number, path in enumerate(inputs, start=1):
        with tqdm(desc=f"{path.name} ({number}/{len(inputs)})", unit="tile", dynamic_ncols=True, leave=False) as bar:

            def progress(done, total):
                bar.total = total
                bar.update(done - bar.n)

            try:
                with memory_needs.out_of_memory(
                    net, options.tile, covering=options.scale * max(images.open_image(path).shape[1:3])
                ):
                    if output:
                        predict_file(
                            net,
                            path,
                            output,
                            options.tile,
                            probabilities=options.probabilities,
                            progress=progress,
                            **how,
                        )
                    if options.viz:
                        view_file(net, path, output, options.tile, **how)
            except OSError as error:
                raise InputError(
                    f"--output {output}: {error.strerror or error}; check the folder and the space left"
                ) from None
            except KeyboardInterrupt:
                tqdm.write(
                    f"{number - 1} of {len(inputs)} images are done" + (f" and kept in {output}/" if output else ""),
                    file=sys.stderr,
                )
                raise
    if output:
        print(
            described(net, len(inputs), output, options.probabilities)
            + (f", seen at a scale of {options.scale:g}" if options.scale != 1 else "")
        )


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


def parser():
    parse = argparse.ArgumentParser(
        prog="python -m npunet.predict", description="Apply a trained network to images of any size."
    )
    parse.add_argument(
        "--model",
        required=True,
        help="a .npz file that training wrote, such as runs/isbi/best.npz, or a .pth of milesial/Pytorch-UNet",
    )
    parse.add_argument("--input", required=True, nargs="+", help="images, or folders of images", metavar="IMAGE")
    parse.add_argument(
        "--output", help="folder for the results; files of the same name in it are replaced", metavar="DIR"
    )
    parse.add_argument("--no-save", action="store_true", help="write nothing (with --viz)")
    parse.add_argument(
        "--viz",
        action="store_true",
        help="show each image and its mask in a window, or write NAME_viz.png where there is no screen",
    )
    parse.add_argument(
        "--tile",
        type=tile_size,
        metavar="TILE|auto",
        help="largest side of an input tile in pixels (default 572, or the nearest that is "
        "valid; 1024 for padded networks, which take smaller images whole); auto: as large as the images need and "
        "memory allows",
    )
    parse.add_argument(
        "--scale",
        type=float,
        help="let the network see the images smaller by this factor (default: as it was trained, by the "
        "config.json beside it; else 1)",
    )
    cli.add_device(parse)
    parse.add_argument(
        "--probabilities",
        choices=["none", "uint16", "float32"],
        default="none",
        help="also write probabilities as TIFF, of this type (default none)",
    )
    parse.add_argument(
        "--threshold",
        "--mask-threshold",
        type=float,
        default=0.5,
        help="probability of class 1 above which a pixel is object (two classes only; default 0.5)",
    )
    parse.add_argument(
        "--augment", action="store_true", help="mean over all rotated and mirrored versions (§4); eight times the work"
    )
    return parse


if __name__ == "__main__":
    cli.run(main)
