"""npunet: the U-Net paper (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) in NumPy and CuPy, written by hand."""

from npunet import (
    augmentation,
    datasets,
    geometry,
    gradient_check,
    initialization,
    loss,
    metrics,
    ops,
    optimizers,
    style,
    tiling,
    training,
    weight_map,
)
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.unet import UNet

__all__ = [
    "InputError",
    "UNet",
    "augmentation",
    "checkpoint",
    "datasets",
    "geometry",
    "gradient_check",
    "initialization",
    "loss",
    "metrics",
    "ops",
    "optimizers",
    "style",
    "tiling",
    "training",
    "weight_map",
]
__version__ = "0.1.0"
