"""Folders of images and masks:
each layout and reading on files made here, each mistake of a user against its one line.
"""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from npunet import datasets
from npunet.datasets.labels import interpret
from npunet.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def _save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 and array.shape[2] == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def _folder(root, images, masks):
    for part, files in (("images", images), ("masks", masks)):
        (root / part).mkdir(parents=True)
        for name, array in files.items():
            _save(root / part / name, array)
    return root


def _squares(*corners, value=1, shape=(40, 50), side=6):
    """A mask with squares at the given corners; value may be a list, one for each."""
    mask = np.zeros(shape, np.uint8)
    values = value if isinstance(value, (list, range)) else [value] * len(corners)
    for (row, column), number in zip(corners, values, strict=True):
        mask[row : row + side, column : column + side] = number
    return mask


GREY = np.tile(np.arange(50, dtype=np.uint8), (40, 1))
TWO = ((2, 2), (20, 30))


# Layouts -------------------------------------------------------------------------------------------------------------


def test_folder_of_pairs(tmp_path):
    root = _folder(
        tmp_path / "mine",
        {"a.png": GREY, "b.tif": GREY[:30]},
        {"a.tif": _squares(*TWO, value=255), "b.png": _squares((5, 5), value=255)[:30]},
    )
    data = datasets.load(root)
    assert (data.name, data.n_classes, data.kind, data.class_values, data.in_channels) == (
        "mine",
        2,
        "binary",
        (0, 255),
        1,
    )
    first, second = data.samples
    assert (first.name, second.name) == ("a", "b") and first.ignore is None
    assert first.image.shape == (40, 50, 1) and first.image.dtype == np.float32
    np.testing.assert_allclose(first.image[..., 0], GREY / 255, atol=1e-7)
    assert first.labels.dtype == np.int64 and first.instances.dtype == np.int32
    np.testing.assert_array_equal(first.labels, _squares(*TWO))
    np.testing.assert_array_equal(first.instances, _squares(*TWO, value=[1, 2]))
    assert second.labels.shape == (30, 50) and second.instances.max() == 1


@pytest.mark.parametrize(
    "image, mask",
    [
        ("a.png", "a_mask.gif"),
        ("a.jpg", "a-label.png"),
        ("a_image.png", "a_mask.png"),
        ("img_7.png", "mask_7.png"),
        ("a.png", "a.png"),
        ("t000.tif", "t000_SEG.tif"),
        ("a.b_1.png", "a.b_1_masks.tif"),
        ("a.ome.tif", "a_mask.png"),
    ],
)
def test_names_that_pair(tmp_path, image, mask):
    root = _folder(tmp_path / "d", {image: GREY}, {mask: _squares(*TWO, value=255)})
    (root / "images" / ".hidden.png").write_text("not an image")
    (root / "masks" / "Thumbs.db").write_text("not an image")
    assert len(datasets.load(root)) == 1


def test_order_counts_numbers_by_value(tmp_path):
    names = ["s10", "s9", "s1", "s100", "b"]
    root = _folder(tmp_path / "d", {f"{n}.png": GREY for n in names}, {f"{n}.png": _squares(*TWO) for n in names})
    assert [s.name for s in datasets.load(root).samples] == ["b", "s1", "s9", "s10", "s100"]


def test_isbi_pair(tmp_path, rng):
    volume = rng.integers(0, 256, (5, 40, 50), dtype=np.uint8)
    truth = np.stack([_squares((3 * i, 2), (20, 5 * i), value=255) for i in range(5)])
    _save(tmp_path / "train-volume.tif", volume)
    _save(tmp_path / "train-labels.tif", truth)
    data = datasets.load(tmp_path)
    assert len(data) == 5 and data.kind == "binary"
    for sample, page, mask in zip(data.samples, volume, truth, strict=True):
        np.testing.assert_allclose(sample.image[..., 0], page / 255, atol=1e-7)
        np.testing.assert_array_equal(sample.labels, mask // 255)
        assert sample.instances.max() == ndimage.label(mask)[1]
    (tmp_path / "train-labels.tif").unlink()
    with pytest.raises(InputError, match="no train-labels.tif"):
        datasets.load(tmp_path)


def test_pages_pair_in_order_inside_a_folder(tmp_path, rng):
    stack = rng.integers(0, 256, (4, 40, 50), dtype=np.uint8)
    root = _folder(tmp_path / "d", {"a.tif": stack}, {"a.tif": np.stack([_squares((i, i)) for i in range(4)])})
    data = datasets.load(root)
    assert [s.name for s in data.samples] == ["a[0]", "a[1]", "a[2]", "a[3]"]
    np.testing.assert_array_equal(data.samples[3].labels, _squares((3, 3)))
    np.testing.assert_allclose(data.samples[3].image[..., 0], stack[3] / 255, atol=1e-7)


def test_channels_of_a_folder_agree(tmp_path, rng):
    colour = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    alike = np.repeat(GREY[..., None], 3, axis=2)
    masks = {"a.png": _squares(*TWO), "b.png": _squares(*TWO)}
    only_grey = datasets.load(_folder(tmp_path / "grey", {"a.png": alike, "b.png": GREY}, masks))
    assert only_grey.in_channels == 1 and only_grey.samples[0].image.shape == (40, 50, 1)
    mixed = datasets.load(_folder(tmp_path / "mixed", {"a.png": GREY, "b.png": colour}, masks))
    assert mixed.in_channels == 3
    np.testing.assert_allclose(mixed.samples[0].image, alike / 255, atol=1e-7)
    two = rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)
    root = _folder(tmp_path / "odd", {"a.png": GREY}, masks)
    tifffile.imwrite(root / "images" / "b.tif", two, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(InputError, match=r"a\.png has 1 channels, expected 2"):
        datasets.load(root)


# What mask values mean -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 255, 7])
def test_two_values_are_binary(value):
    (pair,), n_classes, kind, _ = interpret([("m", _squares(*TWO, value=value))])
    assert (n_classes, kind) == (2, "binary")
    np.testing.assert_array_equal(pair[0], _squares(*TWO))


def test_binary_components_are_4_connected():
    diagonal = np.array([[0, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 9], [0, 0, 0, 0]])
    ((labels, instances),), *_ = interpret([("m", diagonal)])
    np.testing.assert_array_equal(instances, [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(labels, diagonal > 0)


CORNERS = [(row, column) for row in (1, 9, 17, 25, 33) for column in (1, 9, 17, 25)]  # room for 20 squares


def test_many_numbered_pieces_are_instances():
    first, second = _squares(*CORNERS, value=range(1, 21)), _squares(*CORNERS[:3], value=[5, 9, 200])
    first[0:2, 40:42] = 20  # one of them in two pieces
    pairs, n_classes, kind, values = interpret([("a", first), ("b", second)])
    assert (n_classes, kind, values) == (2, "instances", None)
    np.testing.assert_array_equal(pairs[0][1], first)
    np.testing.assert_array_equal(pairs[1][1], _squares(*CORNERS[:3], value=[1, 2, 3]))  # renumbered 1..n in each image
    np.testing.assert_array_equal(pairs[1][0], second > 0)


def test_few_values_in_many_pieces_are_classes():
    mask = _squares(*CORNERS, value=[127, 255] * 10)
    ((labels, instances),), n_classes, kind, values = interpret([("a", mask)])
    assert (n_classes, kind, values) == (3, "classes", (0, 127, 255))
    np.testing.assert_array_equal(labels, _squares(*CORNERS, value=[1, 2] * 10))
    assert instances.max() == 20 and (instances > 0).sum() == (mask > 0).sum()
    for number in range(1, 21):  # each piece is one instance of one class
        assert len(np.unique(labels[instances == number])) == 1 and ndimage.label(instances == number)[1] == 1


AMBIGUOUS = {
    "three cells or three classes": _squares(*CORNERS[:3], value=[1, 2, 3]),
    "labels from 1": _squares(*TWO) + 1,
    "jpeg": np.minimum(_squares(*CORNERS, value=range(235, 255)) + np.indices((40, 50)).sum(0) % 5, 255).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("mask", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_values_are_asked_about(mask):
    with pytest.raises(
        InputError, match="the file .* and the other masks .* --labels binary .* --labels instances .* --labels classes"
    ) as caught:
        interpret([("the file", mask)])
    assert "\n" not in str(caught.value)


def test_saying_what_the_values_mean():
    three = AMBIGUOUS["three cells or three classes"]
    ((labels, instances),), n_classes, *_ = interpret([("m", three)], "instances")
    assert n_classes == 2 and instances.max() == 3 and labels.max() == 1
    ((labels, _),), n_classes, *_ = interpret([("m", three)], "classes")
    assert n_classes == 4
    np.testing.assert_array_equal(labels, three)
    from_one = AMBIGUOUS["labels from 1"]
    for kind in ("classes", "binary"):
        ((labels, _),), n_classes, *_ = interpret([("m", from_one)], kind)
        assert n_classes == 2
        np.testing.assert_array_equal(labels, _squares(*TWO))
    ((labels, _),), *_ = interpret([("m", AMBIGUOUS["jpeg"])], "binary")
    np.testing.assert_array_equal(labels, _squares(*CORNERS))


def test_classes_fixed_by_a_model():
    mask = _squares(*TWO, value=255)
    ((labels, _),), n_classes, kind, _ = interpret([("m", mask)], class_values=(0, 127, 255))
    assert (n_classes, kind) == (3, "classes")
    np.testing.assert_array_equal(labels, 2 * _squares(*TWO))
    with pytest.raises(InputError, match="m: mask value 255 is none of the 2 classes"):
        interpret([("m", mask)], class_values=(0, 127))


def test_readings_that_cannot_be():
    with pytest.raises(InputError, match="every pixel of all 2 masks is 0"):
        interpret([("m", np.zeros((4, 4), int))] * 2)
    with pytest.raises(InputError, match="without any background"):
        interpret([("m", _squares(*TWO) + 1)], "instances")
    with pytest.raises(InputError, match="too many for classes"):
        interpret([("m", np.arange(400).reshape(20, 20))], "classes")
    with pytest.raises(InputError, match="'objects'; expected one of auto"):
        interpret([("m", _squares(*TWO))], "objects")


def test_coloured_masks(tmp_path):
    colours = np.zeros((21, 3), np.uint8)
    colours[1:, 0], colours[1:, 1] = range(100, 120), range(20, 0, -1)
    cells, kinds = colours[_squares(*CORNERS, value=range(1, 21))], colours[_squares(*CORNERS, value=[1, 2] * 10)]
    grey_rgb = np.repeat(_squares(*TWO, value=255)[..., None], 3, axis=2)
    read = {
        name: datasets.load(_folder(tmp_path / name, {"a.png": GREY}, {"a.png": mask}))
        for name, mask in (("cells", cells), ("kinds", kinds), ("grey", grey_rgb))
    }
    assert {name: data.kind for name, data in read.items()} == {
        "cells": "instances",
        "kinds": "classes",
        "grey": "binary",
    }
    np.testing.assert_array_equal(read["cells"].samples[0].instances, _squares(*CORNERS, value=range(1, 21)))
    np.testing.assert_array_equal(read["kinds"].samples[0].labels, _squares(*CORNERS, value=[1, 2] * 10))
    np.testing.assert_array_equal(read["grey"].samples[0].labels, _squares(*TWO))


# Mistakes ------------------------------------------------------------------------------------------------------------


def _refused(root, *words):
    with pytest.raises(InputError) as caught:
        datasets.load(root)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_folders_that_are_wrong(tmp_path):
    mask = _squares(*TWO)
    _refused(tmp_path / "nowhere", "nowhere", "does not exist", "images/")
    (tmp_path / "file.txt").write_text("x")
    _refused(tmp_path / "file.txt", "is a file")
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", "no folder images/", "found nothing")
    _refused(_folder(tmp_path / "no pictures", {}, {"a.png": mask}), "images: no image in it")
    _refused(
        _folder(tmp_path / "unpaired", {"a.png": GREY, "b.png": GREY}, {"a.png": mask}),
        "images/b.png",
        "1 images without mask",
    )
    _refused(
        _folder(tmp_path / "unpaired2", {"a.png": GREY}, {"a.png": mask, "c.png": mask}),
        "masks/c.png",
        "1 masks without image",
    )
    _refused(
        _folder(tmp_path / "twice", {"a.png": GREY, "a.tif": GREY}, {"a.png": mask}), "a.tif", "same name as a.png"
    )
    _refused(
        _folder(tmp_path / "sizes", {"a.png": GREY[:30]}, {"a.png": mask}),
        "masks/a.png",
        "40 x 50",
        "images/a.png has 30 x 50",
    )
    _refused(
        _folder(tmp_path / "pages", {"a.tif": np.stack([GREY] * 4)}, {"a.png": mask}), "masks/a.png: 1 pages", "has 4"
    )
    _refused(_folder(tmp_path / "black", {"a.png": GREY}, {"a.png": 0 * mask}), "masks/a.png", "every pixel")
    broken = _folder(tmp_path / "broken", {"a.png": GREY}, {"a.png": mask})
    (broken / "masks" / "a.png").write_bytes(b"PNG?")
    _refused(broken, "masks/a.png", "cannot be read")


# Data sets -----------------------------------------------------------------------------------------------------------


def test_split_holds_out_the_last_as_one_block():
    data = datasets.Dataset("d", [datasets.Sample(str(i), None, None, None) for i in range(24)], 2)
    for held_out, expected in ((4, 4), (0.25, 6), (0.01, 1), (0, 0), (23, 23)):
        training, rest = data.split(held_out)
        assert [s.name for s in training.samples + rest.samples] == [str(i) for i in range(24)] and len(
            rest
        ) == expected
        assert training.n_classes == rest.n_classes == 2
    for wrong in (24, -1, 1.5, 1.0 * 30):
        with pytest.raises(InputError, match=r"of the 24 images of d; expected 0 to 23"):
            data.split(wrong)


def test_description_tells_polarity_shares_and_darkness(tmp_path):
    mask = _squares(*TWO, value=255)
    dark_cells = np.where(mask, 50, 200).astype(np.uint8)
    data = datasets.load(_folder(tmp_path / "mine", {"a.png": dark_cells}, {"a.png": mask}))
    text = datasets.describe(data)
    for words in (
        "mine: 1 images, 40 x 50, 1 channel",
        "grey values 0.20 to 0.78",
        "binary (mask values 0 255)",
        "96.4% of the pixels, mean grey value 0.78",
        "3.6% of the pixels, mean grey value 0.20",
        "objects are darker",
        "instances: 2 to 2 an image, of 36 pixels",
    ):
        assert words in text
    assert "WARNING" not in text
    almost_black = datasets.load(_folder(tmp_path / "dark", {"a.png": mask // 255}, {"a.png": mask}))
    assert "WARNING: hardly any contrast" in datasets.describe(almost_black)
    sample = data.samples[0]
    sample.ignore = sample.labels == 0
    text = datasets.describe(data)
    assert "WARNING: no pixel of class 0" in text and "96.4% of the pixels have no annotation" in text


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name, images, shape, kind, most",
    [
        ("isbi2012", 24, (512, 512), "binary", 137),
        ("dsb2018_nuclei", 60, (256, 256), "instances", 86),
        ("phase_contrast", 10, (768, 768), "instances", 81),
    ],
)
def test_real_pictures(name, images, shape, kind, most):
    if not (SHARED / name).is_dir():
        pytest.skip(f"real pictures not found at ../shared/data/{name}")
    data = datasets.load(SHARED / name)
    assert (len(data), data.kind, data.n_classes, data.in_channels) == (images, kind, 2, 1)
    assert all(s.labels.shape == shape for s in data.samples)
    # as counted with tifffile, Pillow and scipy.ndimage.label
    assert max(int(s.instances.max()) for s in data.samples) == most
    assert all(0 <= s.image.min() and s.image.max() <= 1 and s.image.std() > 0.01 for s in data.samples)


@pytest.mark.parametrize("count, more", [(3, ""), (4, " and 1 more sizes")])
def test_up_to_three_sizes_are_listed(count, more):
    samples = [datasets.Sample("a", np.zeros((4, 5 + n, 1)), *2 * [np.zeros((4, 5 + n), int)]) for n in range(count)]
    assert datasets.describe(datasets.Dataset("d", samples, 2)).startswith(
        f"d: {count} images, 4 x 5, 4 x 6, 4 x 7{more}, 1 ch"
    )
