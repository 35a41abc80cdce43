"""The tile that npunet/augmentation.py makes, made on a GPU: nothing crosses the bus but 24 numbers.

The border term of Eq. 2 too: where it is asked for, the instances of the deformed tile go through weight_map.cu.
"""

import numpy as np

from npunet.gpu import cuda
from npunet.gpu.weight_map import border_weights
from npunet.machine.backend import array_module

KERNELS = cuda.CudaFile("augmentation")


def make_tile(sample, coefficients, drawn, output, settings, reach):
    """sample: a datasets.Sample on the GPU; coefficients (C, H, W) float32: the spline's of its image.

    drawn: an `augmentation.Drawn`. reach: `weight_map.border_reach`, None without the border term.
    Returns image (tile, tile, C), labels and weights (output, output) on the GPU.
    """
    xp = array_module(sample.image)
    deformation, tile = drawn.deformation, drawn.deformation.tile
    numbers = xp.asarray(
        np.concatenate([deformation.centre, deformation.linear.ravel(), deformation.displacements.ravel()])
    )  # (24,) float64
    height, width, channels = sample.image.shape
    image = xp.empty((tile, tile, channels), dtype="float32")
    KERNELS.launch(
        "warp_image",
        tile * tile,
        coefficients,
        numbers,
        _basis(xp, deformation, tile),
        image,
        tile,
        channels,
        height,
        width,
        int(bool(settings.grey)),
        drawn.gain,
        drawn.offset,
        drawn.gamma,
    )
    size = output + 2 * (reach or 0)
    region = xp.empty((size, size), dtype="int64")  # where each pixel of the output, and of a rim around it, comes from
    KERNELS.launch(
        "nearest", size * size, numbers, _basis(xp, deformation, size), region, size, height, width, dtype="float32"
    )
    middle = slice(reach or 0, (reach or 0) + output)
    position = region[middle, middle]
    labels = sample.labels.ravel()[position].astype("int64")
    if reach is None:
        weights = xp.ones((output, output), dtype="float32")
    else:
        weights = border_weights(sample.instances, region, output, reach, settings.w0, settings.sigma)
    if settings.class_weights is not None:  # w_c in the place of 1
        weights = weights + (xp.asarray(np.asarray(settings.class_weights, np.float32))[labels] - 1)
    if sample.ignore is not None:
        weights = weights * ~sample.ignore.ravel()[position]
    return image, labels, weights


_bases = {}


def _basis(xp, deformation, size):
    """deformation.basis(size) on the device; computed and copied once for each pair of sizes."""
    key = xp.__name__, deformation.tile, size
    if key not in _bases:
        _bases[key] = xp.asarray(deformation.basis(size))
    return _bases[key]
