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
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from npunet import tiling
from npunet.commands import cli, memory_needs, prediction, ranges
from npunet.commands.inputs import check_outputs, find_inputs
from npunet.commands.run_folder import trained_scale
from npunet.errors import InputError
from npunet.files import images
from npunet.unet import UNet


def main(arguments=None):
    options = parser().parse_args(arguments)
    check(options)
    inputs, output = find_inputs(options.input), None if options.no_save else Path(options.output)
    if output:
        check_outputs(inputs, output)
    net = load_network(options)
    choose_tile(options, net, inputs)
    for number, path in enumerate(inputs, start=1):
        try:
            predict_one(options, net, path, output, f"{path.name} ({number}/{len(inputs)})")
        except KeyboardInterrupt:
            kept = f" and kept in {output}/" if output else ""
            tqdm.write(f"{number - 1} of {len(inputs)} images are done{kept}", file=sys.stderr)
            raise
    if output:
        seen = f", seen at a scale of {options.scale:g}" if options.scale != 1 else ""
        print(prediction.described(net, len(inputs), output, options.probabilities) + seen)


def check(options):
    """Refuse options that cannot work, before anything is read or written. Raises InputError."""
    if options.no_save and not options.viz:
        raise InputError("--no-save without --viz leaves nothing to do; give --viz, or --output instead of --no-save")
    if options.output is None and not options.no_save:
        raise InputError("--output is missing: give a folder for the results, or --no-save")
    if not 0 <= options.threshold <= 1:
        raise InputError(f"--threshold is {options.threshold}; expected a probability, 0 to 1")
    options.scale = trained_scale(options.model) if options.scale is None else options.scale
    ranges.check(vars(options))


def load_network(options):
    """The network of --model, on its device."""
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device)
    if net.n_labels > 256:
        raise InputError(f"{options.model} tells {net.n_labels} classes apart; a mask of 8 bits holds at most 256")
    return net


def choose_tile(options, net, inputs):
    """Put a number of pixels that fits the network into options.tile, before any work."""
    options.tile = options.tile or tiling.default_tile(net)
    if options.tile == "auto":
        longest = max(max(images.open_image(path).shape[1:3]) for path in inputs)
        options.tile = memory_needs.tile_for_inference(net, longest)
    net.output_size(options.tile)  # raises InputError for an invalid tile


def predict_one(options, net, path, output, title):
    """Write the results of one file to the folder `output` unless that is None, and show them if that was asked for."""
    how = dict(threshold=options.threshold, augment=options.augment, scale=options.scale)
    longest = options.scale * max(images.open_image(path).shape[1:3])
    with tqdm(desc=title, unit="tile", dynamic_ncols=True, leave=False) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        try:
            with memory_needs.out_of_memory(net, options.tile, covering=longest):
                if output:
                    saved = dict(probabilities=options.probabilities, progress=progress)
                    prediction.predict_file(net, path, output, options.tile, **saved, **how)
                if options.viz:
                    prediction.view_file(net, path, output, options.tile, **how)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"--output {output}: {reason}; check the folder and the space left") from None


def parser():
    parse = argparse.ArgumentParser(
        prog="python -m npunet.predict", description="Apply a trained network to images of any size."
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


if __name__ == "__main__":
    cli.run(main)
