"""`augmentation.draw_tile` for sections that are on a GPU:
the same random numbers, the same tile, nothing crosses the bus but 24 numbers.

For samples without the border term of Eq. 2 (w0 = 0: masks of membranes or classes). The border term needs a distance
transform for every cell, which the host's threads do while the GPU trains; such samples stay on the host.
"""

import dataclasses
import math

import numpy as np

from npunet import augmentation
from npunet.gpu import cuda
from npunet.machine.backend import array_module, to_device
from npunet.weight_map import border_reach

KERNELS = cuda.CudaFile("augmentation")


def can_draw(settings):
    """True if `draw_tile` has all that these settings ask for."""
    return border_reach(settings.w0, settings.sigma) is None


def moved(sample, device="gpu"):
    """The sample with its arrays on ``device``; the spline coefficients of its image go along."""
    coefficients = augmentation.spline_coefficients(sample.image)
    there = dataclasses.replace(
        sample,
        **{
            field.name: to_device(getattr(sample, field.name), device)
            for field in dataclasses.fields(sample)
            if isinstance(getattr(sample, field.name), np.ndarray)
        },
    )
    augmentation.keep_coefficients(there.image, to_device(np.ascontiguousarray(coefficients), device))
    return there


def draw_tile(sample, tile, output, rng, settings):
    """As `augmentation.draw_tile`, which calls it:
    image (tile, tile, C), labels and weights (output, output), all on the GPU.
    """
    xp = array_module(sample.image)
    deformation = augmentation.draw_deformation(sample.labels.shape, tile, rng, settings)
    gain, offset, gamma = (rng.standard_normal(3) * settings.grey).tolist()
    numbers = xp.asarray(
        np.concatenate([deformation.centre, deformation.linear.ravel(), deformation.displacements.ravel()])
    )  # (24,) float64
    height, width, channels = sample.image.shape
    image = xp.empty((tile, tile, channels), dtype="float32")
    KERNELS.launch(
        "warp_image",
        tile * tile,
        augmentation.spline_coefficients(sample.image),
        numbers,
        _basis(xp, tile, tile),
        image,
        tile,
        channels,
        height,
        width,
        int(bool(settings.grey)),
        math.exp(gain),
        offset,
        math.exp(gamma),
    )
    position = xp.empty((output, output), dtype="int64")
    KERNELS.launch(
        "nearest", output * output, numbers, _basis(xp, tile, output), position, output, height, width, dtype="float32"
    )
    labels = sample.labels.ravel()[position].astype("int64")
    weights = xp.ones((output, output), dtype="float32")
    if settings.class_weights is not None:
        weights = xp.asarray(np.asarray(settings.class_weights, np.float32))[labels]
    if sample.ignore is not None:
        weights = weights * ~sample.ignore.ravel()[position]
    return image, labels, weights


_bases = {}


def _basis(xp, tile, size):
    """augmentation.grid_basis on the device, (size, 3) float64; computed once for each pair of sizes."""
    key = xp.__name__, tile, size
    if key not in _bases:
        _bases[key] = xp.asarray(augmentation.grid_basis(tile, size))
    return _bases[key]
