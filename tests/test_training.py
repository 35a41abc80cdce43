"""The training step, the schedule and the drawing of batches."""

import types

import numpy as np
import pytest

from npunet import InputError, UNet, training
from npunet.augmentation import NO_AUGMENTATION, Settings
from npunet.datasets import synthetic
from npunet.loss import dice_loss, weighted_cross_entropy
from npunet.machine import ranks
from npunet.optimizers import SGD, Adam, RMSprop, gradient_norm
from npunet.training import (
    NotFinite,
    Plateau,
    Recipe,
    batches,
    draw_batch,
    energy_of,
    learning_rate,
    make_optimizer,
    training_step,
)

RECIPE = Recipe(steps=4, tile=36, batch=2, learning_rate=1e-2, warmup=2, seed=5)


@pytest.fixture(scope="module")
def samples():
    return synthetic(n_sections=2, size=64, seed=1).samples


@pytest.fixture(scope="module")
def batch(samples):
    return draw_batch(samples, RECIPE, 20, 0, NO_AUGMENTATION)


@pytest.fixture
def net():
    return UNet(base_channels=8, depth=1, dropout=0.0, seed=3, input_mean=0.5, input_std=0.2)


def test_learning_rate_rises_to_its_peak_and_falls_to_zero():
    recipe = Recipe(steps=100, learning_rate=0.5, warmup=10)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.05, rel=1e-3)  # a tenth of the way up
    assert np.argmax(rates) == 9 and max(rates) < 0.5
    assert rates[50] == pytest.approx(0.25)  # the middle of half a cosine
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(before > after for before, after in zip(rates[9:], rates[10:]))


def test_a_batch_depends_on_seed_and_step_alone(samples):
    first = draw_batch(samples, RECIPE, 20, 7, Settings())
    again = draw_batch(samples, RECIPE, 20, 7, Settings())
    other = draw_batch(samples, RECIPE, 20, 8, Settings())
    assert [part.shape for part in first] == [(2, 36, 36, 1), (2, 20, 20), (2, 20, 20)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first[0], other[0])


def test_batches_come_in_order_and_from_any_step(samples):
    drawn = list(batches(samples, RECIPE, 20, 1, NO_AUGMENTATION))
    assert len(drawn) == RECIPE.steps - 1
    for step, batch in enumerate(drawn, start=1):
        for part, expected in zip(batch, draw_batch(samples, RECIPE, 20, step, NO_AUGMENTATION)):
            np.testing.assert_array_equal(part, expected)


def test_an_error_in_the_drawing_thread_reaches_the_caller(samples):
    with pytest.raises(ValueError, match="not the middle"):
        next(batches(samples, RECIPE, 21, 0, Settings()))


def test_steps_on_one_batch_lower_its_loss(batch, net):
    optimizer = SGD(net.parameters, 3e-3, momentum=0.9)
    losses = [training_step(net, optimizer, *batch)[0] for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_gradient_norm_is_that_of_all_gradients_in_one_row(net, batch):
    training_step(net, SGD(net.parameters, 0.1), *batch)
    row = np.concatenate([parameter.grad.ravel().astype(np.float64) for parameter in net.parameters.values()])
    assert gradient_norm(net.parameters) == pytest.approx(np.linalg.norm(row), rel=1e-5)


def test_clipping_scales_the_gradient_to_the_limit(net, batch):
    optimizer = SGD(net.parameters, 1.0, momentum=0.0)
    before = {name: parameter.value.copy() for name, parameter in net.parameters.items()}
    _, norm = training_step(net, optimizer, *batch, clip=1e-3)
    moved = np.sqrt(sum(((parameter.value - before[name]) ** 2).sum() for name, parameter in net.parameters.items()))
    assert norm > 1e-3 and moved == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # in whichever thread
def test_what_is_not_finite_stops_with_the_layer_and_leaves_the_parameters(net, batch):
    net.contracting[0].conv2.weight.value[0, 0, 0, 0] = np.inf
    before = {name: parameter.value.copy() for name, parameter in net.parameters.items()}
    with pytest.raises(NotFinite, match="largest activation .* in contracting.0.conv2.*learning rate"):
        training_step(net, SGD(net.parameters, 1e-2), *batch)
    for name, parameter in net.parameters.items():
        np.testing.assert_array_equal(parameter.value, before[name])


def test_the_recipe_names_the_optimiser(net):
    for name, kind in (("sgd", SGD), ("rmsprop", RMSprop), ("adam", Adam)):
        optimizer = make_optimizer(
            Recipe(optimizer=name, learning_rate=0.5, momentum=0.25, weight_decay=0.125), net.parameters
        )
        assert type(optimizer) is kind and (optimizer.learning_rate, optimizer.weight_decay) == (0.5, 0.125)
        assert name == "adam" or optimizer.momentum == 0.25


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_other_schedules_stay_at_the_peak(schedule):
    recipe = Recipe(steps=100, learning_rate=0.5, warmup=10, schedule=schedule)
    assert [learning_rate(recipe, step) for step in (0, 4, 9, 50, 99)] == [0.05, 0.25, 0.5, 0.5, 0.5]


def test_plateau_by_hand():
    """After the best score, six without growth cost a factor of ten, and the next seven are needed for another."""
    plateau = Plateau()
    for score in (0.5, 0.6, *[0.6] * 5):
        plateau.report(score)
    assert plateau.factor == 1
    plateau.report(0.6)
    assert plateau.factor == pytest.approx(0.1)
    for score in [0.55] * 5:
        plateau.report(score)
    assert plateau.factor == pytest.approx(0.1) and vars(plateau) == {"factor": 0.1, "best": 0.6, "waited": 5}
    plateau.report(0.7)
    assert plateau.waited == 0 and Plateau(**vars(plateau)) == plateau


def test_losses_add_up(rng):
    logits, labels, weights = (
        rng.standard_normal((1, 4, 5, 2)),
        rng.integers(0, 2, (1, 4, 5)),
        rng.uniform(0.5, 2, (1, 4, 5)),
    )
    both, dboth = energy_of("cross-entropy+dice", logits, labels, weights)
    parts = [weighted_cross_entropy(logits, labels, weights), dice_loss(logits, labels, weights)]
    assert float(both) == pytest.approx(float(parts[0][0] + parts[1][0]))
    np.testing.assert_allclose(dboth, parts[0][1] + parts[1][1], rtol=1e-12)
    assert float(energy_of("cross-entropy", logits, labels, weights)[0]) == float(parts[0][0])


def test_each_batch_is_drawn_once_and_one_ahead(monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "draw_batch", lambda *arguments, settings: drawn.append(arguments[-1]) or arguments)
    recipe, samples = training.Recipe(steps=6, tile=36), synthetic(1, 64).samples
    for step, batch in enumerate(training.batches(samples, recipe, 20, 2, NO_AUGMENTATION), start=2):
        assert batch == (samples, recipe, 20, step)
        assert drawn in (list(range(2, step + 1)), list(range(2, min(step + 2, 6))))
    assert drawn == [2, 3, 4, 5]


def test_samples_stay_where_they_are_on_the_cpu():
    samples = synthetic(1, 64).samples
    assert training.placed(samples, "cpu") is samples


@pytest.mark.parametrize(
    "options, processes, reason",
    [
        ({}, 1, "needs --device gpu"),
        ({"device": "gpu", "statistics": {"mean": 0}}, 1, "cannot be used with batch normalisation"),
        ({"device": "gpu"}, 2, "cannot be used in several processes"),
    ],
)
def test_a_step_that_cannot_be_recorded_says_why(options, processes, reason, monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: processes)
    net = types.SimpleNamespace(**{"device": "cpu", "statistics": {}} | options)
    with pytest.raises(InputError, match=f"^--graph {reason}; leave it out$"):
        training.recorded_step(net, None)


def test_one_logit_has_the_binary_energy():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.standard_normal((1, 4, 5, 1)), rng.integers(0, 2, (1, 4, 5)), rng.random((1, 4, 5))
    found, gradient = training.energy_of("cross-entropy", logits, labels, weights)
    s = 1 / (1 + np.exp(-logits[..., 0]))
    assert found == pytest.approx(-(weights * np.log(np.where(labels == 1, s, 1 - s))).mean(), rel=1e-12)
    np.testing.assert_allclose(gradient[..., 0], weights * (s - labels) / 20, rtol=1e-12)


def test_the_diagnosis_names_the_largest_map():
    net = UNet(1, 2, 1, 1, dtype="float64")
    net.output.bias.value[:] = 1e6, 0
    said = training.diagnosis(net, np.full((1, 24, 24, 1), -0.5), 1.5, 2.5)
    assert said.startswith("loss 1.5, gradient norm 2.5; largest activation 1e+06 in output, largest input 0.5; try")


@pytest.mark.parametrize("warmup, rates", [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0.5, 1, 1]), (4, [0.25, 0.5, 0.75])])
def test_the_first_steps_of_a_warm_up(warmup, rates):
    recipe = training.Recipe(learning_rate=2.0, warmup=warmup, schedule="constant")
    assert [training.learning_rate(recipe, step) / 2 for step in range(3)] == rates


def test_each_rank_draws_its_own_part_of_the_big_batch(monkeypatch):
    samples = synthetic(2, 64).samples
    whole = training.draw_batch(samples, training.Recipe(tile=36, batch=4), 20, 3, Settings())
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        part = training.draw_batch(samples, training.Recipe(tile=36, batch=2), 20, 3, Settings())
        for ours, all_of_them in zip(part, whole, strict=True):
            np.testing.assert_array_equal(ours, all_of_them[2 * rank : 2 * rank + 2])
