"""A tile that is drawn on the GPU is the tile that is drawn on the CPU;
the kernels run on a CPU here (cuda_on_cpu.py).
"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage

from npunet import training
from npunet.augmentation import NO_AUGMENTATION, Settings, separate_pieces
from npunet.datasets.dataset import Sample
from npunet.gpu import weight_map as gpu_weight_map
from npunet.gpu.weight_map import border_weights
from npunet.machine.backend import to_cpu
from npunet.training import Recipe, batches, draw_tile, moved, placed
from npunet.weight_map import weight_map_definition


@pytest.fixture
def gpu(gpu, monkeypatch):
    """The strict stand-in for CuPy, with the package's kernels at work on it."""
    xp = gpu
    monkeypatch.setattr(training, "to_device", lambda x, device: xp.asarray(x))
    return xp


def section(rng, channels, ignore=False, height=37, width=52):
    labels = rng.integers(0, 3, (height, width))
    return Sample(
        "one",
        rng.random((height, width, channels), dtype="float32"),
        labels,
        labels.astype("int32"),
        rng.random((height, width)) < 0.3 if ignore else None,
    )


@pytest.mark.parametrize(
    "channels, ignore, settings",
    [
        (1, False, Settings(w0=0.0)),
        (3, True, Settings(w0=0.0, class_weights=(0.5, 2.0, 1.0))),
        (1, False, Settings(w0=0.0, grey=0.0, elastic=30.0)),
        (1, True, Settings(w0=0.0, elastic=0.0, rotation=0.0, shift=False)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_tile_on_both_devices(gpu, rng, channels, ignore, settings, seed):
    """The tile is larger than the section, so that it is mirrored on all sides, more than once."""
    sample = section(rng, channels, ignore)
    there = moved(sample, "gpu")
    expected = draw_tile(sample, 120, 60, np.random.default_rng(seed), settings)
    mine = draw_tile(there, 120, 60, np.random.default_rng(seed), settings)
    for a, b, name in zip(mine, expected, ("image", "labels", "weights"), strict=True):
        assert isinstance(a, gpu.ndarray) and a.shape == b.shape and a.dtype == b.dtype, name
    np.testing.assert_allclose(to_cpu(mine[0]), expected[0], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(to_cpu(mine[1]), expected[1])
    np.testing.assert_allclose(to_cpu(mine[2]), expected[2], rtol=1e-6)


def test_without_augmentation_it_is_the_section_itself(gpu, rng):
    sample = section(rng, 1)
    image, labels, weights = draw_tile(
        moved(sample, "gpu"), 36, 36, rng, NO_AUGMENTATION.__class__(**(vars(NO_AUGMENTATION) | dict(w0=0.0)))
    )
    np.testing.assert_allclose(to_cpu(image), sample.image[:36, 8:44], atol=1e-6)
    np.testing.assert_array_equal(to_cpu(labels), sample.labels[:36, 8:44])
    assert (to_cpu(weights) == 1).all()


def discs(rng, size, count, radius):
    """(size, size) int32: numbered discs, some of which touch or lie over others."""
    instances = np.zeros((size, size), "int32")
    y, x = np.ogrid[:size, :size]
    for number, (row, column) in enumerate(rng.integers(0, size, (count, 2)), start=1):
        instances[(y - row) ** 2 + (x - column) ** 2 <= rng.integers(1, radius) ** 2] = number
    return instances


@pytest.mark.parametrize(
    "output, reach, count, radius", [(13, 18, 12, 7), (20, 12, 30, 4), (20, 4, 0, 9), (20, 4, 1, 9)]
)
def test_the_border_term_is_that_of_the_definition(gpu, rng, output, reach, count, radius):
    """The definition knows no reach: what it adds beyond is asserted to be small."""
    size, sigma = output + 2 * reach, reach / 6
    instances = discs(rng, size, count, radius)
    position = np.arange(size * size).reshape(size, size)
    mine = border_weights(gpu.asarray(instances), gpu.asarray(position), output, reach, 10.0, sigma)
    middle = slice(reach, reach + output)
    expected = weight_map_definition(separate_pieces(instances), 10.0, sigma)[middle, middle]
    np.testing.assert_allclose(to_cpu(mine), expected, rtol=0, atol=1e-6)
    assert count < 2 or expected.max() > 1.5


@pytest.mark.parametrize("seed, settings", [(0, Settings()), (1, Settings(class_weights=(0.5, 2.0), sigma=3.0))])
def test_the_border_term_of_a_deformed_tile(gpu, rng, seed, settings):
    """The tile is twice as large as the section: cells and their mirror images are different cells."""
    sample = section(rng, 1, ignore=True)
    instances = discs(rng, 52, 12, 6)[:37]
    sample = replace(sample, labels=(instances > 0).astype("int64"), instances=instances)
    expected = draw_tile(sample, 120, 60, np.random.default_rng(seed), settings)
    mine = draw_tile(moved(sample, "gpu"), 120, 60, np.random.default_rng(seed), settings)
    np.testing.assert_array_equal(to_cpu(mine[1]), expected[1])
    np.testing.assert_allclose(to_cpu(mine[2]), expected[2], rtol=0, atol=1e-6)
    assert expected[2].max() > 5


@pytest.mark.parametrize("shape", ["snake", "comb", "noise"])
def test_pieces_are_joined_however_long_they_are(gpu, rng, shape):
    instances = np.zeros((21, 21), "int32")
    instances[::2] = 1
    if shape == "snake":
        instances[1::4, -1] = instances[3::4, 0] = 1
    if shape == "comb":
        instances[:, -1] = 1
    if shape == "noise":
        instances = (rng.random((21, 21)) < 0.4).astype("int32")
    x, position = gpu.asarray(instances), gpu.asarray(np.arange(441).reshape(21, 21))
    parent, cell = gpu.empty((21, 21), dtype="int32"), gpu.empty((21, 21), dtype="int64")
    for kernel, *arguments in (
        ("each_its_own", x, position, parent, 441),
        ("join_neighbours", parent, 21),
        ("name_cells", x, position, parent, cell, 441),
    ):
        gpu_weight_map.KERNELS.launch(kernel, 441, *arguments, dtype="float32")
    expected, pieces = scipy.ndimage.label(instances, structure=np.ones((3, 3)))
    pairs = set(zip(to_cpu(cell).ravel().tolist(), expected.ravel().tolist()))
    assert len(pairs) == pieces + 1  # a name for each piece, and 0


def test_samples_are_placed_where_tiles_are_drawn(gpu, rng):
    samples = [section(rng, 1)]
    there = placed(samples, "gpu")
    assert isinstance(there[0].image, gpu.ndarray) and placed(samples, "cpu") is samples
    recipe = Recipe(steps=1, tile=60, batch=2)
    mine, expected = (next(batches(given, recipe, 40, 0, Settings(w0=0.0)))[1] for given in (there, samples))
    np.testing.assert_array_equal(to_cpu(mine), expected)
