"""What npunet computes for the interactive pictures, as JavaScript: `NPUNET.numbers.NAME = {...}`.

The pictures compute with these numbers, and tests/test_site.py compares what they compute with npunet. A page opened
from a disk may load scripts, but it may not fetch files; so the numbers are scripts.
"""

import base64
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from npunet import UNet, augmentation, datasets, geometry, loss, metrics, ops, weight_map

ROOT = Path(__file__).resolve().parents[2]
SWEPT = ("v_rand", "v_info", "rand_error", "warping_error", "pixel_error")
TRAINED = ROOT / "lessons" / "networks" / "sections.npz"


def text_of(array: np.ndarray) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def bytes_of(image: np.ndarray) -> dict:
    """An image (H, W) of 0..1 as 8-bit grey values."""
    grey = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return {"height": image.shape[0], "width": image.shape[1], "grey": text_of(grey)}


def convolution() -> dict:
    """x (6, 6), weight (3, 3), y (4, 4), a gradient dy (4, 4) that came from above, and dx and dweight."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 5, (1, 6, 6, 1)).astype(float)
    weight = rng.integers(-1, 3, (3, 3, 1, 1)).astype(float)
    y, ctx = ops.conv2d(x, weight, algorithm="naive")
    dy = rng.integers(-2, 3, y.shape).astype(float)
    dx, dweight, _ = ops.conv2d_backward(dy, ctx)
    named = {"x": x[0, :, :, 0], "weight": weight[:, :, 0, 0], "y": y[0, :, :, 0]}
    named |= {"dy": dy[0, :, :, 0], "dx": dx[0, :, :, 0], "dweight": dweight[:, :, 0, 0]}
    return {name: array.tolist() for name, array in named.items()}


def fig1() -> dict:
    """Valid tiles with their output sizes, and what npunet says of the receptive field, to compare with."""
    tiles = [int(size) for size in geometry.valid_input_sizes(1100)]
    return {
        "outputs": {tile: int(geometry.output_size(tile)) for tile in tiles},
        "receptive_field": [int(side) for side in geometry.receptive_field()],
        "parameters": int(UNet().n_parameters),
    }


def discs(gap: int, height: int = 72, width: int = 108) -> np.ndarray:
    """Three cells, ``gap`` background pixels between the first two: instances (H, W)."""
    row, column = np.mgrid[:height, :width]
    left, right = 26, 26 + 2 * 16 + gap
    cells = np.zeros((height, width), np.int32)
    for number, (y, x, radius) in enumerate(((30, left, 16), (30, right, 15.5), (60, left + 20, 9)), start=1):
        cells[(cells == 0) & ((row - y) ** 2 + (column - x) ** 2 <= radius**2)] = number
    return cells


def weightmap() -> dict:
    """Eq. 2 for a few settings of the sliders, at every ninth pixel: what the page's own Eq. 2 is compared with."""
    checks = []
    for w0, sigma, gap in ((10, 5, 3), (10, 5, 8), (4, 2.5, 2), (20, 10, 6)):
        values = weight_map.weight_map(discs(gap), w0, sigma)[::9, ::9]
        checks.append({"w0": w0, "sigma": sigma, "gap": gap, "values": np.round(values, 5).tolist()})
    return {"checks": checks}


def deformation() -> dict:
    """A section with a grid drawn on it, and the bicubic basis: field = basis @ vectors (3 x 3) @ basis^T."""
    tile, size = 128, 128
    basis = augmentation.grid_basis(tile, size)  # (size, 3)
    vectors = np.random.default_rng(4).normal(0, 10, (2, 3, 3))
    field = augmentation.displacement_field(vectors, tile, size)
    image = datasets.synthetic(n_sections=1, size=tile, seed=5).samples[0].image[..., 0]
    return {
        "image": bytes_of(image),
        "basis": np.round(basis, 6).tolist(),
        "check": {"vectors": vectors.tolist(), "field": np.round(field[:, ::16, ::16], 4).tolist()},
    }


def section(size: int = 188, seed: int = 11):
    return datasets.synthetic(n_sections=1, size=size, seed=seed).samples[0]


def float16_weights(net: UNet) -> dict:
    """Every parameter as float16 in base64, with its shape."""
    return {
        name: {"shape": list(parameter.value.shape), "data": text_of(parameter.value.astype(np.float16))}
        for name, parameter in net.parameters.items()
    }


def trained() -> UNet:
    """The lessons' trained network, with its weights rounded as the page has them."""
    net = UNet.load(TRAINED)
    for parameter in net.parameters.values():
        parameter.value[...] = parameter.value.astype(np.float16)
    return net


def interior(net: UNet, image: np.ndarray) -> np.ndarray:
    """Probability of "interior" (h, w) of the tile ``image`` (H, W)."""
    return loss.softmax(net.forward(image[None, ..., None].astype(np.float32)))[0, ..., 1]


def skips() -> dict:
    """A small trained U-Net, a section to draw on, and what npunet predicts for it, skips whole and cut."""
    net, sample = trained(), section()
    image = np.rint(sample.image[..., 0] * 255) / 255
    probability = interior(net, image)
    return {
        "depth": net.depth,
        "base": net.config["base_channels"],
        "mean": float(net.input_mean),
        "std": float(net.input_std),
        "image": bytes_of(image),
        "weights": float16_weights(net),
        "check": np.round(probability[::8, ::8].astype(float), 4).tolist(),
    }


def threshold() -> dict:
    """A prediction, its truth, and all seven measures at 0, 0.05 .. 1."""
    net, sample = trained(), section(284, 12)
    probability = np.rint(interior(net, sample.image[..., 0]).astype(float) * 255) / 255
    border = (284 - probability.shape[0]) // 2
    inside = slice(border, 284 - border)
    cells = sample.instances[inside, inside]
    truth, checks = cells > 0, []
    rows = []
    for cut in np.arange(21) / 20:
        mask = (probability > cut)[None]
        row = {name.replace("_", " "): getattr(metrics, name)(mask.astype(float), cells[None])[0] for name in SWEPT}
        row |= {"IoU": metrics.iou(mask, truth[None]), "Dice": metrics.dice(mask, truth[None])}
        errors = metrics.count_errors(ndimage.label(mask[0])[0], cells)
        counts = [errors[name] for name in ("true", "found", "merged", "split", "missed", "invented")]
        rows.append({name: round(float(value), 4) for name, value in row.items()} | {"threshold": round(float(cut), 2)})
        checks.append(counts)
    return {
        "probability": bytes_of(probability),
        "cells": text_of(cells.astype(np.uint8)),
        "rows": rows,
        "check": checks,
    }


def write_all(folder: Path) -> None:
    """folder/NAME.js for each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in (convolution, fig1, weightmap, deformation, skips, threshold):
        numbers = json.dumps(make(), separators=(",", ":"))
        start = "window.NPUNET = window.NPUNET || {numbers: {}, pictures: {}};"
        (folder / f"{make.__name__}.js").write_text(f"{start}\nNPUNET.numbers.{make.__name__} = {numbers};\n")
