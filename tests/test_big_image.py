"""Prediction of an image from a memory-mapped TIFF:
its memory is that of a tile, not of the image (§2, "arbitrarily large images").
"""

from pathlib import Path

import pytest

from benchmarks.big_image import make_image, measure
from npunet.files import images


def test_own_memory_does_not_grow_with_the_image(tmp_path):
    """From 1 to 36 megapixels: one byte a pixel more of mask would be 35 MB, the image as floats 140 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("a process's own memory is read from /proc, which only Linux has")
    found = {}
    for side in (1000, 6000):
        folder = tmp_path / str(side)
        folder.mkdir()
        found[side] = measure(side, 1, 1, 516, folder, largest_png=0)
        assert (folder / "found" / "big.tif").stat().st_size > side**2
    assert found[6000]["anonymous"] - found[1000]["anonymous"] < 15e6


def test_the_picture_is_a_memory_mappable_tiff(tmp_path):
    make_image(tmp_path / "big.tif", 700)
    stack = images.open_image(tmp_path / "big.tif")
    assert stack.shape == (1, 700, 700, 1)
    window = stack.window(0, 520, 20, 100, 100)
    assert (window == stack.window(0, 20, 20, 100, 100)).all() and window.std() > 0.02
