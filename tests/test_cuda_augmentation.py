"""A tile that is drawn on the GPU is the tile that is drawn on the CPU;
the kernels run on a CPU here (cuda_on_cpu.py).
"""

import numpy as np
import pytest

from npunet import training
from npunet.augmentation import NO_AUGMENTATION, Settings
from npunet.datasets.dataset import Sample
from npunet.machine.backend import to_cpu
from npunet.training import Recipe, batches, draw_tile, drawn_on_gpu, moved, placed


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


def test_the_border_term_is_for_the_host():
    assert drawn_on_gpu(Settings(w0=0.0)) and not drawn_on_gpu(Settings())


def test_samples_are_placed_where_tiles_are_drawn(gpu, rng):
    samples = [section(rng, 1)]
    there, workers = placed(samples, "gpu", Settings(w0=0.0))
    assert isinstance(there[0].image, gpu.ndarray) and workers == 1
    assert placed(samples, "gpu", Settings())[0] is samples and placed(samples, "cpu", Settings(w0=0.0)) == (samples, 1)
    recipe = Recipe(steps=1, tile=60, batch=2)
    mine, expected = (next(batches(given, recipe, 40, 0, Settings(w0=0.0)))[1] for given in (there, samples))
    np.testing.assert_array_equal(to_cpu(mine), expected)
