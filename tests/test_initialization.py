"""Initialisation (§3):
the standard deviation, and that feature maps keep about unit variance all the way through the network.
"""

import numpy as np
import pytest

from npunet import UNet
from npunet.initialization import gaussian, standard_deviation, zeros


def test_distribution():
    """65,536 weights: mean and standard deviation within five standard errors, fourth moment that of a Gaussian."""
    weight = gaussian((3, 3, 64, 128), 576, np.random.default_rng(0), "float64")
    n, expected = weight.size, standard_deviation(576)
    assert abs(weight.mean()) < 5 * expected / np.sqrt(n)
    assert abs(weight.std() / expected - 1) < 5 / np.sqrt(2 * n)
    assert np.mean((weight / expected) ** 4) == pytest.approx(3, rel=0.1)


def test_both_precisions_start_alike_and_a_seed_decides():
    def draw(seed, dtype):
        return gaussian((3, 3, 2, 4), 18, np.random.default_rng(seed), dtype)

    assert draw(1, "float32").dtype == "float32"
    np.testing.assert_array_equal(draw(1, "float64").astype("float32"), draw(1, "float32"))
    assert (draw(1, "float64") != draw(2, "float64")).all()
    np.testing.assert_array_equal(zeros(3, "float32"), np.zeros(3, "float32"))


def test_every_layer_uses_its_own_number_of_incoming_nodes():
    net = UNet(in_channels=3, base_channels=16, depth=2)
    for name, parameter in net.parameters.items():
        if name.endswith("bias"):
            assert not parameter.value.any(), name
            continue
        kh, kw, channels, _ = parameter.value.shape
        incoming = channels if ".up." in name else kh * kw * channels  # one tap reaches a pixel that is upsampled
        tolerance = 5 / np.sqrt(2 * parameter.value.size)
        gain = 1 if ".up." in name or name.startswith("output") else 2  # no ReLU follows there
        assert parameter.value.std() == pytest.approx(np.sqrt(gain / incoming), rel=tolerance), name


def test_feature_maps_keep_about_unit_variance(rng):
    """The paper: "...such that each feature map in the network has approximately unit variance" (§3).

    Max-pooling raises the second moment somewhat; 1/8 .. 8 leaves room for that, while sqrt(1 / N) would end near
    1/1000.
    """
    net = UNet(base_channels=32, depth=2, dropout=0.0, seed=1)
    for name, feature_map in net.feature_maps(rng.standard_normal((1, 60, 60, 1)).astype("float32")).items():
        if "conv" in name:
            assert 1 / 8 < np.mean(feature_map.astype("float64") ** 2) < 8, name
