"""Cells block by block, as several processes find them: the same as of the whole image."""

import numpy as np
import pytest
from scipy import ndimage

from npunet.instances import blocks, strips


def in_blocks(marks, side, seeded, min_size):
    """Cells of `marks` by way of blocks of this side, each of which sees its own marks alone."""
    height, width = marks.shape
    downs = [slice(top, min(top + side, height)) for top in range(0, height, side)]
    acrosses = [slice(left, min(left + side, width)) for left in range(0, width, side)]
    grid = [(rows, columns) for rows in downs for columns in acrosses]
    summaries = [blocks.summary(marks[place], place[0].start, place[1].start, width, seeded) for place in grid]
    joined = blocks.join(summaries.__getitem__, (len(downs), len(acrosses)), width, seeded, min_size)
    parts = {}
    for place in grid:
        for group in joined.clumps_beginning_in(*place).tolist():
            parts[group] = blocks.parts_of(marks[joined.box(group)], joined, group, min_size)[1]
    assert sorted(parts) == joined.clumps.tolist()  # each clump has one owner
    blocks.number(joined, parts)
    found = np.full(marks.shape, -1, np.int32)
    for index, place in enumerate(grid):
        clump = lambda group: blocks.parts_of(marks[joined.box(group)], joined, group, min_size)[0]
        found[place] = joined.cells(index, marks[place], *place, clump)
    for place in grid:
        for number in joined.cells_beginning_in(*place).tolist():
            y, x = divmod(int(joined.begins[number - 1]), width)
            assert found[y, x] == number and place[0].start <= y < place[0].stop and place[1].start <= x < place[1].stop
            assert ndimage.find_objects(found)[number - 1] == blocks.slices(joined.extents[number - 1])
    return found, joined


def smooth(shape, sigma, seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (0.5 + noise / (3 * noise.std())).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("side", [1, 7, 16, 64, 200])
@pytest.mark.parametrize("min_size", [1, 12])
def test_a_seeded_watershed_in_blocks_is_that_of_the_whole(side, min_size):
    shape = (9, 11) if side == 1 else (90, 131)
    marks = strips.ranks_of(smooth(shape, 2.5, side), 0.45, 0.7)
    whole = np.empty(shape, np.int32)
    count = strips.cut_ranks(marks, whole, min_size)
    found, joined = in_blocks(marks, side, True, min_size)
    np.testing.assert_array_equal(found, whole)
    assert joined.count == count and (side == 1 or len(joined.clumps) > 0)


@pytest.mark.parametrize("side", [5, 32])
def test_components_of_classes_in_blocks_are_those_of_the_whole(side):
    marks = (4 * smooth((70, 50), 1.5, side)).astype(np.uint8)
    whole = np.empty(marks.shape, np.int32)
    count = strips.cut_classes(marks, whole, 3)
    found, joined = in_blocks(marks, side, False, 3)
    np.testing.assert_array_equal(found, whole)
    assert joined.count == count > 5


def test_a_snake_through_all_blocks_is_one_cell_and_nothing_is_none():
    marks = np.zeros((20, 20), np.uint8)
    marks[::2] = strips.SEED
    marks[1::4, -1] = marks[3::4, 0] = strips.SEED
    found, joined = in_blocks(marks, 6, True, 1)
    np.testing.assert_array_equal(found, (marks > 0).astype(np.int32))
    found, joined = in_blocks(np.zeros((20, 20), np.uint8), 6, True, 1)
    assert joined.count == 0 and not found.any()
