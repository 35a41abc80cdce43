"""A training that must learn: better than a linear classifier on sections that neither has seen."""

import numpy as np
import pytest
from scipy import ndimage

from npunet import UNet, tiling
from npunet.augmentation import Settings
from npunet.commands.train_options import grey_statistics
from npunet.datasets import synthetic
from npunet.training import Recipe, batches, learning_rate, make_optimizer, training_step


@pytest.fixture(scope="module")
def sections():
    return synthetic(n_sections=6, size=256, seed=11).split(2)


def accuracy(found, samples):
    return np.mean([np.mean(one == sample.labels) for one, sample in zip(found, samples)])


def features(sample):
    """(pixels, 6): the grey value at five blurs, and 1."""
    blurred = [ndimage.gaussian_filter(sample.image[..., 0], sigma) for sigma in (0, 1, 2, 4, 8)]
    return np.stack([*blurred, np.ones_like(blurred[0])], axis=-1).reshape(-1, 6).astype(np.float64)


def best_linear_accuracy(training, held_out):
    """Least squares on five blurs, with the threshold that is best on the held-out sections themselves:
    a generous bar.
    """
    inputs = np.concatenate([features(sample) for sample in training])
    targets = np.concatenate([sample.labels.ravel() for sample in training])
    solution = np.linalg.lstsq(inputs, targets.astype(np.float64), rcond=None)[0]
    scores = [(features(sample) @ solution).reshape(sample.labels.shape) for sample in held_out]
    return max(accuracy([score > threshold for score in scores], held_out) for threshold in np.linspace(0, 1, 51))


def test_a_small_network_beats_the_linear_classifier_and_the_untrained_one(sections):
    training, held_out = (part.samples for part in sections)
    mean, std = grey_statistics(training)
    net = UNet(base_channels=8, depth=3, variant="pytorch-unet", seed=1, input_mean=mean, input_std=std)
    recipe = Recipe(steps=100, tile=160, batch=2, learning_rate=3e-3, warmup=20, seed=1)

    def held_out_accuracy():
        return accuracy([tiling.classify(tiling.predict(net, sample.image, 256)) for sample in held_out], held_out)

    untrained, linear = held_out_accuracy(), best_linear_accuracy(training, held_out)
    optimizer = make_optimizer(recipe, net.parameters)
    for step, batch in enumerate(batches(training, recipe, net.output_size(recipe.tile), 0, Settings(w0=0.0))):
        optimizer.learning_rate = learning_rate(recipe, step)
        training_step(net, optimizer, *batch, clip=recipe.clip)
    trained = held_out_accuracy()
    print(f"untrained {untrained:.4f}, linear {linear:.4f}, trained {trained:.4f}")
    assert trained > linear + 0.01 and trained > untrained + 0.1
