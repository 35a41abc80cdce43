"""Measurements of cells: by hand, and scikit-image's regionprops; outlines against matplotlib's polygons."""

import csv

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from scipy import ndimage, spatial
from skimage.draw import ellipse
from skimage.measure import perimeter_crofton, regionprops

from npunet.errors import InputError
from npunet.instances import measurements, outlines


def random_cells(seed, shape=(60, 70)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return ndimage.label(noise > 0.04)[0]


def area_of_triangles(coords):
    """Area of the convex hull of unit squares: all their corners, cut into triangles."""
    corners = np.concatenate([coords + corner for corner in np.ndindex(2, 2)])
    a, b, c = np.moveaxis(corners[spatial.Delaunay(corners).simplices], 1, 0)
    return np.abs(np.linalg.det(np.stack([b - a, c - a], axis=1))).sum() / 2


@pytest.mark.parametrize("seed", range(3))
def test_measurements_are_those_of_scikit_image(seed):
    cells, image = random_cells(seed), np.random.default_rng(seed).random((60, 70), dtype=np.float32)
    cells[cells == 4] = 0  # a number that does not occur
    rows = measurements.measure(cells, image)
    regions = regionprops(cells, image)
    assert len(rows) == len(regions) > 5
    for row, region in zip(rows, regions, strict=True):
        assert row["cell"] == region.label and row["area"] == region.area
        assert (row["top"], row["left"], row["bottom"], row["right"]) == region.bbox
        assert (row["y"], row["x"]) == pytest.approx(region.centroid)
        for ours, theirs in (("major", region.axis_major_length), ("minor", region.axis_minor_length)):
            assert row[ours] ** 2 == pytest.approx(theirs**2 + 16 / 12)  # they count middles, we count squares
        assert row["perimeter"] == pytest.approx(perimeter_crofton(cells == region.label, directions=4))
        assert row["mean_grey"] == pytest.approx(region.intensity_mean, rel=1e-6)
        assert row["solidity"] == pytest.approx(region.area / area_of_triangles(region.coords))


def test_a_large_ellipse_has_the_measures_of_geometry():
    mask = np.zeros((130, 230), bool)
    mask[ellipse(65.0, 115.0, 40.5, 90.5)] = True
    row = measurements.measure_mask(mask)
    assert row["area"] == pytest.approx(np.pi * 40.5 * 90.5, rel=0.01)
    assert (row["minor"], row["major"]) == pytest.approx((81, 181), rel=0.01)
    assert row["perimeter"] == pytest.approx(426.2, rel=0.03)  # Ramanujan's formula
    assert row["solidity"] == pytest.approx(1, abs=0.02)


def test_solidity_by_hand():
    assert measurements.measure_mask(np.ones((1, 1), bool))["solidity"] == 1
    assert measurements.measure_mask(np.ones((3, 7), bool))["solidity"] == 1
    corner = np.array([[1, 0], [1, 1]], bool)  # the hull cuts off half of the fourth square
    assert measurements.measure_mask(corner)["solidity"] == pytest.approx(3 / 3.5)


def test_a_place_in_the_image_and_micrometres():
    cells = np.zeros((9, 9), np.int32)
    cells[4:6, 2:5] = 3
    (row,) = measurements.measure(cells, pixel_size=0.5)
    assert (row["top"], row["left"], row["bottom"], row["right"], row["y"], row["x"]) == (4, 2, 6, 5, 4.5, 3)
    assert row["area_um2"] == 1.5 and row["y_um"] == 2.25 and row["x_um"] == 1.5
    assert row["perimeter_um"] == row["perimeter"] / 2 and row["major_um"] == row["major"] / 2
    assert "area_um2" not in measurements.measure(cells)[0] and "mean_grey" not in row


def test_one_mean_grey_a_channel():
    image = np.zeros((4, 4, 3))
    image[..., 1] = 0.25
    (row,) = measurements.measure(np.ones((4, 4), int), image)
    assert (row["mean_grey_1"], row["mean_grey_2"], row["mean_grey_3"]) == (0, 0.25, 0)


def test_the_table_is_csv(tmp_path):
    rows = measurements.measure(random_cells(1))
    measurements.write_table(tmp_path / "cells.csv", rows)
    with open(tmp_path / "cells.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(row["cell"]) for row in read] == [row["cell"] for row in rows]
    assert float(read[2]["solidity"]) == pytest.approx(rows[2]["solidity"], abs=1e-4)
    measurements.write_table(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text().startswith("cell,area,")


@pytest.mark.parametrize("seed", range(3))
def test_outlines_hold_the_filled_cell(seed):
    cells = random_cells(seed)
    middles = np.stack(np.mgrid[:60, :70], axis=-1).reshape(-1, 2)[:, ::-1] + 0.5
    for number, box in measurements.cell_boxes(cells):
        mask = cells[box] == number
        corners = outlines.outline(mask) + [box[0].start, box[1].start]
        inside = Polygon(np.vstack([corners, corners[:1]])[:, ::-1]).contains_points(middles).reshape(cells.shape)
        filled = ndimage.binary_fill_holes(cells == number)
        np.testing.assert_array_equal(inside, filled)
        steps = np.abs(np.diff(np.vstack([corners, corners[:1]]), axis=0))
        assert (np.count_nonzero(steps, axis=1) == 1).all()  # along rows and columns in turn
        assert (np.argmax(steps[1:], axis=1) != np.argmax(steps[:-1], axis=1)).all()


def test_outlines_by_hand():
    assert outlines.outline(np.ones((1, 1), bool)).tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    diagonal = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)  # two pixels meet at a corner: the walk goes inside
    assert outlines.outline(diagonal).tolist() == [
        [0, 0], [0, 3], [2, 3], [2, 2], [1, 2], [1, 1], [2, 1], [2, 2], [3, 2], [3, 0],
    ] or outlines.outline(diagonal).tolist() == [[0, 0], [0, 3], [2, 3], [2, 2], [3, 2], [3, 0]]  # fmt: skip


def test_borders_are_where_numbers_differ():
    cells = np.array([[1, 1, 1, 2], [1, 1, 1, 2], [1, 1, 1, 0]])
    np.testing.assert_array_equal(outlines.borders(cells), [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    "call, found",
    [
        (lambda: measurements.measure(np.zeros((3, 4))), "float64"),
        (lambda: measurements.measure(np.zeros((3, 4), int), np.zeros((4, 3))), r"\(4, 3\)"),
    ],
)
def test_bad_input_is_named(call, found):
    with pytest.raises(InputError, match=found) as error:
        call()
    assert "\n" not in str(error.value) and "expected" in str(error.value)
