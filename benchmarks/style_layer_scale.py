"""A VGG file in which one layer is weaker and all later layers are as before: what does that layer's style loss do?

    python -m benchmarks.style_layer_scale VGG.pth --layer conv1_2 --style-loss 22 --out WEAKER.pth

ReLU networks are homogeneous: relu(s x) = s relu(x) for s > 0. With the layer's weights and biases divided by s and the
next layer's weights multiplied by s, every later map stays what it was. The layer's own map is 1/s times as strong, its
Gram matrix 1/s^2, its style loss 1/s^4: --style-loss is s^4. Two networks that were trained apart may differ in just
that; benchmarks/results/style_faithful.md shows what it does to `npunet.stylize train --faithful`.
"""

import argparse
from pathlib import Path

from npunet.commands import cli
from npunet.errors import InputError
from npunet.files.torch_files import load_tensors, save_torch
from npunet.style.vgg import chain


def weaker(tensors: dict, layer: str, style_loss: float) -> dict:
    """The tensors of a VGG19 with the layer's map divided by style_loss^(1/4), in torchvision's names."""
    numbers = {name: number for name, number in chain("vgg19") if name.startswith("conv")}
    names = list(numbers)
    if layer not in names[:-1]:
        raise InputError(f"--layer is {layer!r}; it must be one of {', '.join(names[:-1])}")
    own, following = (f"features.{numbers[name]}" for name in (layer, names[names.index(layer) + 1]))
    if f"{following}.weight" not in tensors:
        raise InputError(f"the file ends before {following}.weight, which the scale of {layer} needs; take VGG19 whole")
    s = style_loss**0.25
    changed = {f"{own}.weight": 1 / s, f"{own}.bias": 1 / s, f"{following}.weight": s}
    return {name: value * value.dtype.type(changed.get(name, 1)) for name, value in tensors.items()}


def main(arguments=None):
    parse = argparse.ArgumentParser(description="Make one layer of VGG19 weaker and leave all later maps as they are.")
    parse.add_argument("weights", type=Path, help="VGG19 in torchvision's layout")
    parse.add_argument("--layer", default="conv1_2")
    parse.add_argument("--style-loss", type=float, default=22.0, help="what the layer's style loss is divided by")
    parse.add_argument("--out", type=Path, required=True)
    options = parse.parse_args(arguments)
    if not 0 < options.style_loss < float("inf"):
        raise InputError(f"--style-loss is {options.style_loss}; it must be above 0 and finite")
    save_torch(options.out, weaker(load_tensors(options.weights)[0], options.layer, options.style_loss))
    print(f"{options.out}: the style loss of {options.layer} is divided by {options.style_loss:g}")


if __name__ == "__main__":
    cli.run(main)
