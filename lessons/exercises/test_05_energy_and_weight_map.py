"""Check of exercise 5, run as: pytest lessons/exercises -k 05"""

import math

import numpy as np
from exercise import check_of

READ = 'lesson 5, "3. The gradient is $p - q$"'
AXES = ("image", "row", "column", "class")


def random_case(seed, classes, smoothing):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((2, 3, 4, classes)), rng.integers(0, classes, (2, 3, 4)), smoothing


CASES = {
    "one pixel": (np.array([[[[0.5, -1.0]]]]), np.array([[[1]]]), 0.2),
    "without smoothing it is Eq. 1": random_case(1, 3, 0.0),
    "smoothing 0.1, three classes": random_case(2, 3, 0.1),
    "smoothing 0.5, four classes": random_case(3, 4, 0.5),
}


def definition(logits, labels, smoothing):
    classes, total = logits.shape[-1], 0.0
    dlogits = np.zeros(logits.shape)
    for pixel in np.ndindex(labels.shape):
        exponentials = [math.exp(a) for a in logits[pixel]]
        for k in range(classes):
            p = exponentials[k] / sum(exponentials)
            target = (1 - smoothing) * (k == labels[pixel]) + smoothing / classes
            total -= target * math.log(p) / labels.size
            dlogits[pixel][k] = (p - target) / labels.size
    return total, dlogits


def test_smoothed_cross_entropy():
    check = check_of("05_energy_and_weight_map", "smoothed_cross_entropy", READ)
    for case, (logits, labels, smoothing) in CASES.items():
        arguments = {"logits": logits, "labels": labels, "smoothing": smoothing}
        loss, dlogits = definition(logits, labels, smoothing)
        outputs, pixels = ("loss", "dlogits"), labels.size
        factors = {"pixels": pixels} if pixels > 1 else {}
        mistakes = mistakes_of(logits, labels, smoothing, loss, dlogits)
        expected = np.float64(loss), dlogits
        check(case, arguments, expected, mistakes, outputs=outputs, axes=((), AXES), factors=factors)
    large = np.array([[[[1000.0, 0.0]]]]), np.array([[[0]]])
    arguments = {"logits": large[0], "labels": large[1], "smoothing": 0.1}
    expected = np.float64(50.0), np.array([[[[0.05, -0.05]]]])  # 0.05 for class 1 costs 1000 each
    mistakes = {
        "log of 0: write log p as a difference, a - max - log(sum exp(a - max))": (np.inf, None),
        "a small number is added before log; write log p as a difference": (-0.05 * math.log(1e-12), None),
    }
    check("scores as large as 1000 must stay finite", arguments, expected, mistakes, outputs=outputs)
    check.verdict()


def mistakes_of(logits, labels, smoothing, loss, dlogits):
    classes, pixels = logits.shape[-1], labels.size
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    q = (labels[..., None] == np.arange(classes)) * 1.0

    def with_target(target):
        return -(target * np.log(p)).sum() / pixels, (p - target) / pixels

    return {
        "the sign of the loss": (-loss, None),
        "the sign of the gradient: p - q', not q' - p": (None, -dlogits),
        "a sum over the pixels; their mean is wanted": (loss * pixels, dlogits * pixels),
        "the loss is a sum over the pixels; their mean is wanted": (loss * pixels, None),
        "the gradient is not divided by the number of pixels": (None, dlogits * pixels),
        "a mean over the classes as well": (loss / classes, dlogits / classes),
        "the labels are not smoothed": with_target(q),
        "the gradient has q instead of q': it is smoothed, too": (None, (p - q) / pixels),
        "smoothing / (K - 1) for the other classes; the formula gives smoothing / K to all of them": with_target(
            np.where(q > 0, 1 - smoothing, smoothing / (classes - 1))
        ),
        "smoothing is not divided by the number of classes": with_target((1 - smoothing) * q + smoothing),
        "1 - smoothing is forgotten at the label": with_target(q + smoothing / classes),
        "the label's class does not get its smoothing / K": with_target(
            np.where(q > 0, 1 - smoothing, smoothing / classes)
        ),
        "smoothing and 1 - smoothing are exchanged": with_target(smoothing * q + (1 - smoothing) / classes),
        "log of the soft-max is missing: the loss has p instead of log p": (
            -(((1 - smoothing) * q + smoothing / classes) * p).sum() / pixels,
            None,
        ),
        "q' is missing in p - q'": (None, p / pixels),
    }
