"""Feature maps in 16 bits: half the bytes for memory to move, which is what most layers wait for.

With --precision bf16 feature maps and their gradients lie in memory as bfloat16, the upper half of a float32: 8 bits of
exponent as before, 7 of mantissa instead of 23. Kernels read them as float32, compute in float32, and round what they
write, to nearest. Weights, their gradients, all sums, statistics and the loss stay float32, and so do the image and the
logits.

NumPy and CuPy know no such type. So a map is an array of uint16 that holds the bits: it can be cut, copied and joined,
and only kernels compute with it. In the .cu files its type is MAP (common.cuh).
"""

import numpy as np

from npunet.errors import InputError
from npunet.gpu import cublas, cuda
from npunet.machine.backend import Array, array_module

KERNELS = cuda.CudaFile("sixteen_bits")
MOST = 7  # channels of the image, and classes: see few_channels.py
SIDE = 32  # of the piece of a matrix that a block turns
CHANNELS = 32  # maps have multiples of these: the tensor cores take so many at a time


def map_dtype(dtype, channels: int):
    """What the first feature map of a network, with so many channels, is stored in: uint16 with --precision bf16, else
    the dtype of the image. Raises InputError if no kernel could go on from there.
    """
    if cublas.precision() != "bf16" or dtype != "float32":
        return np.dtype(dtype)
    if channels % CHANNELS:
        raise InputError(
            f"--precision bf16: found a feature map of {channels} channels; expected a multiple of {CHANNELS}; give "
            "--precision tf32"
        )
    return cuda.MAP_16


def in_use(dtype, device: str) -> bool:
    """Whether a network of this dtype on this device, "cpu" or "gpu", has feature maps in 16 bits."""
    return device == "gpu" and cublas.precision() == "bf16" and dtype == "float32"


def check_network(net) -> None:
    """Raises InputError, before anything is computed, if --precision bf16 is asked of a UNet that has layers without
    kernels for feature maps in 16 bits.
    """
    if cublas.precision() != "bf16" or net.device == "cpu":
        return
    options, base = net.options, net.config["base_channels"]
    found = {
        f"{options.norm} normalisation": bool(options.norm),
        "bilinear upsampling": net.bilinear,
        "ReLU after up-convolutions": options.relu_after_up,
        "a hyperbolic tangent": options.tanh,
        f"{base} base channels, no multiple of {CHANNELS},": base % CHANNELS != 0,
        f"{net.in_channels} channels of the image": net.in_channels > MOST,
        f"{net.n_classes} classes": net.n_classes > MOST,
        "float64": net.dtype != "float32",
    }
    for what in (what for what, true in found.items() if true):
        raise InputError(f"--precision bf16 cannot be used with {what} in this network; give --precision tf32")


def rounded(x: Array) -> Array:
    """x of float32 as a map of the same shape."""
    xp = array_module(x)
    y = xp.empty(x.shape, dtype=cuda.MAP_16)
    KERNELS.launch("rounded", x.size, xp.ascontiguousarray(x), y, x.size, dtype=cuda.MAP_16)
    return y


def as_floats(x: Array) -> Array:
    """A map as float32; any other array as it is."""
    if not cuda.is_map(x):
        return x
    xp = array_module(x)
    y = xp.empty(x.shape, dtype="float32")
    KERNELS.launch("as_floats", x.size, xp.ascontiguousarray(x), y, x.size)
    return y


def turned(weight: Array) -> Array:
    """weight (kh, kw, C, K) of float32, rounded, each tap turned: (kh, kw, K, C)."""
    xp = array_module(weight)
    kh, kw, c, k = weight.shape
    y = xp.empty((kh, kw, k, c), dtype=cuda.MAP_16)
    grid = (-(-c // SIDE), -(-k // SIDE), kh * kw)
    KERNELS.launch("turned", 0, xp.ascontiguousarray(weight), y, c, k, dtype=cuda.MAP_16, grid=grid)
    return y
