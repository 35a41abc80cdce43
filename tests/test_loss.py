"""Soft-max and weighted cross-entropy (Eq. 1): definition, gradient, extremes, labels that are none."""

import math

import numpy as np
import pytest
from scipy import special

from npunet import loss
from npunet.errors import InputError
from npunet.gpu.cuda import on_gpu
from npunet.gradient_check import check_gradients
from npunet.loss import (
    binary_cross_entropy,
    dice_loss,
    probabilities,
    softmax,
    weighted_cross_entropy,
    weighted_cross_entropy_definition,
)
from npunet.machine.backend import to_cpu


def problem(rng, shape=(2, 3, 4), classes=3, dtype="float64"):
    logits = (3 * rng.standard_normal((*shape, classes))).astype(dtype)
    labels = rng.integers(0, classes, shape)
    return logits, labels, rng.uniform(0, 5, shape).astype(dtype)


def test_softmax_is_scipys(xp, rng):
    logits = 10 * rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(to_cpu(softmax(xp.asarray(logits))), special.softmax(logits, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_of_extreme_logits(xp, dtype):
    """exp(1e4) overflows even in float64; the shifted form does not. Warnings are errors here."""
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [3e4, 3e4, 0]], dtype)
    kept = logits.copy()
    p = softmax(xp.asarray(logits))
    assert p.dtype == dtype
    np.testing.assert_allclose(to_cpu(p), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], rtol=1e-6)
    np.testing.assert_array_equal(logits, kept)


def test_energy_by_hand():
    """Two pixels, logits (0, 0) and (ln 3, 0), both of class 0, weights 1 and 10: (1 ln 2 + 10 ln (4/3)) / 2."""
    logits = np.array([[0, 0], [math.log(3), 0]]).reshape(1, 1, 2, 2)
    loss, dlogits = weighted_cross_entropy(logits, np.zeros((1, 1, 2), int), np.array([1.0, 10.0]).reshape(1, 1, 2))
    assert float(loss) == pytest.approx((math.log(2) + 10 * math.log(4 / 3)) / 2, rel=1e-14)
    np.testing.assert_allclose(dlogits[0, 0], [[-0.25, 0.25], [-1.25, 1.25]], rtol=1e-14)


def test_energy_is_the_definition(xp, rng):
    logits, labels, weights = (xp.asarray(array) for array in problem(rng))
    loss, _ = weighted_cross_entropy(logits, labels, weights)
    assert float(loss) == pytest.approx(weighted_cross_entropy_definition(logits, labels, weights), rel=1e-13)
    unweighted, _ = weighted_cross_entropy(logits, labels)
    ones = xp.asarray(np.ones(labels.shape))
    assert float(unweighted) == pytest.approx(weighted_cross_entropy_definition(logits, labels, ones), rel=1e-13)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_gradient(classes, weighted, rng):
    logits, labels, weights = problem(rng, classes=classes)
    weights = weights if weighted else None

    def forward(logits):
        loss, dlogits = weighted_cross_entropy(logits, labels, weights)
        return np.asarray(loss), dlogits

    assert check_gradients(forward, lambda dy, ctx: dy * ctx, [logits], rng) < 1e-6


def test_gradient_on_a_device(xp, rng):
    arrays = problem(rng)
    loss, dlogits = weighted_cross_entropy(*(xp.asarray(array) for array in arrays))
    expected_loss, expected = weighted_cross_entropy(*arrays)
    np.testing.assert_allclose(to_cpu(dlogits), expected, rtol=1e-12, atol=1e-16)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-14)


def test_gradient_sums_to_zero_in_every_pixel_and_ignores_pixels_without_weight(rng):
    logits, labels, weights = problem(rng)
    weights[:, 1] = 0
    _, dlogits = weighted_cross_entropy(logits, labels, weights)
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0, atol=1e-15)
    assert not dlogits[:, 1].any() and dlogits[:, 0].any()


@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_are_kept_and_arguments_untouched(xp, dtype, label_dtype, rng):
    logits, labels, weights = problem(rng, dtype=dtype)
    kept = logits.copy()
    for array in (logits, labels, weights):
        array.setflags(write=False)
    for weight_dtype in ("float32", "float64"):
        loss, dlogits = weighted_cross_entropy(
            xp.asarray(logits), xp.asarray(labels.astype(label_dtype)), xp.asarray(weights.astype(weight_dtype))
        )
        assert dlogits.dtype == dtype and loss.dtype == dtype and loss.shape == ()
    np.testing.assert_array_equal(logits, kept)


def test_certainty_right_and_wrong_stays_finite():
    """A logit of 1e4: sure and right costs nothing, sure and wrong costs 1e4, not infinity."""
    logits = np.array([[1e4, 0], [1e4, 0]], "float32").reshape(1, 1, 2, 2)
    labels = np.array([0, 1]).reshape(1, 1, 2)
    loss, dlogits = weighted_cross_entropy(logits, labels)
    assert float(loss) == 5e3
    np.testing.assert_array_equal(dlogits[0, 0], [[0, 0], [0.5, -0.5]])


def test_every_pixel_is_scaled_by_its_own_largest_logit(xp):
    """One pixel with huge logits must not push the others below the smallest number:
    0, 0 beside 1e4, 0 still costs ln 2.
    """
    logits = np.array([[0, 0], [1e4, 0]], "float64").reshape(1, 1, 2, 2)
    loss, dlogits = weighted_cross_entropy(xp.asarray(logits), xp.asarray(np.zeros((1, 1, 2), int)))
    assert float(loss) == pytest.approx(math.log(2) / 2, rel=1e-14)
    np.testing.assert_allclose(to_cpu(dlogits)[0, 0], [[-0.25, 0.25], [0, 0]])


@pytest.mark.parametrize("value", [-1, 3, 255])
def test_labels_that_are_no_class_are_refused(xp, value, rng):
    """Without the check, -1 would be read as the last class and 255 would wrap around on a GPU."""
    logits, labels, _ = problem(rng)
    labels[0, 0, 0] = value
    logits, labels = xp.asarray(logits), xp.asarray(labels)
    if on_gpu(logits):  # the host does not wait to ask, and NaN stops the training
        assert np.isnan(float(weighted_cross_entropy(logits, labels)[0]))
        return
    with pytest.raises(ValueError, match=r"labels lie in .*; expected classes 0 \.\. 2"):
        weighted_cross_entropy(logits, labels)


def test_shapes_and_kinds_that_do_not_fit_are_refused(rng):
    logits, labels, weights = problem(rng)
    for bad_labels in (labels[:, :2], labels[0], labels.astype(float), labels[..., None]):
        with pytest.raises(ValueError, match="do not fit logits"):
            weighted_cross_entropy(logits, bad_labels)
    for bad_weights in (weights[:1], weights[..., None], weights[0, 0]):
        with pytest.raises(ValueError, match="do not fit labels"):
            weighted_cross_entropy(logits, labels, bad_weights)


def two_logits(logits):
    """One logit a as the two of (0, a)."""
    return np.concatenate([np.zeros_like(logits), logits], axis=-1)


def test_one_logit_is_two_of_which_the_first_is_zero(xp, rng):
    logits, labels, weights = problem(rng, classes=1)
    labels = rng.integers(0, 2, labels.shape)
    np.testing.assert_allclose(
        to_cpu(probabilities(xp.asarray(logits)))[..., 1], special.expit(logits[..., 0]), rtol=1e-12
    )
    for some in (None, weights):
        expected, dlogits = weighted_cross_entropy(two_logits(logits), labels, some)
        loss, gradient = binary_cross_entropy(
            xp.asarray(logits), xp.asarray(labels), None if some is None else xp.asarray(some)
        )
        assert float(loss) == pytest.approx(float(expected), rel=1e-12)
        np.testing.assert_allclose(to_cpu(gradient), dlogits[..., 1:], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_of_extreme_logits(dtype):
    logits = np.array([1e4, -1e4, 1e4, -1e4], dtype).reshape(1, 1, 4, 1)
    loss, dlogits = binary_cross_entropy(logits, np.array([[[1, 0, 0, 1]]]))
    assert loss.dtype == dlogits.dtype == dtype and float(loss) == pytest.approx(5000)
    np.testing.assert_array_equal(dlogits.ravel(), [0, 0, 0.25, -0.25])


def test_dice_by_hand():
    """Probabilities of class 1: 0.5, 0.75, labels 1, 0. One class: 2 * 0.5 / (1.25 + 1); both:
    2 (0.5 + 0.25) / (2 + 2).
    """
    logits, labels = np.array([0, math.log(3)]).reshape(1, 1, 2, 1), np.array([[[1, 0]]])
    assert float(dice_loss(logits, labels)[0]) == pytest.approx(1 - 1 / 2.25, rel=1e-6)
    assert float(dice_loss(two_logits(logits), labels)[0]) == pytest.approx(1 - 1.5 / 4, rel=1e-6)
    ignored = np.array([[[1.0, 0.0]]])
    assert float(dice_loss(logits, labels, ignored)[0]) == pytest.approx(1 - 1 / 1.5, rel=1e-6)


@pytest.mark.parametrize("loss, classes", [(binary_cross_entropy, 1), (dice_loss, 1), (dice_loss, 2), (dice_loss, 4)])
@pytest.mark.parametrize("weighted", [True, False])
def test_gradients_of_the_other_losses(loss, classes, weighted, xp, rng):
    logits, labels, weights = problem(rng, classes=classes)
    labels = rng.integers(0, max(2, classes), labels.shape)
    weights[0, 0] = 0
    weights = weights if weighted else None

    def forward(logits):
        energy, dlogits = loss(logits, labels, weights)
        return np.asarray(energy)[None], dlogits

    check_gradients(forward, lambda dy, ctx: dy[0] * ctx, [logits], rng)
    energy, dlogits = loss(
        *(None if array is None else xp.asarray(array) for array in (logits.astype("float32"), labels, weights))
    )
    assert energy.dtype == dlogits.dtype == "float32"
    np.testing.assert_allclose(to_cpu(dlogits), forward(logits)[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", [binary_cross_entropy, dice_loss])
def test_the_other_losses_refuse_what_is_no_label(loss):
    logits = np.zeros((1, 2, 2, 1))
    for labels, weights in (
        (np.full((1, 2, 2), 2), None),
        (np.zeros((1, 2, 3), int), None),
        (np.zeros((1, 2, 2)), None),
        (np.zeros((1, 2, 2), int), np.ones((1, 2))),
    ):
        with pytest.raises(ValueError, match="expected"):
            loss(logits, labels, weights)


LOSSES = {"soft-max": (weighted_cross_entropy, 3), "one logit": (binary_cross_entropy, 1), "Dice": (dice_loss, 3)}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1e-6, -np.inf, np.nan, np.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused_by_every_loss(name, value, xp, rng):
    loss, classes = LOSSES[name]
    logits, labels, weights = problem(rng, classes=classes)
    weights[1, 2, 0] = value
    arrays = [xp.asarray(array) for array in (logits, labels, weights)]
    if on_gpu(arrays[0]):  # the host does not wait to ask
        assert np.isnan(float(loss(*arrays)[0]))
        return
    with pytest.raises(InputError, match=r"^weights lie in .* \.\. .*; expected finite ones, 0 for pixels that do not"):
        loss(*arrays)
    weights[1, 2, 0] = 0
    loss(logits, labels, weights)  # a pixel that does not count


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_array_is_refused_with_one_line(name, rng):
    loss, classes = LOSSES[name]
    arrays = problem(rng, classes=classes)
    for place, argument in enumerate(("logits", "labels", "weights")):
        given = [array.tolist() if number == place else array for number, array in enumerate(arrays)]
        with pytest.raises(InputError, match=f"^loss: {argument} is a list; expected an array of NumPy or CuPy"):
            loss(*given)
    with pytest.raises(InputError, match=r"^loss: logits has shape \(2, 3, 4\); expected \(N, H, W, C\)$"):
        loss(arrays[0][..., 0], *arrays[1:])
    with pytest.raises(InputError, match="one at least"):
        loss(*(array[:0] for array in arrays))


@pytest.mark.parametrize("weight, shown", [(-1, "-1"), (np.nan, "nan")])
def test_weights_of_the_loss_are_not_below_zero(weight, shown):
    logits, labels = np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 2), np.int64)
    weights = np.ones(labels.shape, np.float32)
    weights[0, 1, 1] = weight
    with pytest.raises(InputError, match=f"^weights lie in {shown} "):
        loss.weighted_cross_entropy(logits, labels, weights)
    weights[0, 1, 1] = 0
    assert loss.weighted_cross_entropy(logits, labels, weights)[0] == pytest.approx(0.75 * np.log(2))
