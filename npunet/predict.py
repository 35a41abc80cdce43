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

A network that was trained on numbered cells also says which pixels belong to one cell; `--instances` asks any network
for that (connected components, of each class if there are several). For NAME.* it then writes, beside the mask,
NAME_cells.tif, NAME_cells.csv, NAME_rois.zip and NAME_overlay.png (see `npunet.commands.cell_files`), and one table of
all pictures, cells.csv. Cells are the same whatever the tile is. With --cell-tracking all pages of all pictures are
frames in the layout of the Cell Tracking Challenge, in DIR/01_RES/.

A slide is predicted block by block and written so (`npunet.slides`): OME-Zarr, and a TIFF in tiles of more than 2^27
pixels. --format asks for that with any picture, and chooses what is written. Several processes share its blocks:
`mpiexec -n 4 python -m npunet.predict ...`. A run that was stopped goes on when the same command is given again.

TIFF output says how large a pixel is, and what the pages of a stack are, if the input says so.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from npunet import slides, tiling
from npunet.commands import cell_files, cell_tracking_files, cli, memory_needs, prediction, ranges
from npunet.commands.beside_a_model import trained_scale
from npunet.commands.cell_files import CELLS
from npunet.commands.grey_values import rule_of, stranger
from npunet.commands.inputs import check_outputs, find_inputs, stem
from npunet.errors import InputError
from npunet.files import images
from npunet.files.calibration import checked_pixel_size
from npunet.instances.cutting import cutting_of
from npunet.machine import ranks
from npunet.unet import UNet


def main(arguments=None):
    options = parser().parse_args(arguments)
    cli.join(options.device)
    check(options)
    inputs, output = find_inputs(options.input), None if options.no_save else Path(options.output)
    if output:
        check_outputs(inputs, output)
    net = load_network(options)
    as_slides = [slides.is_slide(path, options.format) for path in inputs]
    check_slides(options, inputs, as_slides)
    choose_tile(options, net, inputs, as_slides)
    wanted, counts = what_to_write(options, net), []
    for number, path in enumerate(inputs, start=1):
        try:
            if as_slides[number - 1]:
                predict_slide(options, net, path, output, wanted)
                continue
            counts += predict_one(options, net, path, output, wanted, f"{path.name} ({number}/{len(inputs)})")
        except KeyboardInterrupt:
            kept = f" and kept in {output}/" if output else ""
            tqdm.write(f"{number - 1} of {len(inputs)} images are done{kept}", file=sys.stderr)
            raise
    if output:
        pictures = [stem(path) for path, slide in zip(inputs, as_slides, strict=True) if not slide]
        if wanted.cutting and pictures:
            cell_files.join_tables(output, pictures)
        if options.cell_tracking:
            cell_tracking_files.write_sequence(output, [output / f"{stem(path)}{CELLS}.tif" for path in inputs])
        if not pictures:
            return
        seen = f"; seen at a scale of {options.scale:g}" if options.scale != 1 else ""
        print(prediction.described(net, len(pictures), output, options.probabilities, counts, wanted.cutting) + seen)


def check(options):
    """Refuse options that cannot work, before anything is read or written. Raises InputError."""
    if options.no_save and not options.viz:
        raise InputError("--no-save without --viz leaves nothing to do; give --viz, or --output instead of --no-save")
    if options.output is None and not options.no_save:
        raise InputError("--output is missing: give a folder for the results, or --no-save")
    if options.no_save and (options.instances or options.cell_tracking):
        raise InputError("--no-save writes no cells; give --output for --instances and --cell-tracking")
    if options.cell_tracking and options.instances is False:
        raise InputError("--cell-tracking writes cells, and --no-instances asks for none; leave one of them out")
    if options.pixel_size is not None:
        checked_pixel_size(options.pixel_size)
    if not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}; expected a probability, 0 to 1")
    options.scale = trained_scale(options.model) if options.scale is None else options.scale
    ranges.check(vars(options))


def load_network(options):
    """The network of --model, on its device."""
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device, options.precision)
    if net.n_labels > 256:
        raise InputError(f"{options.model} tells {net.n_labels} classes apart; a mask of 8 bits holds at most 256")
    return net


def check_slides(options, inputs, as_slides):
    """Refuse what slides cannot have, and several processes where there is nothing for them to share."""
    if any(as_slides):
        for name, asked in (
            ("viz", options.viz),
            ("no-save", options.no_save),
            ("cell-tracking", options.cell_tracking),
        ):
            if asked:
                raise InputError(
                    f"--{name} is for pictures that memory holds, and {slide_of(inputs, as_slides)} is a slide"
                )
        if options.scale != 1:
            raise InputError(
                f"--scale {options.scale:g}: a slide is seen as it is; give a smaller level of it, at scale 1"
            )
    elif ranks.size() > 1:
        raise InputError(
            f"{ranks.size()} processes share the blocks of a slide, but {inputs[0]} is a picture; give --format tiff "
            f"or zarr to predict it as one, or start one process"
        )


def slide_of(inputs, as_slides):
    return next(path for path, slide in zip(inputs, as_slides, strict=True) if slide)


def predict_slide(options, net, path, output, wanted):
    """Predict one slide, and say what was written."""
    how = dict(form=options.format, wanted=wanted, threshold=options.threshold, augment=options.augment)
    try:
        with memory_needs.out_of_memory(net, options.tile):
            slides.predict_slide(net, path, output, options.tile, model=options.model, **how)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--output {output}: {reason}; make room, and the same command goes on") from None


def choose_tile(options, net, inputs, as_slides):
    """Put a number of pixels that fits the network into options.tile, before any work."""
    options.tile = options.tile or tiling.default_tile(net)
    if options.tile == "auto":
        longest = max(max(images.open_image(path).shape[1:3]) for path in inputs)
        longest = min(longest, slides.LARGEST_TILE) if any(as_slides) else longest
        options.tile = memory_needs.tile_for_inference(net, longest)
    net.output_size(options.tile)  # raises InputError for an invalid tile


def what_to_write(options, net):
    """A `prediction.Wanted`: cells for a network that knows how to cut them, or where they are asked for."""
    asked = options.instances or options.cell_tracking
    cells = asked or (options.instances is None and net.cutting is not None and not options.no_save)
    cutting = cutting_of(net) if cells else None
    return prediction.Wanted(options.probabilities, cutting, options.viz, options.pixel_size)


def predict_one(options, net, path, output, wanted, title):
    """Write the results of one file to the folder `output` unless that is None, and show them if that was asked for.

    Returns how many cells each page has.
    """
    how = dict(threshold=options.threshold, augment=options.augment, scale=options.scale)
    stack = images.open_image(path, rule_of(net))
    longest = options.scale * max(stack.shape[1:3])
    if strange := stranger(net, stack):
        tqdm.write(strange, file=sys.stderr)
    with cli.progress_bar(desc=title, unit="tile") as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        try:
            with memory_needs.out_of_memory(net, options.tile, covering=longest):
                return prediction.predict_file(net, path, output, options.tile, wanted=wanted, progress=progress, **how)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"--output {output}: {reason}; check the folder and the space left") from None


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("predict"), description="Apply a trained network to images of any size."
    )
    parse.add_argument("--model", required=True, help=cli.MODEL_HELP)
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
        "--format",
        choices=slides.FORMATS,
        default="auto",
        help="predict any picture as a slide, block by block, and write a pyramid: tiff (tiled OME-TIFF) or OME-Zarr "
        "(zarr: as the input, or 0.5; default auto: OME-Zarr and large tiled TIFF as they are)",
    )
    add_cells(parse)
    cli.add_tile_and_scale(parse)
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
    cli.add_augment(parse)
    return parse


def add_cells(parse):
    """The options about cells."""
    parse.add_argument(
        "--instances",
        action=argparse.BooleanOptionalAction,
        help="number, measure and outline the cells (default: if the network was trained on numbered cells)",
    )
    parse.add_argument(
        "--pixel-size",
        type=float,
        metavar="MICROMETRES",
        help="side of a pixel, for the table of cells and the TIFF files (default: what the image file says)",
    )
    parse.add_argument(
        "--cell-tracking",
        action="store_true",
        help="also write the cells of all pages of all images, as frames in their order, in the layout of the Cell "
        "Tracking Challenge: DIR/01_RES/mask000.tif and so on",
    )


if __name__ == "__main__":
    cli.run(main)
