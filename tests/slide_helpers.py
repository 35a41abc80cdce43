"""A small network and small slides for tests/test_slides.py and test_slides_mpi.py."""

import contextlib
import io

import numpy as np
import tifffile
from scipy import ndimage

from npunet import UNet, predict, tiling
from npunet.files.calibration import Calibration
from npunet.files.chunked import ChunkedPixels
from npunet.files.ome_zarr_writing import ZarrPyramid
from npunet.machine import ranks

TILE = 76  # blocks of 48 for depth 1


def picture(height=150, width=190, channels=1, pages=1, seed=0):
    """Smooth blobs, (pages, H, W, C) uint8."""
    noise = np.random.default_rng(seed).standard_normal((pages, height, width, channels))
    blobs = ndimage.gaussian_filter(noise, (0, 3, 3, 0))
    return (128 + 40 * blobs / blobs.std()).clip(0, 255).astype(np.uint8)


def network(path, channels=1, n_classes=2, variant="paper", seeded=True):
    """A network whose probabilities are far from 1/2 nearly everywhere, so that few pixels are asked twice."""
    net = UNet(channels, n_classes, base_channels=2, depth=1, variant=variant, seed=5)
    logits = np.log(tiling.predict(net, picture(100, 100, channels)[0].astype(np.float32) / 255, 316))
    steeper = 12 / (logits - logits.mean(axis=2, keepdims=True)).std(axis=(0, 1)).mean()
    net.output.weight.value *= steeper
    net.output.bias.value = steeper * (net.output.bias.value - logits.mean(axis=(0, 1)))
    if seeded:
        net.cutting = {"threshold": 0.4, "seed_threshold": 0.9, "min_size": 6}
    net.save(path)
    return UNet.load(path)


def write_zarr(path, pixels, version="0.5", calibration=Calibration(x=0.5, y=0.5), chunk=50):
    """pixels (pages, H, W, C) as OME-Zarr whose chunks fit no block."""
    shape = pixels.shape if pixels.shape[3] > 1 else pixels.shape[:3]
    slide = ZarrPyramid.create(path, shape, pixels.dtype, chunk, calibration, version)
    for page in range(len(pixels)):
        values = pixels[page] if pixels.shape[3] > 1 else pixels[page, ..., 0]
        slide.write(0, page, slice(0, shape[1]), slice(0, shape[2]), values)
    return path


def write_tiff(path, pixels, **options):
    """pixels (pages, H, W, C) as a TIFF in tiles, compressed."""
    colour = pixels.shape[3] == 3
    stored = pixels if colour else pixels[..., 0]
    stored = stored[0] if len(stored) == 1 else stored
    how = {"tile": (48, 64), "compression": "zlib", "photometric": "rgb" if colour else "minisblack"}
    tifffile.imwrite(path, stored, **how | options)
    return path


def run(model, slide, output, *options):
    """npunet.predict on one slide; what it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        words = ["--model", model, "--input", slide, "--output", output, "--tile", TILE, *options]
        predict.main(list(map(str, words)))
    return said.getvalue()


def run_as_rank(group, *arguments):
    """What one rank of a ring does."""
    ranks.use(group)
    run(*arguments)
    return True


class InMemory(ChunkedPixels):
    """Chunks of an array in memory."""

    def __init__(self, pixels, chunk):
        super().__init__(pixels.shape, pixels.dtype, chunk)
        self.pixels = pixels

    def read(self, page, rows, columns):
        return self.pixels[page, rows, columns]


class Changed:
    """A module, some of whose names are others."""

    def __init__(self, module, **names):
        self.__dict__.update(vars(module) | names)
