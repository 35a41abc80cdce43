"""The tile that npunet/augmentation.py makes, made on a GPU: nothing crosses the bus but 24 numbers.

For samples without the border term of Eq. 2 (w0 = 0: masks of membranes or classes). The border term needs a distance
transform for every cell, which the host's threads do while the GPU trains; such samples stay on the host.
"""

import numpy as np

from npunet.gpu import cuda
from npunet.machine.backend import array_module

KERNELS = cuda.CudaFile("augmentation")


def make_tile(sample, coefficients, drawn, output, settings):
    """sample: a datasets.Sample on the GPU; coefficients (C, H, W) float32: the spline's of its image.

    drawn: an `augmentation.Drawn`. Returns image (tile, tile, C), labels and weights (output, output) on the GPU.
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
    position, basis = xp.empty((output, output), dtype="int64"), _basis(xp, deformation, output)
    KERNELS.launch("nearest", output * output, numbers, basis, position, output, height, width, dtype="float32")
    labels = sample.labels.ravel()[position].astype("int64")
    weights = xp.ones((output, output), dtype="float32")
    if settings.class_weights is not None:
        weights = xp.asarray(np.asarray(settings.class_weights, np.float32))[labels]
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
