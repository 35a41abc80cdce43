"""The cell tracking challenge's folders and the one-file-an-object folders, on files drawn here pixel by pixel."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import datasets
from npunet.commands import cell_tracking_files
from npunet.errors import InputError


def _boxes(*boxes, shape=(40, 50)):
    """A mask with the given boxes: (value, top, bottom, left, right)."""
    mask = np.zeros(shape, np.uint16)
    for value, top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = value
    return mask


FIRST, SECOND = (7, 5, 15, 5, 15), (3, 5, 15, 15, 25)  # two cells that touch
MARKERS = _boxes((1, 8, 10, 8, 10), (2, 8, 10, 18, 20))  # one in each


@pytest.fixture
def challenge(tmp_path):
    """write(path, mask) into a sequence 01 of four frames, t000 to t003."""
    root = tmp_path / "PhC-C2DH-U373"

    def write(path, array):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / path, array)
        return root

    for frame in range(4):
        write(f"01/t{frame:03}.tif", np.full((40, 50), 10 * frame, np.uint8))
    return write


def test_only_annotated_frames_become_samples(challenge):
    challenge("01_GT/SEG/man_seg001.tif", _boxes(FIRST, SECOND))
    challenge("01_GT/SEG/man_seg003.tif", _boxes(SECOND))
    challenge("01_ST/SEG/man_seg000.tif", _boxes(FIRST))  # silver truth is computed, not drawn
    challenge("02/t0000.tif", np.full((40, 50), 99, np.uint8))
    root = challenge("02_GT/SEG/man_seg0000.tif", _boxes(FIRST))  # long sequences have four digits
    data = datasets.load(root)
    assert [s.name for s in data.samples] == ["01/t001", "01/t003", "02/t0000"]
    assert (data.kind, data.n_classes, data.in_channels) == ("instances", 2, 1)
    np.testing.assert_allclose([s.image.mean() for s in data.samples], np.array([10, 30, 99]) / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.samples[0].instances, _boxes((2, *FIRST[1:]), (1, *SECOND[1:])))
    np.testing.assert_array_equal(data.samples[0].labels, _boxes((1, 5, 15, 5, 25)))
    assert all(s.ignore is None for s in data.samples)


def test_markers_without_a_drawn_cell_make_a_frame_partly_annotated(challenge):
    for frame, cells in ((0, (FIRST, SECOND)), (1, (FIRST,))):
        challenge(f"01_GT/SEG/man_seg00{frame}.tif", _boxes(*cells))
        root = challenge(f"01_GT/TRA/man_track00{frame}.tif", MARKERS)
    complete, partly = datasets.load(root).samples
    assert complete.ignore is None
    # nothing is known outside the drawn cell
    np.testing.assert_array_equal(partly.ignore, _boxes((1, *FIRST[1:])) == 0)
    np.testing.assert_array_equal(partly.labels, _boxes((1, *FIRST[1:])))


def test_a_marker_that_reaches_out_of_its_cell_a_little_is_annotated(challenge):
    challenge("01_GT/SEG/man_seg000.tif", _boxes(FIRST))
    root = challenge("01_GT/TRA/man_track000.tif", _boxes((1, 4, 9, 8, 10)))  # a fifth of it outside
    assert datasets.load(root).samples[0].ignore is None
    challenge("01_GT/TRA/man_track000.tif", _boxes((1, 1, 9, 8, 10)))  # half of it outside is still enough
    assert datasets.load(root).samples[0].ignore is None
    challenge("01_GT/TRA/man_track000.tif", _boxes((1, 0, 9, 8, 10)))
    assert datasets.load(root).samples[0].ignore is not None


def test_annotators_who_disagree(challenge):
    challenge("01_GT/SEG/man_seg000.tif", _boxes(FIRST, SECOND))
    root = challenge("01_GT/SEG_B/man_seg000.tif", _boxes((1, 6, 15, 5, 15), (2, 5, 15, 15, 25)))
    (sample,) = datasets.load(root).samples
    np.testing.assert_array_equal(sample.ignore, _boxes((1, 5, 6, 5, 15)) > 0)  # the row that only one of them drew
    np.testing.assert_array_equal(sample.instances, _boxes((2, 6, 15, 5, 15), (1, 5, 15, 15, 25)))


def test_an_annotated_frame_without_cells(challenge):
    root = challenge("01_GT/SEG/man_seg000.tif", _boxes())
    (sample,) = datasets.load(root).samples
    assert not sample.instances.any() and sample.ignore is None


@pytest.mark.parametrize(
    "path, mask, words",
    [
        ("01_GT/SEG/man_seg009.tif", _boxes(FIRST), "t009.tif: no such file"),
        ("01_GT/SEG/man_seg000.tif", _boxes(FIRST, shape=(30, 50)), "man_seg000.tif: 30 x 50 pixels, but"),
        ("01_GT/SEG/man_seg_000_004.tif", _boxes(FIRST), "three-dimensional"),
        ("01_GT/SEG/man_seg000.tif", np.stack([_boxes(FIRST)] * 5), "5 pages"),
        ("01_GT/SEG/readme.tif", _boxes(FIRST), "no man_seg"),
    ],
)
def test_what_cannot_be_read(challenge, path, mask, words):
    root = challenge(path, mask)
    with pytest.raises(InputError, match=words):
        datasets.load(root)


def test_labels_must_be_instances(challenge):
    root = challenge("01_GT/SEG/man_seg000.tif", _boxes(FIRST))
    assert len(datasets.load(root, labels="instances")) == 1
    with pytest.raises(
        InputError, match="--labels classes, but the masks of the cell tracking challenge are instances"
    ):
        datasets.load(root, labels="classes")


# 2018 Data Science Bowl ----------------------------------------------------------------------------------------------


def _nucleus(root, image, objects, name="0a7e"):
    for part, files in (("images", {name: image}), ("masks", objects)):
        (root / name / part).mkdir(parents=True)
        for stem, array in files.items():
            Image.fromarray(array).save(root / name / part / f"{stem}.png")
    return root


def test_one_file_an_object(tmp_path):
    alpha = np.full((40, 50, 4), 255, np.uint8)
    alpha[..., :3] = 80  # as in the challenge: RGBA, but grey
    objects = {
        "aa": _boxes((255, 5, 15, 5, 15)).astype(np.uint8),
        "bb": _boxes((255, 5, 15, 14, 25)).astype(np.uint8),
        "cc": _boxes((255, 6, 7, 6, 7)).astype(np.uint8),
    }  # overlaps; is hidden
    root = _nucleus(tmp_path / "stage1_train", alpha, objects)
    _nucleus(root, alpha, {"dd": _boxes((255, 1, 5, 1, 5)).astype(np.uint8)}, "1b")
    data = datasets.load(root)
    assert [s.name for s in data.samples] == ["0a7e", "1b"] and data.in_channels == 1
    np.testing.assert_array_equal(data.samples[0].instances, _boxes((1, 5, 15, 5, 15), (2, 5, 15, 15, 25)))
    with pytest.raises(InputError, match="one file an object are instances"):
        datasets.load(root, labels="binary")


def test_object_files_that_are_wrong(tmp_path):
    grey = np.zeros((40, 50), np.uint8)
    root = _nucleus(tmp_path / "sizes", grey, {"aa": np.ones((9, 9), np.uint8)})
    with pytest.raises(InputError, match=r"aa\.png: 9 x 9 pixels, but .*0a7e\.png has 40 x 50"):
        datasets.load(root)
    root = _nucleus(tmp_path / "two", grey, {"aa": grey})
    Image.fromarray(grey).save(root / "0a7e" / "images" / "b.png")
    with pytest.raises(InputError, match="more than one image"):
        datasets.load(root)


def test_frames_of_the_cell_tracking_challenge_number_their_cells_on(tmp_path, monkeypatch):
    first, second = np.array([[[0, 1], [2, 2]], [[1, 0], [0, 0]]]), np.array([[[0, 1], [2, 3]]])
    for name, cells in (("a", first), ("b", second)):
        tifffile.imwrite(tmp_path / f"{name}.tif", cells.astype(np.uint16), photometric="minisblack")
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    monkeypatch.setattr(cell_tracking_files, "LARGEST", 6)
    folder = cell_tracking_files.write_sequence(tmp_path, paths)
    masks = [tifffile.imread(folder / f"mask00{frame}.tif").tolist() for frame in range(3)]
    assert masks == [[[0, 1], [2, 2]], [[3, 0], [0, 0]], [[0, 4], [5, 6]]]
    lines = (folder / "res_track.txt").read_text().splitlines()
    assert lines == ["1 0 0 0", "2 0 0 0", "3 1 1 0", "4 2 2 0", "5 2 2 0", "6 2 2 0"]
    monkeypatch.setattr(cell_tracking_files, "LARGEST", 5)
    with pytest.raises(InputError, match="6 cells up to frame 2; expected at most 5"):
        cell_tracking_files.write_sequence(tmp_path, paths)
