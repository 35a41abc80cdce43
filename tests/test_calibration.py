"""Pixel sizes and axes: from what tifffile writes in three ways to what it reads back."""

import numpy as np
import pytest
import tifffile

from npunet.files.calibration import Calibration, read_calibration, tiff_options

PAGE = np.arange(20, dtype=np.uint8).reshape(4, 5)


def test_ome(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    metadata |= {"PhysicalSizeZ": 1.5, "TimeIncrement": 2, "TimeIncrementUnit": "min"}
    tifffile.imwrite(path, np.stack([PAGE] * 6).reshape(2, 3, 4, 5), ome=True, metadata=metadata)
    found = read_calibration(path)
    assert found == Calibration(0.25, 0.25, 1.5, 120.0, "TZ", (2, 3)) and found.pixel_size == 0.25


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej(tmp_path, unit):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.0, "finterval": 0.5}
    tifffile.imwrite(path, np.stack([PAGE] * 3), imagej=True, resolution=(5, 4), metadata=metadata)
    found = read_calibration(path)
    assert (found.x, found.y, found.z, found.seconds) == pytest.approx((0.2, 0.25, 2, 0.5))
    assert (found.axes, found.counts) == ("Z", (3,))
    assert found.pixel_size is None  # not square


def test_plain_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "cm.tif", PAGE, resolution=(40000, 40000), resolutionunit=3)
    assert read_calibration(tmp_path / "cm.tif").pixel_size == pytest.approx(0.25)
    tifffile.imwrite(tmp_path / "paper.tif", PAGE, resolution=(300, 300), resolutionunit=2)
    assert read_calibration(tmp_path / "paper.tif") == Calibration()


def test_nothing_is_known_of_other_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.tif").write_bytes(b"no TIFF")
    tifffile.imwrite(tmp_path / "b.tif", PAGE, metadata=None)
    for name in ("a.png", "a.tif", "b.tif", "none.tif"):
        assert read_calibration(tmp_path / name) == Calibration()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "uint32"])
@pytest.mark.parametrize("more", [1, 3])
def test_what_is_written_is_read_again(tmp_path, dtype, more):
    calibration = Calibration(0.2, 0.25, 2.0, 0.5, "TZ", (2, 3))
    pages = np.arange(6 * more * 20).reshape(6 * more, 4, 5).astype(dtype)
    options = tiff_options(calibration, pages.shape, dtype, more)
    tifffile.imwrite(tmp_path / "a.tif", pages.reshape(options.pop("shape")), **options)
    found = read_calibration(tmp_path / "a.tif")
    assert (found.x, found.y) == pytest.approx((0.2, 0.25), rel=1e-6)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(pages.shape), pages)
    if dtype != "uint32":
        assert (found.z, found.seconds, found.axes, found.counts) == (2, 0.5, "TZ", (2, 3))


def test_a_stack_of_unknown_axes_stays_a_plain_stack(tmp_path):
    options = tiff_options(Calibration(), (3, 4, 5), "uint8")
    assert options["metadata"] is None and "imagej" not in options and options["shape"] == (3, 4, 5)
    assert tiff_options(Calibration(0.5, 0.5), (1, 4, 5), "uint8")["shape"] == (4, 5)
    assert tiff_options(Calibration(0.5, 0.5, axes="ZT", counts=(2, 3)), (6, 4, 5), "uint8")["metadata"] == {
        "unit": "um"
    }


def test_pixels_of_other_files_are_read_as_they_are(tmp_path):
    """What is written in ImageJ's form through a memory map is little- or big-endian, as tifffile likes it."""
    options = tiff_options(Calibration(0.2, 0.2), (2, 4, 5), "uint16")
    mapped = tifffile.memmap(tmp_path / "a.tif", dtype="uint16", **options)
    mapped[:] = PAGE + np.uint16(300)
    mapped.flush()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), np.stack([PAGE + np.uint16(300)] * 2))
