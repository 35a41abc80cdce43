"""python -m npunet.export: a trained network as the file that another program reads.

    python -m npunet.export --model runs/a/best.npz --output model.onnx                 ONNX, with probabilities
    python -m npunet.export --model runs/a/best.npz --output model.zip --bioimageio     a package for bioimage.io
    python -m npunet.export --model phseg_v5.caffemodel --output release.npz            from one format to another

The suffix of --output decides the format; docs/formats.md lists them, and who reads them.
"""

import argparse
from pathlib import Path

from npunet.commands import cli, ranges
from npunet.commands.beside_a_model import trained_scale
from npunet.errors import InputError
from npunet.export import bioimageio
from npunet.files import onnx_unet
from npunet.unet import UNet

ONNX_ONLY, PACKAGE_ONLY = ("logits", "mirror", "size"), ("name", "description", "author", "license", "image")


def parser():
    parse = argparse.ArgumentParser(prog=cli.program("export"), description="A trained network for other programs.")
    add = parse.add_argument
    add("--model", required=True, help="the network: .npz, .pth, .safetensors or .caffemodel", metavar="FILE")
    add("--output", required=True, help="the file to write: .onnx, .npz, .pth, .safetensors; .zip with --bioimageio")
    add("--float16", action="store_true", help="ONNX: weights of 16 bit, half the bytes; the arithmetic stays float32")
    add("--logits", action="store_true", help="ONNX: the output before soft-max instead of probabilities")
    add(
        "--mirror",
        action="store_true",
        help="ONNX: a valid network mirrors the border; the output has the input's size",
    )
    add("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="ONNX: a fixed size of the input (default: any)")
    add("--bioimageio", action="store_true", help="a package of the bioimage.io model zoo around the ONNX file")
    add("--image", help="package: a picture for the test and the cover (default: one is made up)", metavar="FILE")
    add("--name", help="package: the name in the zoo; letters, digits, spaces and _+-()")
    add("--description", help="package: what the network does, in a sentence")
    add("--author", action="append", default=[], help="package: a name; give it once for each author")
    add("--license", help="package: an SPDX identifier such as CC-BY-4.0", metavar="ID")
    return parse


def check(options):
    """Raises InputError for options that have no effect on what is written."""
    suffix = Path(options.output).suffix.lower()
    onnx, package = suffix == ".onnx" and not options.bioimageio, options.bioimageio
    for name in (*ONNX_ONLY, *PACKAGE_ONLY, "float16"):
        fits = onnx if name in ONNX_ONLY else package if name in PACKAGE_ONLY else onnx or package
        if getattr(options, name) and not fits:
            wanted = "--bioimageio" if name in PACKAGE_ONLY else "a name that ends in .onnx"
            raise InputError(f"--{name} has no effect on {options.output}; it goes with {wanted}")
    if suffix == ".zip" and not package:
        raise InputError(f"{options.output}: a .zip is a package of bioimage.io; give --bioimageio with it")


def main(arguments=None):
    options = parser().parse_args(arguments)
    ranges.check(vars(options) | {"size": None, "author": None})  # two numbers, and a list that may be empty
    check(options)
    net = UNet.load(options.model)
    weights = "float16" if options.float16 else "float32"
    if options.bioimageio:
        bioimageio.save_package(
            net,
            options.output,
            name=options.name,
            description=options.description,
            authors=options.author,
            licence=options.license,
            image=options.image,
            weights=weights,
            scale=trained_scale(options.model),
        )
    elif Path(options.output).suffix.lower() == ".onnx":
        softmax = not (options.logits or net.tanh)
        onnx_unet.save(net, options.output, softmax=softmax, mirror=options.mirror, weights=weights, size=options.size)
    else:
        net.save(options.output)
    size = Path(options.output).stat().st_size
    print(
        f"wrote {options.output}: {size / 1e6:.1f} MB; {sizes(net, options.mirror or options.bioimageio, options.size)}"
    )


def sizes(net, mirror, fixed):
    """Which inputs the network takes, in words."""
    rule = onnx_unet.tile_rule(net, mirror)
    if fixed:
        return (
            f"input {fixed[0]} x {fixed[1]}, output {fixed[0] - rule['border_lost']} x {fixed[1] - rule['border_lost']}"
        )
    steps = f", or more in steps of {rule['size_step']}" if rule["size_step"] > 1 else " or more"
    lost = f"; the output has {rule['border_lost']} fewer" if rule["border_lost"] else ""
    return f"inputs of {rule['smallest_size']} pixels{steps} each way{lost}"


if __name__ == "__main__":
    cli.run(main)
