"""Background between cells that touch (§3): where it comes, and what stays as it was."""

import numpy as np
import pytest

from npunet.datasets import Sample
from npunet.weight_map import weight_map, with_gaps


def sample(instances):
    instances = np.array(instances, np.int32)
    return Sample("a", np.zeros((*instances.shape, 1), np.float32), (instances > 0).astype(np.int64), instances)


def test_gaps_by_hand():
    touching = sample([[1, 1, 1, 2, 2, 2, 0, 3, 3], [1, 1, 1, 2, 2, 2, 0, 3, 3]])
    parted = with_gaps(touching)
    assert parted.instances.tolist() == [[1, 1, 0, 0, 2, 2, 0, 3, 3]] * 2 and parted.instances.dtype == np.int32
    assert parted.labels.tolist() == [[1, 1, 0, 0, 1, 1, 0, 1, 1]] * 2 and parted.labels.dtype == np.int64
    assert with_gaps(touching, 2).instances.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 3]] * 2  # 3 is two pixels from 2
    assert touching.instances[0, 2] == 1 and touching.labels[0, 2] == 1  # the sample is not written to


@pytest.mark.parametrize("width", [1, 2])
def test_a_pixel_is_given_up_if_another_cell_is_in_its_window(rng, width):
    instances = rng.choice([0, 0, 1, 2, 3], (20, 25)).repeat(3, 0).repeat(3, 1)
    found = with_gaps(sample(instances), width).instances
    for (y, x), number in np.ndenumerate(instances):
        window = instances[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        assert found[y, x] == (0 if ((window > 0) & (window != number)).any() else number)


def test_a_gap_is_what_the_weight_map_needs():
    """Without it cells that touch have no background between them and Eq. 2 weighs nothing there."""
    touching = sample(np.repeat([[1] * 9 + [2] * 9], 12, axis=0))
    assert weight_map(touching.instances).max() == 1
    assert weight_map(with_gaps(touching).instances)[:, 8:10].min() == pytest.approx(1 + 10 * np.exp(-(3**2) / 50))
