"""Checks of exercise 9, run as: pytest lessons/exercises/check_09_overlap_tile.py"""

import numpy as np
import pytest
from exercise import load

import npunet
from npunet.tiling import gather

answer = load("09_overlap_tile")


@pytest.mark.parametrize(
    ("length", "output", "grid", "expected"),
    [
        (512, 388, 16, [0, 384]),
        (388, 388, 16, [0]),
        (389, 388, 16, [0, 384]),
        (100, 388, 16, [0]),
        (772, 388, 16, [0, 384]),
        (773, 388, 16, [0, 384, 768]),
        (40, 16, 16, [0, 16, 32]),
        (41, 20, 8, [0, 16, 32]),
        (36, 20, 8, [0, 16]),
    ],
)
def test_where_tiles_begin(length, output, grid, expected):
    assert answer.starts(length, output, grid) == expected


def pooling_grid(tile, output, grid):
    """A network that is nothing but its pooling:
    each pixel answers with the largest of its window, read `border` pixels inwards.
    """
    border = (tile - output) // 2

    def forward(x):
        assert x.shape == (tile, tile)
        pooled = x.reshape(tile // grid, grid, tile // grid, grid).max(axis=(1, 3))
        return np.kron(pooled, np.ones((grid, grid)))[border : border + output, border : border + output]

    return forward


@pytest.mark.parametrize("shape", [(60, 44), (24, 24), (23, 61)])
def test_the_pooling_grid_of_tiles_is_that_of_one_big_pass(shape):
    """Tiles of 24 answer for 16 and lose 4 on each side; windows of 4 pixels begin 4 pixels before the image."""
    image = np.random.default_rng(9).random(shape)
    side = 4 * (-(-max(shape) // 4)) + 8
    big = gather(image, -4, -4, side, side)  # (side, side), mirrored
    expected = pooling_grid(side, side - 8, 4)(big)[: shape[0], : shape[1]]
    np.testing.assert_array_equal(answer.overlap_tile(pooling_grid(24, 16, 4), image, 24, 16, 4), expected)


def test_a_real_network():
    net = npunet.UNet(1, 2, base_channels=3, depth=2, dropout=0.0, seed=2, dtype="float64")
    image = np.random.default_rng(3).random((70, 55))
    found = answer.overlap_tile(lambda x: net.forward(x[None, ..., None])[0, ..., 1], image, 76, net.output_size(76), 4)
    side = next(n for n in range(70 + 44, 130) if npunet.geometry.is_valid_size(n, 2))
    big = net.forward(gather(image, -20, -20, side, side)[None, ..., None])[
        0, :70, :55, 1
    ]  # two poolings cost 20 pixels on each side
    assert found.shape == image.shape
    np.testing.assert_allclose(found, big, atol=1e-12)
