"""npunet: the U-Net paper (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) in NumPy and CuPy, written by hand."""

from npunet.errors import InputError
from npunet.unet import UNet

__all__ = ["InputError", "UNet"]
__version__ = "0.1.0"
