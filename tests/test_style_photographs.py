"""The squares on which a painter learns: sizes, scales, every kind of photograph, read once."""

import numpy as np
import pytest

from npunet.errors import InputError
from npunet.files import images
from npunet.style import photographs
from npunet.style.photographs import Photographs
from npunet.style.pictures import fitted, read_picture


def test_sizes(rng):
    picture = rng.random((30, 45, 3), np.float32)
    assert fitted(picture, 60).shape == (60, 90, 3) and fitted(picture, 32, 16).shape == (32, 48, 3)
    flat = np.full((50, 20, 3), 0.25, np.float32)
    assert np.allclose(fitted(flat, 16, 16), 0.25) and fitted(flat, 16, 16).shape == (32, 16, 3)  # 40, rounded
    assert fitted(flat, 16).shape == (40, 16, 3) == fitted(flat.swapaxes(0, 1), 16).swapaxes(0, 1).shape


def test_squares_come_from_all_over_a_photograph_at_many_scales(tmp_path, rng):
    """Red counts the rows of the photograph and green its columns, so a square tells where it was and how large."""
    down, across = np.mgrid[:200, :300] / 300
    images.write_image(tmp_path / "ramp.png", np.stack([down, across, np.zeros_like(down)], axis=-1))
    squares = Photographs([tmp_path / "ramp.png"], 32, 96).batch(200, seed=0, step=0)
    assert squares.shape == (200, 32, 32, 3) and squares.dtype == np.float32
    rows, columns = squares[..., 0], squares[..., 1]
    spans = (rows.max((1, 2)) - rows.min((1, 2))) * 300  # pixels of the photograph, 31 of 32 steps
    shorter = 32 * 200 / (spans * 32 / 31)  # that the photograph was brought to
    assert 60 < shorter.min() < 70 and 135 < shorter.max() < 150  # 64 .. 144
    assert 85 < np.exp(np.log(shorter).mean()) < 107
    assert rows.min() * 300 < 10 and rows.max() * 300 > 190 and columns.min() * 300 < 10 and columns.max() * 300 > 290
    mirrored = columns[:, 0, 0] > columns[:, 0, -1]
    assert 70 < mirrored.sum() < 130 and (rows[:, 0, 0] < rows[:, -1, 0]).all()
    assert np.array_equal(squares, Photographs([tmp_path / "ramp.png"], 32, 96).batch(200, seed=0, step=0))


@pytest.mark.parametrize("shape, photo_size", [((30, 45), 30), ((20, 70), 30), ((300, 40), 64), ((30, 30), 500)])
def test_squares_of_any_photograph(tmp_path, rng, monkeypatch, shape, photo_size):
    monkeypatch.setattr(photographs, "ROOM", 0)  # nothing is kept
    picture = np.full((*shape, 3), 0.2)
    images.write_image(tmp_path / "flat.png", picture)
    source = Photographs([tmp_path / "flat.png"], 30, photo_size)
    for _ in range(5):
        assert source.square(rng).shape == (30, 30, 3) and np.allclose(source.square(rng), 0.2, atol=1e-3)
    assert not source.kept


def test_photographs_are_read_once(tmp_path, rng, monkeypatch):
    images.write_image(tmp_path / "a.png", rng.random((400, 500, 3)))
    source, read = Photographs([tmp_path / "a.png"], 32, 96), []
    monkeypatch.setattr(photographs, "read_picture", lambda path: read.append(path) or read_picture(path))
    source.batch(4, 0, 0)
    assert len(read) == 1 and source.kept[tmp_path / "a.png"].shape == (144, 180, 3)
    assert source.bytes == 144 * 180 * 3


def test_grey_pictures_and_stacks(tmp_path, rng):
    images.write_image(tmp_path / "grey.png", rng.random((8, 9)))
    assert read_picture(tmp_path / "grey.png").shape == (8, 9, 3)
    images.write_mask(tmp_path / "stack.tif", np.zeros((3, 8, 9), int))
    with pytest.raises(InputError, match="holds 3 pages; expected a picture of one page"):
        read_picture(tmp_path / "stack.tif")
