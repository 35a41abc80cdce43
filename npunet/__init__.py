"""npunet: the U-Net paper (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) in NumPy and CuPy, written by hand.

    npunet.UNet                         the network (§2)
    npunet.plain                        the same network on one page: start reading there
    npunet.ops, npunet.loss, ...        every other module, loaded when it is first asked for

A module is loaded only when somebody uses it, so `import npunet.ops` needs no more than NumPy, SciPy and threadpoolctl.
"""

import importlib
import importlib.util

from npunet.machine.kernels import load_numpy

load_numpy()  # before anybody else does: see there

ELSEWHERE = {  # names that are not modules of the top level, and where they are
    "UNet": "npunet.unet",
    "InputError": "npunet.errors",
    "checkpoint": "npunet.files",
    "images": "npunet.files",
    "read_image": "npunet.files.images",
    "write_labels": "npunet.files.images",
}
__all__ = [
    "InputError",
    "UNet",
    "augmentation",
    "checkpoint",
    "datasets",
    "geometry",
    "gradient_check",
    "images",
    "initialization",
    "instances",
    "loss",
    "metrics",
    "ops",
    "optimizers",
    "plain",
    "read_image",
    "style",
    "tiling",
    "training",
    "weight_map",
    "write_labels",
]
__version__ = "0.1.0"


def __getattr__(name):
    """`npunet.NAME`, for a name that has not been used yet (PEP 562)."""
    if name in ELSEWHERE:
        home = importlib.import_module(ELSEWHERE[name])
        return getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{ELSEWHERE[name]}.{name}")
    if not name.startswith("_") and importlib.util.find_spec(f"npunet.{name}"):
        return importlib.import_module(f"npunet.{name}")
    raise AttributeError(f"module 'npunet' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
