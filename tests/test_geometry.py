"""Sizes: against brute force, against the live network's shapes, and the receptive field against the live network's
gradient.
"""

import numpy as np
import pytest

from npunet import UNet, geometry
from npunet.errors import InputError

DEPTHS = [1, 2, 3, 4, 5]


def walk(size, depth, padding):
    """Output side or None, by following the sizes of single layers recursively:
    another way to say it than geometry's loops.
    """
    inner = size - 2 * (2 - 2 * padding)  # two 3x3 convolutions
    if inner < 1:
        return None
    if depth == 0:
        return inner
    below = walk(inner // 2, depth - 1, padding) if inner % 2 == 0 else None
    return 2 * below - 4 + 4 * padding if below and 2 * below - 4 + 4 * padding > 0 else None


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_size_up_to_700(depth, padding):
    valid = [size for size in range(1, 701) if walk(size, depth, padding)]
    members = set(valid)
    assert geometry.valid_input_sizes(700, depth, padding) == valid
    assert geometry.smallest_valid_size(depth, padding) == valid[0]
    for size in range(-3, valid[-1] + 1):
        assert geometry.is_valid_size(size, depth, padding) == (size in members)
        below, above = max((v for v in valid if v <= size), default=None), min(v for v in valid if v >= size)
        assert geometry.valid_sizes_around(size, depth, padding) == (below, above)
        nearest = min(valid, key=lambda v: (abs(v - size), -v))
        assert geometry.nearest_valid_size(size, depth, padding) == nearest
        if size in members:
            assert geometry.output_size(size, depth, padding) == walk(size, depth, padding)
        else:
            with pytest.raises(InputError, match=f"tile {size} is not a valid input size"):
                geometry.output_size(size, depth, padding)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("depth", DEPTHS)
def test_input_size_for_an_output(depth, padding):
    valid = geometry.valid_input_sizes(900, depth, padding)
    for output in range(1, 200):
        assert geometry.input_size_for(output, depth, padding) == next(
            n for n in valid if walk(n, depth, padding) >= output
        )


@pytest.mark.parametrize("depth", DEPTHS)
def test_border_lost_is_the_same_for_all_sizes(depth):
    for size in geometry.valid_input_sizes(600, depth):
        assert size - geometry.output_size(size, depth) == geometry.border_lost(depth)


def test_messages_name_the_nearest_sizes():
    with pytest.raises(InputError, match="^tile 570 is not a valid input size; nearest are 556 and 572$"):
        geometry.output_size(570)
    with pytest.raises(InputError, match="^tile 64 is not a valid input size; the smallest is 188$"):
        geometry.output_size(64)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_live_network_has_these_sizes(depth):
    net = UNet(1, 2, 1, depth)
    for size in geometry.valid_input_sizes(130, depth)[:3]:
        assert net.forward(np.zeros((1, size, size, 1), "float32")).shape == (
            1,
            net.output_size(size),
            geometry.output_size(size, depth),
            2,
        )


def seen_sides(depth, images=24):
    """Sides of the square of input pixels whose gradient is not zero, for each output pixel of one period, united over
    random images.
    """
    net = UNet(1, 1, 2, depth, dropout=0.0, dtype="float64")
    for parameter in net.parameters.values():
        parameter.value[...] = np.abs(parameter.value)  # positive everywhere: nothing cancels, no ReLU is off
    period = 2**depth
    size = geometry.smallest_valid_size(depth) + 4 * period
    x = np.random.default_rng(0).uniform(0, 1, (images, size, size, 1))
    middle = geometry.output_size(size, depth) // 2
    sides = []
    for pixel in range(middle, middle + period):
        logits = net.forward(x, train=True)
        dlogits = np.zeros_like(logits)
        dlogits[:, pixel, pixel] = 1
        gradient = np.abs(net.backward(dlogits)[..., 0]).max(axis=0)
        seen = gradient > 1e-12 * gradient.max()  # fast convolutions round: 0 is 1e-16
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        assert rows[0] == columns[0] and rows[-1] == columns[-1]
        sides.append(rows[-1] - rows[0] + 1)
    return sides


@pytest.mark.parametrize("depth", [1, 2])
def test_receptive_field_is_where_the_gradient_is(depth):
    sides = seen_sides(depth)
    assert (min(sides), max(sides)) == geometry.receptive_field(depth)
    assert max(sides) <= geometry.border_lost(depth) + 2**depth  # inside the tile that the output pixel comes from


def test_of_two_sizes_equally_near_the_larger_is_taken():
    assert [geometry.nearest_valid_size(size) for size in (195, 196, 197)] == [188, 204, 204]


def test_valid_sizes_up_to_one_of_them():
    assert geometry.valid_input_sizes(187) == []
    assert geometry.valid_input_sizes(203) == [188]
    assert geometry.valid_input_sizes(204) == [188, 204]
