"""Masks of several origins in one folder: read file by file, or refused with the names of the odd ones."""

import numpy as np
import pytest

from npunet import InputError
from npunet.datasets import conventions, folders, labels
from npunet.datasets.labels import interpret
from npunet.datasets.layouts import find_layout
from npunet.files import images

PLACES = [(row, column) for row in (1, 9, 17, 25, 33) for column in (1, 9, 17, 25)]


def squares(values, places=PLACES):
    """A mask with a square of 5 x 5 pixels for each value."""
    mask = np.zeros((40, 34), int)
    for (row, column), value in zip(places, values):
        mask[row : row + 5, column : column + 5] = value
    return mask


BINARY, ONES, CELLS = squares([255] * 20), squares([1] * 20), squares(range(1, 21))
CLASSES = squares([1, 2] * 10)
SOFT = np.clip(BINARY + np.random.default_rng(0).integers(-6, 6, BINARY.shape), 0, 255)  # as JPEG leaves it


@pytest.mark.parametrize("labels", ["auto", "binary"])
@pytest.mark.parametrize("order", [(BINARY, ONES), (ONES, BINARY), (ONES, BINARY, 0 * ONES)])
def test_files_of_0_1_and_of_0_255_are_both_read_right(labels, order):
    found, n_classes, kind, values = interpret([(str(n), mask) for n, mask in enumerate(order)], labels)
    assert (n_classes, kind, values) == (2, "binary", (0, 255))
    for (classes, instances), mask in zip(found, order, strict=True):
        np.testing.assert_array_equal(classes, mask > 0)
        assert instances.max() == (20 if mask.any() else 0)


@pytest.mark.parametrize(
    "of_each_file, binary",
    [
        ([[0, 7]], True),
        ([[0, 1], [0, 255], [0, 65535]], True),
        ([[0, 1], [0, 65534]], False),
        ([[0, 7], [0], [7]], True),  # an empty image and one that is object everywhere
        ([[0, 7], [8]], False),
        ([[0], [7]], False),  # no file has both
        ([[1, 2]], False),
        ([[0, 7], [0, 7, 8]], False),
    ],
)
def test_when_all_files_are_of_two_values_that_mean_the_same(of_each_file, binary):
    files = conventions.files_of([(f"{n}.png", np.array([values])) for n, values in enumerate(of_each_file)])
    assert conventions.are_binary(files) == binary


def test_label_images_said_to_be_binary_are_object_wherever_they_have_a_number():
    found, *_ = interpret([("a", BINARY), ("b", CELLS), ("c", squares(range(1, 8)))], "binary")
    for (classes, _), mask in zip(found, (BINARY, CELLS, squares(range(1, 8))), strict=True):
        np.testing.assert_array_equal(classes, mask > 0)


def test_a_jpeg_among_clean_masks_is_read_right_as_binary_and_named_by_auto():
    masks = [("clean.png", BINARY), ("soft.jpg", SOFT), ("ones.png", ONES)]
    found, *_ = interpret(masks, "binary")
    for classes, _ in found:
        np.testing.assert_array_equal(classes, BINARY > 0)
    with pytest.raises(InputError, match=r"^soft.jpg \(0 1 2 3 .. 255 \(\d+ values\)\) and the other masks 0 255"):
        interpret(masks)


REFUSED = {
    "a binary mask among label images": ([CELLS, BINARY, CELLS], "auto", r"^1 \(0 255\): a mask of two values"),
    "ones among label images": ([ONES, CELLS], "auto", r"^0 \(0 1\): a mask of two values, where the other masks num"),
    "the same, said to be instances": ([ONES, CELLS], "instances", r"^0 \(0 1\): a mask of two values"),
    "classes said to be binary": ([BINARY, squares([90, 170] * 10)], "binary", r"^1 \(0 90 170\): no mask of two"),
    "a binary mask among classes": ([CLASSES, CLASSES, BINARY], "auto", r"^2 \(0 255\): a mask of two values, where"),
    "another number for object": (
        [BINARY, BINARY, squares([128] * 20)],
        "auto",
        r"^2 \(0 128\): the other masks have 255",
    ),
    "red among white": (
        [BINARY // 255 * 33488896, BINARY, 0 * BINARY, BINARY],
        "auto",
        r"^0 \(0 33488896\): the other",
    ),
    "a slip of the pen": (
        [BINARY, BINARY + 7 * (np.arange(34) == 33) * (np.arange(40) == 0)[:, None]],
        "auto",
        "1 pix",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused_by_name(name):
    masks, labels, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as error:
        interpret([(str(number), mask) for number, mask in enumerate(masks)], labels)
    assert "\n" not in str(error.value)


def test_healthy_folders_are_left_alone():
    one = squares([5], PLACES[7:])
    assert interpret([("a", CELLS), ("one object", one), ("none", 0 * one)])[2] == "instances"
    assert interpret([("a", CLASSES), ("one class", squares([2] * 20)), ("other", squares([1] * 20))])[2] == "classes"
    assert interpret([("a", squares([127, 255] * 10)), ("b", BINARY)])[3] == (0, 127, 255)
    assert interpret([("a", ONES), ("b", CLASSES + (CLASSES == 0))])[3] == (0, 1, 2)  # two classes, and no background
    for kind, n_classes in (("binary", 2), ("classes", 3)):  # what the line about masks of two values advises
        assert interpret([("a", ONES), ("b", squares([2] * 20))], kind)[1] == n_classes
    pages = [(f"stack.tif[{number}]", mask) for number, mask in enumerate([CELLS, squares([9], PLACES[3:]), 0 * CELLS])]
    assert interpret(pages)[2] == "instances"


def test_many_classes_far_apart_are_no_jpeg():
    assert interpret([("a", squares([50, 100, 150, 200, 250] * 4))])[2:] == ("classes", (0, 50, 100, 150, 200, 250))
    neighbours = squares([10, 11, 12, 13, 14] * 4)  # close together, but as many of each: nothing was blurred
    assert interpret([("a", neighbours)])[2] == "classes"


@pytest.mark.parametrize("mask, soft", [(SOFT, True), (BINARY, False), (CELLS, False), (CLASSES, False)])
def test_whether_a_mask_was_blurred(mask, soft):
    (file,) = conventions.files_of([("a", mask)])
    assert conventions.is_soft(file) == soft


def test_the_only_subfolder_is_looked_into(tmp_path):
    for name in ("one/inside", "two/first", "two/second"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "train-volume.tif").touch()
    assert find_layout(tmp_path / "one")[0] == tmp_path / "one" / "inside"
    assert find_layout(tmp_path / "two") is None


@pytest.mark.parametrize("alone, other", [("image", "mask"), ("mask", "image")])
def test_a_picture_without_a_partner_is_named_with_what_it_lacks(alone, other, tmp_path):
    for name in ("images/a", "masks/a", f"{alone}s/b"):
        images.write_image(tmp_path / f"{name}.png", np.zeros((4, 4)))
    numbers = {"image": "1 images without mask, 0 masks", "mask": "0 images without mask, 1 masks"}[alone]
    with pytest.raises(InputError, match=rf"{alone}s/b.png: no {other} of that name \({numbers}"):
        folders.load_folder(tmp_path)


def mask_of(split, whole):
    """(H, 20): stripes of one value each; the first `split` values have two pieces, the next `whole` one."""
    mask = np.zeros((2 * (split + whole), 20), np.uint8)
    for number in range(split + whole):
        mask[2 * number, 1 : 8 if number < split else 19] = mask[2 * number, 12:19] = 10 * (number + 1)
    return mask


@pytest.mark.parametrize(
    "split, whole, expected",
    [
        (16, 0, "classes"),
        (17, 0, None),
        (8, 8, "classes"),  # half of them in one piece
        (7, 9, None),
        (0, 16, None),
        (0, 17, "instances"),
        (6, 14, "instances"),  # 70 %
        (7, 13, None),
    ],
)
def test_how_many_values_in_how_many_pieces_are_classes_and_cells(split, whole, expected):
    masks = [("a.png", mask_of(split, whole))]
    if expected:
        assert labels.decide(masks, conventions.files_of(masks)) == expected
    else:
        with pytest.raises(InputError, match="can be read in more than one way"):
            labels.decide(masks, conventions.files_of(masks))


@pytest.mark.parametrize("values, beside", [([0, 9], "the other masks 0 9,"), ([0, 5, 9], "the other masks alike,")])
def test_an_ambiguous_mask_is_shown_beside_a_clean_one(values, beside):
    masks = [("odd.png", np.arange(7)[None]), ("other.png", np.array([values]))]
    error = str(conventions.ambiguous(conventions.files_of(masks)))
    assert error.startswith("odd.png (0 1 2 3 .. 6 (7 values)) and " + beside)
