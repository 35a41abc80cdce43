"""Eq. 2 against its own loops, against whole-image distance transforms, and at values worked out by hand."""

import math

import numpy as np
import pytest
from scipy import ndimage

from npunet.errors import InputError
from npunet.weight_map import border_reach, class_balance, from_mask, weight_map, weight_map_definition


def scattered_instances(rng, shape, n, radius):
    """n overlapping discs: cells of odd shapes, some in several pieces, some touching, numbers with gaps."""
    y, x = np.indices(shape)
    instances = np.zeros(shape, np.int32)
    for label in 2 * np.arange(1, n + 1):
        v, u = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        instances[(y - v) ** 2 + (x - u) ** 2 < rng.uniform(1, radius) ** 2] = label
    return instances


def whole_image_weight_map(instances, w0, sigma):
    """No windows, no cut-off: a full stack of distances, sorted."""
    labels = [label for label in np.unique(instances) if label]
    distances = np.sort([ndimage.distance_transform_edt(instances != label) for label in labels], axis=0)
    border = w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, 1 + border, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    instances = scattered_instances(rng, (13, 17), 3 + seed, 5)
    w_c = rng.uniform(0.3, 3, instances.shape)
    for arguments in ({}, {"w0": 3.0, "sigma": 1.3}, {"w_c": w_c}):
        expected = weight_map_definition(instances, **arguments)
        assert expected.max() > expected.min()
        np.testing.assert_allclose(weight_map(instances, **arguments), expected, rtol=2e-7)


@pytest.mark.parametrize("w0, sigma", [(10.0, 5.0), (10.0, 1.5), (1e-3, 4.0), (1000.0, 2.0)])
def test_windows_lose_nothing_in_float32(w0, sigma):
    instances = scattered_instances(np.random.default_rng(1), (150, 190), 25, 12)
    assert border_reach(w0, sigma) < 60  # so that the windows really leave pixels out
    np.testing.assert_array_equal(weight_map(instances, w0, sigma), whole_image_weight_map(instances, w0, sigma))


@pytest.mark.parametrize("gap", range(1, 45))
def test_one_gap_of_every_width(gap):
    """Two half-planes `gap` pixels apart:
    d1 + d2 = gap + 1 all over the gap, also just inside and outside the cut-off.
    """
    instances = np.zeros((3, gap + 4), np.int32)
    instances[:, :2], instances[:, -2:] = 1, 2
    expected = np.float32(1 + 10 * math.exp(-((gap + 1) ** 2) / 50))
    result = weight_map(instances)
    np.testing.assert_array_equal(result[:, 2:-2], expected)
    np.testing.assert_array_equal(result[instances > 0], 1)


def test_border_reach_is_where_the_term_ends():
    for w0, sigma in [(10.0, 5.0), (0.1, 3.0), (500.0, 8.0)]:
        reach = border_reach(w0, sigma)
        assert (
            w0 * math.exp(-((reach + 2) ** 2) / (2 * sigma**2))
            <= 2.0**-25
            < w0 * math.exp(-((reach + 1) ** 2) / (2 * sigma**2))
        )
    assert border_reach(10.0, 5.0) == 30
    assert border_reach(0.0, 5.0) is None


def test_worked_example():
    """A pixel one step from one cell and three from the other: 1 + 10 exp(-16/50) = 8.261490..."""
    instances = np.array([[1, 0, 0, 0, 2]])
    np.testing.assert_allclose(weight_map(instances), [[1, 8.261490, 8.261490, 8.261490, 1]], rtol=1e-6)


def test_the_third_cell_does_not_count_and_two_pieces_are_one_cell():
    three = np.array([[1, 0, 0, 2, 3, 3, 3]])
    two = np.array([[1, 0, 0, 2, 2, 2, 2]])
    np.testing.assert_array_equal(weight_map(three), weight_map(two))
    np.testing.assert_array_equal(weight_map(np.array([[1, 0, 1]])), 1)


@pytest.mark.parametrize("instances", [np.zeros((5, 6), int), np.eye(5, dtype=np.uint16), np.full((4, 4), 3)])
def test_without_a_second_cell_it_is_w_c(instances):
    np.testing.assert_array_equal(weight_map(instances), 1)
    np.testing.assert_array_equal(weight_map(instances, sigma=1e6, w_c=0.25), 0.25)


def test_w0_zero_leaves_w_c():
    w_c = np.array([[0.5, 2, 0.5]])
    np.testing.assert_array_equal(weight_map(np.array([[1, 0, 2]]), w0=0.0, w_c=w_c), w_c)


def test_contract():
    instances = scattered_instances(np.random.default_rng(3), (30, 40), 6, 8)
    before = instances.copy()
    result = weight_map(instances)
    assert result.dtype == np.float32 and result.shape == instances.shape
    np.testing.assert_array_equal(instances, before)
    np.testing.assert_array_equal(weight_map(np.asfortranarray(instances)), result)
    np.testing.assert_array_equal(weight_map(instances[::-1].T), result[::-1].T)
    for dtype in (np.uint8, np.uint16, np.int64):
        np.testing.assert_array_equal(weight_map(instances.astype(dtype)), result)
    relabelled = np.random.default_rng(4).permutation(13)[instances] + 1
    np.testing.assert_array_equal(weight_map(np.where(instances > 0, relabelled, 0)), result)


def test_from_mask_is_4_connected():
    """Two cells that meet at a corner are two cells, and the background pixels at that corner are between them."""
    mask = np.array([[255, 0], [0, 255]])
    expected = 1 + 10 * math.exp(-4 / 50)
    np.testing.assert_allclose(from_mask(mask), [[1, expected], [expected, 1]], rtol=1e-6)
    np.testing.assert_array_equal(from_mask(mask != 0), from_mask(mask))


def test_class_balance():
    labels = np.array([[0, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_allclose(class_balance(labels, 2), [8 / 4, 8 / 12])
    assert class_balance(labels, 2)[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(class_balance(labels, 3), [8 / 4, 8 / 12, 1])  # class 2 has no pixels
    ignore = labels == 0
    ignore[0, 0] = False
    np.testing.assert_allclose(class_balance(labels, 2, ignore), [7 / 2, 7 / 12])
    np.testing.assert_allclose(class_balance([labels, labels[:1]], 2), [12 / 6, 12 / 18])
    np.testing.assert_allclose(class_balance([labels, labels[:1]], 2, [ignore, None]), [11 / 4, 11 / 18])
    np.testing.assert_array_equal(class_balance(labels, 2, np.ones_like(labels, bool)), [1, 1])


@pytest.mark.parametrize(
    "call, found",
    [
        (lambda: weight_map(np.zeros((4, 4))), "float64"),
        (lambda: weight_map(np.zeros((4, 4), bool)), "bool"),
        (lambda: weight_map(np.zeros((2, 4, 4), int)), r"\(2, 4, 4\)"),
        (lambda: weight_map(np.full((4, 4), -1)), "negative"),
        (lambda: weight_map(np.zeros((4, 4), int), sigma=0), "sigma = 0"),
        (lambda: weight_map(np.zeros((4, 4), int), sigma=math.nan), "sigma = nan"),
        (lambda: weight_map(np.zeros((4, 4), int), w0=math.inf), "w0 = inf"),
        (lambda: from_mask(np.zeros((2, 4, 4), bool)), r"\(2, 4, 4\)"),
        (lambda: class_balance(np.array([0, 255]), 2), "0 to 255"),
    ],
)
def test_bad_input_is_named(call, found):
    with pytest.raises(InputError, match=found) as error:
        call()
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_where_a_border_begins_to_be_felt():
    assert border_reach(2.0**-25, 5) is None and border_reach(2.1 * 2.0**-25, 50) is not None
    assert border_reach(10, 5) == 30  # as the docstring says
    assert border_reach(1e-7, 0.1) == 0
