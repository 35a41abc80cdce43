"""Files that are cut short, lie about their size, or are no files: one line, at once."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile

from npunet import InputError, UNet, datasets
from npunet.files import checkpoint, images, schema


def png(path, width, height, rows):
    """An 8-bit grey PNG that declares `height` rows and holds `rows`."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((width + 1) * rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_pngs_without_all_their_rows_or_with_too_many_declared(tmp_path):
    assert images.read_image(png(tmp_path / "whole.png", 100, 64, 64))[0].shape == (64, 100, 1)
    with pytest.raises(InputError, match=r"holds 4,040 of 6,464 bytes of pixels; rows are missing"):
        images.read_image(png(tmp_path / "rows.png", 100, 64, 40))
    began = time.perf_counter()
    with pytest.raises(InputError, match=r"declares 3,600,060,000 bytes of pixels in a file of"):
        images.read_image(png(tmp_path / "bomb.png", 60000, 60000, 1))
    assert time.perf_counter() - began < 5


def test_tiffs_with_missing_tiles_or_complex_numbers(tmp_path):
    pixels = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    tifffile.imwrite(tmp_path / "tiled.tif", pixels, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "tiled.tif", mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        tiff.pages[0].tags["TileByteCounts"].overwrite([*counts[:16], *[0] * 8])
    with pytest.raises(InputError, match="8 of 24 tiles or strips are missing"):
        images.read_image(tmp_path / "tiled.tif")
    tifffile.imwrite(tmp_path / "complex.tif", pixels.astype(np.complex64))
    with pytest.raises(InputError, match="complex numbers"):
        images.read_image(tmp_path / "complex.tif")


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("page", [0, 1])
def test_a_tiff_with_more_tags_than_bytes_is_refused_at_once(tmp_path, big, page):
    """tifffile would complain of each of 65,000 tags."""
    path = tmp_path / "tags.tif"
    tifffile.imwrite(path, np.zeros((2, 16, 16), np.uint16), bigtiff=big, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[page].offset
    content = bytearray(path.read_bytes())
    assert images.read_image(path)
    content[at : at + 2] = (0xFFF0).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="declares 65,520 tags, which the .* bytes of the file cannot hold"):
        images.read_image(path)


def test_a_tiff_whose_pages_go_in_a_circle_is_refused(tmp_path):
    """tifffile follows a circle of two without end: tests/torture.py found one that took more than ten seconds."""
    path = tmp_path / "circle.tif"
    tifffile.imwrite(path, np.zeros((2, 16, 16), np.uint16), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[1].offset
    content = bytearray(path.read_bytes())
    end = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    content[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="comes again; the file is damaged"):
        images.read_image(path)


def test_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="no regular file"):
        UNet.load(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match="no regular file"):
        images.read_image(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe.png: is neither a folder nor a file; expected a folder"):
        datasets.load(tmp_path / "pipe.png")


def test_checkpoints_that_lie(tmp_path):
    net = UNet(base_channels=2, depth=1)
    entries, path = checkpoint.network_entries(net), tmp_path / "net.npz"
    for change, words in (
        ({"parameter/output.bias": np.array([np.nan, 0], np.float32)}, "output.bias holds values that are not finite"),
        ({"header": {"network": net.config | {"base_channels": 3000}}}, "describes a network of at least"),
        ({"header": {"network": net.config, "mask_values": ["a", 1]}}, "mask_values are"),
        ({"parameter/output.bias": np.array(["a", "b"])}, "no array of numbers"),
    ):
        checkpoint.save(path, entries | change)
        with pytest.raises(InputError, match=words) as error:
            UNet.load(path)
        assert "\n" not in str(error.value)


def test_shapes_of_json():
    shape = {"step": schema.STEP, "names?": [str], "rate?": (schema.Number(0, 1), None)}
    for value in ({"step": 3}, {"step": 0, "names": ["a"], "rate": None, "more": 1}):
        assert schema.problem(value, shape) is None
    for value, words in (
        ([1], "expected an object"),
        ({}, "has no 'step'"),
        ({"step": True}, "step is true"),
        ({"step": 1.5}, "a whole number"),
        ({"step": 1, "names": ["a", 2]}, "names[1] is 2"),
        ({"step": 1, "rate": float("nan")}, "rate is NaN"),
    ):
        assert words in schema.problem(value, shape)
