"""Scaled images and predictions: sizes, what nearest neighbour keeps, and interpolation between logits."""

import numpy as np
import pytest

from npunet import UNet, tiling
from npunet.commands import scaling
from npunet.datasets import synthetic
from npunet.datasets.dataset import Dataset, Sample
from npunet.errors import InputError


def test_sizes_are_rounded_down():
    assert scaling.scaled_size((101, 50, 3), 0.5) == (50, 25) and scaling.scaled_size((10, 10), 1) == (10, 10)
    for scale, shape in ((0, (9, 9)), (1.01, (9, 9)), (-1, (9, 9)), (float("nan"), (9, 9)), (0.1, (9, 100))):
        with pytest.raises(InputError, match="--scale"):
            scaling.scaled_size(shape, scale)


def test_samples_shrink_together():
    """Four squares of 8 x 8 pixels become four of 4 x 4:
    classes and instances stay whole, a dot between two pixels vanishes.
    """
    instances = np.kron(np.array([[1, 2], [3, 4]]), np.ones((8, 8), np.int32)).astype(np.int32)
    instances[1, 0] = 5
    image = (instances[..., None] / 8).astype(np.float32)
    sample = Sample("squares", image, (instances % 2).astype(np.int64), instances, instances == 3)
    (small,) = scaling.scaled_dataset(Dataset("d", [sample], 2), 0.5).samples
    assert small.image.shape == (8, 8, 1) and small.image.dtype == np.float32
    assert (
        set(np.unique(small.instances)) <= {1, 2, 3, 4, 5}
        and small.instances.dtype == np.int32
        and small.labels.dtype == np.int64
    )
    np.testing.assert_array_equal(small.instances[2:, 2:], np.kron([[1, 2], [3, 4]], np.ones((4, 4)))[2:, 2:])
    np.testing.assert_array_equal(small.ignore, small.instances == 3)
    assert abs(small.image[1:3, 5:7, 0] - 0.25).max() < 0.01
    dataset = synthetic(n_sections=1, size=40)
    assert scaling.scaled_dataset(dataset, 1) is dataset


def test_a_lone_dot_vanishes_and_the_others_are_numbered_anew():
    instances = np.zeros((4, 4), np.int32)
    instances[0, 0], instances[2:, 2:] = 1, 2
    sample = Sample("dot", np.zeros((4, 4, 1), np.float32), (instances > 0).astype(np.int64), instances)
    (small,) = scaling.scaled_dataset(Dataset("d", [sample], 2), 0.5).samples
    np.testing.assert_array_equal(small.instances, [[0, 0], [0, 1]])


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_predictions_are_interpolated_as_logits(n_classes, rng):
    """Against bilinear interpolation by hand, with pixel centres at halves."""
    net = UNet(3, n_classes, 2, 1, variant="pytorch-unet", seed=1)
    image = rng.random((12, 18, 3)).astype(np.float32)
    small = scaling.resize(image, 6, 9)
    logits = net.forward(np.clip(small, 0, 1)[None])[0]
    logits = np.concatenate([0 * logits, logits], axis=-1) if n_classes == 1 else logits

    def along(values, length):  # first axis
        position = np.clip((np.arange(length) + 0.5) * len(values) / length - 0.5, 0, len(values) - 1)
        low = np.minimum(position.astype(int), len(values) - 2)
        share = (position - low)[:, None, None]
        return (1 - share) * values[low] + share * values[low + 1]

    large = along(along(logits, 12).swapaxes(0, 1), 18).swapaxes(0, 1)
    expected = np.exp(large) / np.exp(large).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(scaling.predict(net, image, 0.5), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(scaling.predict(net, image, 1.0), tiling.predict(net, image))
