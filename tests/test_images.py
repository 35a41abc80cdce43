"""Pictures in and out:
each format against values known from how the file was made, each bad file against its one line.
"""

import math

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet.commands.tiff_on_disk import tiff_on_disk
from npunet.errors import InputError
from npunet.files import images, stored_pixels


@pytest.fixture
def grey8(rng):
    return rng.integers(0, 256, (30, 40), dtype=np.uint8)


@pytest.fixture
def colour8(rng):
    return rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# The scaling rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_eight_bits_are_divided_by_255(tmp_path, grey8, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(grey8).save(path)
    (page,) = images.read_image(path)
    assert page.shape == (30, 40, 1) and page.dtype == np.float32
    np.testing.assert_allclose(page[..., 0], grey8 / 255, atol=1e-7)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_run_from_percentile_to_percentile(tmp_path, rng, suffix):
    stored = rng.integers(500, 900, (100, 120)).astype(np.uint16)  # a camera that fills a hundredth of its range
    stored[3, 4], stored[50, 60] = 65535, 0  # a hot and a dead pixel
    Image.fromarray(stored).save(tmp_path / f"a{suffix}")
    (page,) = images.read_image(tmp_path / f"a{suffix}")
    ordered = np.sort(stored.ravel()).astype(float)  # NumPy's linear percentile by hand
    low, high = (np.interp(share * (ordered.size - 1), range(ordered.size), ordered) for share in (0.001, 0.999))
    np.testing.assert_allclose(page[..., 0], np.clip((stored - low) / (high - low), 0, 1), atol=1e-6)
    assert page.min() == 0 and page.max() == 1 and 0.45 < page.mean() < 0.55


def test_float_images_and_stacks_share_one_range(tmp_path, rng):
    stack = rng.normal(3, 2, (4, 50, 60)).astype(np.float32)
    stack[2] -= 1  # a darker section must stay darker
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    pages = np.stack(images.read_image(tmp_path / "a.tif"))[..., 0]
    low, high = np.percentile(stack.astype(float), [0.1, 99.9])
    np.testing.assert_allclose(pages, np.clip((stack - low) / (high - low), 0, 1), atol=1e-6)
    assert pages[2].mean() < pages[0].mean() - 0.05


def test_a_few_bright_spots_and_a_constant_picture(tmp_path):
    spots = np.zeros((100, 100), np.uint16)
    spots[5, 5], spots[6, 6] = 1000, 500  # 0.02 per cent: both percentiles are 0
    tifffile.imwrite(tmp_path / "spots.tif", spots)
    tifffile.imwrite(tmp_path / "flat.tif", np.full((9, 9), 700, np.uint16))
    (page,) = images.read_image(tmp_path / "spots.tif")
    assert page[5, 5, 0] == 1 and page[6, 6, 0] == 0.5 and page[0, 0, 0] == 0
    np.testing.assert_array_equal(images.read_image(tmp_path / "flat.tif")[0], 0)


def test_range_of_a_big_picture_comes_from_a_grid_of_its_pixels(tmp_path, rng, monkeypatch):
    stored = rng.integers(0, 5000, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored)
    monkeypatch.setattr(images, "MAX_SAMPLED", 32 * 32)
    stack = images.open_image(tmp_path / "a.tif")
    assert [stack.low, stack.high] == pytest.approx(list(np.percentile(stored[::2, ::2], [0.1, 99.9])))


# Formats -------------------------------------------------------------------------------------------------------------


def test_colour_alpha_and_palette(tmp_path, grey8, colour8):
    alpha = np.full((30, 40, 1), 9, np.uint8)
    Image.fromarray(colour8).save(tmp_path / "rgb.png")
    Image.fromarray(np.concatenate([colour8, alpha], axis=2)).save(tmp_path / "rgba.png")
    Image.fromarray(np.stack([grey8, alpha[..., 0]], axis=2), "LA").save(tmp_path / "la.png")
    tifffile.imwrite(
        tmp_path / "rgba.tif", np.concatenate([colour8, alpha], axis=2), photometric="rgb", extrasamples=["unassalpha"]
    )
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(colour8, 2, 0), photometric="rgb", planarconfig="separate")
    for name in ("rgb.png", "rgba.png", "rgba.tif", "planar.tif"):
        (page,) = images.read_image(tmp_path / name)
        np.testing.assert_allclose(page, colour8 / 255, atol=1e-7)
    np.testing.assert_allclose(images.read_image(tmp_path / "la.png")[0][..., 0], grey8 / 255, atol=1e-7)

    palette = Image.fromarray((grey8 % 3).astype(np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    palette.save(tmp_path / "colours.png")
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]])
    np.testing.assert_allclose(images.read_image(tmp_path / "colours.png")[0], colours[grey8 % 3] / 255, atol=1e-7)
    palette.putpalette([10, 10, 10, 200, 200, 200, 255, 255, 255])
    palette.save(tmp_path / "greys.png")
    np.testing.assert_allclose(
        images.read_image(tmp_path / "greys.png")[0][..., 0], np.array([10, 200, 255])[grey8 % 3] / 255, atol=1e-7
    )


def test_jpeg_is_close(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(images.read_image(tmp_path / "a.jpg")[0][..., 0], smooth / 255, atol=0.02)


@pytest.mark.parametrize(
    "writer", ["plain", "zlib", "imagej", "bigtiff", "big-endian", "tiled", "pillow-lzw", "pillow-pages"]
)
def test_multi_page_tiff_of_every_make(tmp_path, rng, writer):
    stack = rng.integers(0, 256, (6, 48, 32), dtype=np.uint8)
    path, grey = tmp_path / "a.tif", {"photometric": "minisblack"}
    if writer.startswith("pillow"):
        first, *more = (Image.fromarray(page) for page in stack)
        first.save(path, save_all=True, append_images=more, compression="tiff_lzw" if writer.endswith("lzw") else None)
    else:
        options = {
            "plain": {},
            "zlib": {"compression": "zlib"},
            "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
            "bigtiff": {"bigtiff": True},
            "big-endian": {"byteorder": ">"},
            "tiled": {"tile": (16, 16), "compression": "zlib"},
        }
        tifffile.imwrite(path, stack, **grey, **options[writer])
    pages = images.read_image(path)
    assert len(pages) == 6 and pages[0].shape == (48, 32, 1)
    np.testing.assert_allclose(np.stack(pages)[..., 0], stack / 255, atol=1e-7)
    np.testing.assert_array_equal(np.stack(images.read_labels(path)), stack)


def test_channels_of_a_microscope(tmp_path, rng):
    stored = rng.integers(0, 4096, (3, 2, 20, 30)).astype(np.uint16)  # 3 planes, 2 channels
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata={"axes": "ZCYX"})
    stack = images.open_image(tmp_path / "a.tif")
    assert stack.shape == (3, 20, 30, 2)
    unscaled = np.stack(list(stack)) * (stack.high - stack.low) + stack.low
    np.testing.assert_allclose(unscaled, np.clip(stored.transpose(0, 2, 3, 1), stack.low, stack.high), atol=1e-2)


def test_white_is_zero_and_one_bit(tmp_path, grey8):
    tifffile.imwrite(tmp_path / "inverted.tif", grey8, photometric="miniswhite")
    np.testing.assert_allclose(images.read_image(tmp_path / "inverted.tif")[0][..., 0], 1 - grey8 / 255, atol=1e-6)
    np.testing.assert_array_equal(images.read_labels(tmp_path / "inverted.tif")[0], grey8)  # ImageJ's inverted masks
    for name, options in (("bit.tif", {"compression": "group4"}), ("bit.png", {})):
        Image.fromarray(grey8 > 99).save(tmp_path / name, **options)
        np.testing.assert_array_equal(images.read_image(tmp_path / name)[0][..., 0], grey8 > 99)


def test_pages_are_read_only_when_asked_for(tmp_path, rng):
    stack = rng.integers(0, 256, (5, 40, 50), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    lazy = images.open_image(tmp_path / "a.tif")
    assert isinstance(lazy.pixels, np.memmap) or isinstance(lazy.pixels.base, np.memmap)
    assert len(lazy) == 5 and lazy.shape == (5, 40, 50, 1)
    np.testing.assert_allclose(lazy.window(3, 7, 9, 10, 20)[..., 0], stack[3, 7:17, 9:29] / 255, atol=1e-7)
    np.testing.assert_array_equal(lazy[4], images.read_image(tmp_path / "a.tif")[4])


def test_big_compressed_tiff_is_unpacked_to_disk(tmp_path, rng, monkeypatch):
    stack = rng.integers(0, 256, (3, 40, 50), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression="zlib")
    monkeypatch.setattr(stored_pixels, "MAX_IN_MEMORY", 100)
    lazy = images.open_image(tmp_path / "a.tif")
    assert isinstance(lazy.pixels.base, np.memmap)
    np.testing.assert_allclose(lazy[2][..., 0], stack[2] / 255, atol=1e-7)


# Labels --------------------------------------------------------------------------------------------------------------


def test_labels_are_kept_as_stored(tmp_path, rng):
    stored = rng.integers(0, 40000, (20, 30)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(stored).save(tmp_path / name)
        (labels,) = images.read_labels(tmp_path / name)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, stored)
    tifffile.imwrite(tmp_path / "float.tif", (stored % 7).astype(np.float32))
    np.testing.assert_array_equal(images.read_labels(tmp_path / "float.tif")[0], stored % 7)


def test_colours_of_a_mask_become_numbers(tmp_path):
    mask = np.array([[[0, 0, 0], [255, 255, 255]], [[255, 0, 0], [1, 2, 3]]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    expected = [[0, 255], [images.COLOUR + 255 * 65536, images.COLOUR + 65536 + 2 * 256 + 3]]
    np.testing.assert_array_equal(images.read_labels(tmp_path / "a.png")[0], expected)


def test_palette_of_a_mask_means_indices_unless_grey(tmp_path):
    mask = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8), "P")
    mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    mask.save(tmp_path / "colours.png")
    np.testing.assert_array_equal(images.read_labels(tmp_path / "colours.png")[0], [[0, 1], [2, 2]])
    white_first = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "P")
    white_first.putpalette([255, 255, 255, 0, 0, 0])
    white_first.save(tmp_path / "white_first.gif")
    np.testing.assert_array_equal(images.read_labels(tmp_path / "white_first.gif")[0], [[255, 0], [0, 0]])


# Writing -------------------------------------------------------------------------------------------------------------


def test_two_classes_are_written_as_black_and_white(tmp_path, grey8):
    classes = (grey8 > 99).astype(np.int64)
    for name in ("m.png", "m.tif"):
        images.write_mask(tmp_path / name, classes)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), classes * 255)
    images.write_mask(tmp_path / "k.png", grey8 % 5, n_classes=5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "k.png")), grey8 % 5)


@pytest.mark.parametrize("pages", [1, 2, 3, 4, 7])
def test_stacks_come_back_page_by_page(tmp_path, rng, pages):
    masks = rng.random((pages, 30, 40)) > 0.5
    images.write_mask(tmp_path / "m.tif", list(masks))
    np.testing.assert_array_equal(np.stack(images.read_labels(tmp_path / "m.tif")), masks * 255)
    assert len(images.open_image(tmp_path / "m.tif")) == pages


def test_write_image_rounds_and_clips(tmp_path):
    images.write_image(tmp_path / "a.png", np.array([[[-1.0], [0.5]], [[1.0], [7.0]]]))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), [[0, 128], [255, 255]])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    images.write_mask(tmp_path / "m.tif", np.ones((4, 4), int))
    before = (tmp_path / "m.tif").read_bytes()
    with pytest.raises(AttributeError):
        images.write_mask(tmp_path / "m.tif", [np.ones((4, 4), int), "not a page"])
    assert (tmp_path / "m.tif").read_bytes() == before and list(tmp_path.iterdir()) == [tmp_path / "m.tif"]


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"m\.xyz.*use one of"):
        images.write_mask(tmp_path / "m.xyz", np.ones((4, 4), int))
    with pytest.raises(InputError, match="2 pages do not fit"):
        images.write_mask(tmp_path / "m.png", np.ones((2, 4, 4), int))
    with pytest.raises(InputError, match="at most 256"):
        images.write_mask(tmp_path / "m.png", np.ones((4, 4), int), n_classes=300)
    assert not list(tmp_path.iterdir())


# Bad files -----------------------------------------------------------------------------------------------------------


def _expect_one_line(path, *words, read=images.read_image):
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert str(path) in line and "\n" not in line
    for word in words:
        assert word in line


KINDS = ["a.png", "a.jpg", "zlib.tif", "tiled.tif", "plain.tif", "pages.tif", "lzw.tif"]


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("name", KINDS)
def test_files_cut_short(tmp_path, rng, name, share, caplog):
    stored = rng.integers(0, 256, (4, 60, 60), dtype=np.uint8)
    path = tmp_path / name
    if name == "zlib.tif":
        tifffile.imwrite(path, stored[0], compression="zlib")
    elif name == "tiled.tif":
        tifffile.imwrite(path, stored[0], tile=(16, 16))
    elif name == "plain.tif":
        tifffile.imwrite(path, stored, photometric="minisblack")
    elif name == "pages.tif":
        images.write_mask(path, stored // 128)
    else:
        Image.fromarray(stored[0]).save(path, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    images.read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    _expect_one_line(path)
    assert not caplog.records  # nothing of the decoders on the terminal


def test_what_is_no_image(tmp_path):
    for name in ("a.png", "a.tif", "a.jpg"):
        (tmp_path / name).write_text("this is a text, not a picture")
        _expect_one_line(tmp_path / name, "cannot be read as an image")
    (tmp_path / "empty.png").touch()
    _expect_one_line(tmp_path / "empty.png", "empty")
    _expect_one_line(tmp_path / "missing.png", "no such file")
    _expect_one_line(tmp_path, "is a folder")


def test_values_that_mean_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "nan.tif", np.array([[0, 1], [np.nan, 2]], np.float32))
    _expect_one_line(tmp_path / "nan.tif", "not finite")
    tifffile.imwrite(tmp_path / "half.tif", np.array([[0, 1], [0.5, 2]], np.float32))
    _expect_one_line(tmp_path / "half.tif", "0.5", "whole numbers", read=images.read_labels)
    tifffile.imwrite(tmp_path / "minus.tif", np.array([[0, 1], [-3, 2]], np.int16))
    _expect_one_line(tmp_path / "minus.tif", "-3", read=images.read_labels)


def test_sixteen_bit_colour_png_is_refused_rather_than_halved(tmp_path):
    import struct
    import zlib

    rows = b"".join(b"\0" + struct.pack(">6H", *range(6)) for _ in range(2))  # 2x2 pixels, filter byte 0
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    _expect_one_line(tmp_path / "a.png", "16-bit colour PNG")


def test_pages_of_different_sizes(tmp_path, grey8):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(grey8, metadata=None)
        tiff.write(grey8[:10], metadata=None)
    _expect_one_line(tmp_path / "a.tif", "pages of different sizes")


def test_with_channels(rng):
    grey = rng.random((4, 5, 1), dtype=np.float32)
    three = images.with_channels(grey, 3)
    np.testing.assert_array_equal(three, np.repeat(grey, 3, axis=2))
    np.testing.assert_array_equal(images.with_channels(three, 1), grey)
    assert images.with_channels(grey, 1) is grey
    with pytest.raises(InputError, match=r"x\.png has 3 channels, expected 1; convert it to grey"):
        images.with_channels(rng.random((4, 5, 3)), 1, "x.png")


def test_bytes_of_an_interlaced_png_are_those_of_its_seven_passes():
    """From the table of the PNG specification (section 8.2): which pass has which pixel of each 8 x 8 block."""
    table = np.array(["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"])
    passes = np.tile(np.array([[int(digit) for digit in row] for row in table]), (3, 3))
    for width, height in [(1, 1), (1, 9), (2, 3), (5, 1), (8, 8), (9, 5), (13, 17), (23, 20)]:
        for depth, kind, bits in [(1, 0, 1), (8, 0, 8), (8, 2, 24), (4, 3, 4), (16, 6, 64)]:
            header = width.to_bytes(4) + height.to_bytes(4) + bytes([depth, kind, 0, 0, 1])
            expected = 0
            for number in range(1, 8):
                of_rows = [np.count_nonzero(row[:width] == number) for row in passes[:height]]
                expected += sum(1 + math.ceil(pixels * bits / 8) for pixels in of_rows if pixels)
            assert stored_pixels._png_bytes(header) == expected, (width, height, bits)


def test_cells_beyond_65535_are_no_png(tmp_path):
    for most in (65535, 65536):
        cells = np.zeros((4, 4), np.int32)
        cells[1, 2] = most
        if most == 65535:
            images.write_labels(tmp_path / "cells.png", cells)
            np.testing.assert_array_equal(images.read_labels(tmp_path / "cells.png")[0], cells)
        else:
            with pytest.raises(InputError):
                images.write_labels(tmp_path / "cells.png", cells)


def test_a_tiff_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    named = []
    monkeypatch.setattr(np.memmap, "flush", lambda self: named.append((tmp_path / "x.tif").exists()))
    with tiff_on_disk(tmp_path / "x.tif", (1, 4, 5), np.uint8) as pixels:
        pixels[:] = 7
        named.clear()
    assert named == [False] and (tifffile.imread(tmp_path / "x.tif") == 7).all()


def test_a_jpeg_is_turned_as_its_camera_says(tmp_path):
    picture = Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (20, 1)))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (found,) = images.read_image(tmp_path / "turned.jpg")
    assert found.shape == (40, 20, 1) and found[0].mean() < 0.1 < 0.9 < found[-1].mean()
