"""The networks that are called U-Net (§2, and after), each as a row of options, and the options that a network accepts.

`VARIANTS["paper"]` has every option off but drop-out: it is Fig. 1, and npunet/unet.py reads as if there were no other.
"""

import numbers
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from npunet.errors import InputError
from npunet.machine.backend import Array, free_memory


class Network(Protocol):
    """What tiling asks of a network; `npunet.UNet` has it all."""

    in_channels: int
    depth: int  # poolings: tiles stand at multiples of 2^depth
    options: "Variant"
    dtype: np.dtype
    device: str

    def forward(self, x: Array, train: bool = False) -> Array: ...

    def output_size(self, size: int) -> int: ...

    @property
    def n_labels(self) -> int: ...  # classes that it tells apart


@dataclass(frozen=True)
class Variant:
    """What differs between the networks that are called U-Net; each is a row of options, not a subclass."""

    padding: int = 0  # 1: 3x3 convolutions keep the size, with zeros around
    norm: str = ""  # "batch" or "instance": normalisation after each 3x3 convolution, which then has no bias
    relu_after_up: bool = False  # ReLU after each up-convolution
    last_up_keeps_channels: bool = False  # the topmost up-convolution maps 128 to 128 channels instead of 64
    pads_upsampled: bool = False  # [skip, upsampled with zeros around] instead of [upsampled, cropped skip]
    may_be_bilinear: bool = False  # UNet(bilinear=True) replaces the up-convolutions by interpolation
    dropout_levels: int = 0  # how many of the deepest levels end in dropout (1: the bottleneck)
    tanh: bool = False  # at the end: the output is a picture


VARIANTS = {
    "paper": Variant(dropout_levels=1),
    # The Caffe network that the authors published with the paper, u-net-release.
    "release": Variant(relu_after_up=True, last_up_keeps_channels=True, dropout_levels=2),
    # The paper's, with zeros around every 3x3 convolution: what most copies of it do, and an ablation in
    # `npunet.experiments`.
    "padded": Variant(padding=1, dropout_levels=1),
    # github.com/milesial/Pytorch-UNet, and what most people mean today.
    "pytorch-unet": Variant(padding=1, norm="batch", pads_upsampled=True, may_be_bilinear=True),
    # From picture to picture, for style transfer.
    "style": Variant(padding=1, may_be_bilinear=True, tanh=True),
    # The same with instance normalisation: 0.57 to 0.65 of the loss on unseen photographs after the same time
    # (benchmarks/results/style_painter.md).
    "painter": Variant(padding=1, norm="instance", may_be_bilinear=True, tanh=True),
}


def checked_config(bilinear: bool, dropout: float, dtype: DTypeLike, **options: Any) -> dict:
    """The options of `UNet` as plain types, which can be written as JSON.

    Raises InputError for the first one that cannot be used, before anything is allocated.
    """
    _check_variant(options["variant"], bilinear)
    for name in ("in_channels", "n_classes", "base_channels", "depth"):
        options[name] = _whole_number(name, options[name], smallest=1)
    options["seed"] = _whole_number("seed", options["seed"], smallest=0)
    for name in ("input_mean", "input_std"):
        options[name] = _finite(name, options[name])
    if options["input_std"] <= 0:
        raise InputError(f"input_std is {options['input_std']:g}; expected a number above 0")
    dropout = _finite("dropout", dropout)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout:g}; expected at least 0 and below 1")
    dtype = str(getattr(dtype, "__name__", dtype))  # np.float32, the class, is as good as its name
    if dtype not in ("float32", "float64"):
        raise InputError(f"dtype {dtype} is not supported; expected float32 or float64")
    config = options | {"dropout": dropout, "dtype": dtype} | ({"bilinear": True} if bilinear else {})
    _check_memory(config)
    return config


def flag(name: str, value: bool) -> bool:
    """True or False. Raises InputError for anything else; the text "no" would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def check_images(x: Array, in_channels: int) -> None:
    """Raises InputError unless x is an array of images (N, H, W, in_channels), of real numbers."""
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    if kind is None or kind not in "fiub" or isinstance(x, np.ma.MaskedArray):
        what = f"an array of {x.dtype}" if kind else f"a {type(x).__name__}"
        what = "a masked array, whose masked pixels have no values" if isinstance(x, np.ma.MaskedArray) else what
        raise InputError(f"the input is {what}; expected an array of real numbers (N, H, W, {in_channels})")
    if x.ndim != 4 or x.shape[3] != in_channels or x.shape[0] == 0:
        raise InputError(f"the input has shape {x.shape}; expected (N, H, W, {in_channels}), N at least 1")


def _check_variant(variant, bilinear):
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise InputError(f"variant {variant!r} is not known; expected one of {', '.join(VARIANTS)}")
    if bilinear and not VARIANTS[variant].may_be_bilinear:
        able = " and ".join(repr(name) for name, row in VARIANTS.items() if row.may_be_bilinear)
        raise InputError(f"variant {variant!r} has up-convolutions; bilinear upsampling goes with variants {able}")


def _whole_number(name, value, smallest):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < smallest:
        raise InputError(f"{name} is {value!r}; expected an integer, at least {smallest}")
    return int(value)


def _finite(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not np.isfinite(value):
        raise InputError(f"{name} is {value!r}; expected a finite number")
    return float(value)


def _check_memory(config):
    """Raises InputError for a network whose weights alone do not fit into memory.

    About 30 weights belong to each pair of bottleneck channels: 9 and 9 in its two convolutions, the rest above it.
    """
    first, last, base = config["in_channels"], config["n_classes"], config["base_channels"]
    weights = 30 * (base * 2 ** min(config["depth"], 60)) ** 2 + 9 * first * base + base * last
    size, free = weights * np.dtype(config["dtype"]).itemsize, free_memory("cpu")
    if free is not None and size > free:
        raise InputError(
            f"a U-Net with {base} base channels, {config['depth']} poolings, {first} channels in and {last} out has "
            f"weights of about {size / 1e9:.3g} GB, but {free / 1e9:.1f} GB are free; give fewer base channels, a "
            "smaller depth, fewer input channels or fewer classes (the paper's: 64, 4, 1 and 2, for 0.1 GB)"
        )
