"""Checks of exercise 4, run as: pytest lessons/exercises/check_04_the_u.py"""

import numpy as np
import pytest
from exercise import load

import npunet

answer = load("04_the_u")


def test_the_grey_arrows_of_fig_1():
    assert [tuple(level) for level in answer.skips(572)] == [
        (568, 392, 88),
        (280, 200, 40),
        (136, 104, 16),
        (64, 56, 4),
    ]


@pytest.mark.parametrize("tile, depth", [(188, 4), (108, 3), (60, 2), (64, 2), (22, 1)])
def test_the_live_network_agrees(tile, depth):
    net = npunet.UNet(base_channels=1, depth=depth)
    maps = net.feature_maps(np.zeros((1, tile, tile, 1), np.float32))
    for level, (skip, upsampled, crop) in enumerate(answer.skips(tile, depth)):
        assert skip == maps[f"contracting.{level}.dropout"].shape[1]
        assert upsampled == maps[f"expansive.{level}.up"].shape[1]
        assert 2 * crop == skip - upsampled
    assert level == depth - 1


@pytest.mark.parametrize("tile", [570, 571, 573, 574, 172, 0])
def test_tiles_that_do_not_fit_are_refused(tile):
    with pytest.raises(ValueError):
        answer.skips(tile)
