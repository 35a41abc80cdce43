"""Checks of energy.py."""

import numpy as np

from lessons.build import oracles

AXES = ("image", "row", "column", "class")


def case(seed, shape, classes):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((*shape, classes))
    return logits, rng.integers(0, classes, shape), rng.uniform(0.5, 3, shape)


def check_softmax(check):
    rng = np.random.default_rng(1)
    examples = {
        "the example of the form": np.log(np.array([[1.0, 3], [2, 2]])).reshape(1, 1, 2, 2),
        "two images, three classes": rng.standard_normal((2, 2, 4, 3)),
        "large scores: 1000 must not overflow": np.array([[1000.0, 0], [0, 1000]]).reshape(1, 1, 2, 2),
        "scores of 1000 and -1000": np.array([[1000.0, -1000], [-1000, 1000]]).reshape(1, 1, 2, 2),
        "a pixel of small scores beside one of large scores": np.array([[900.0, 901], [-900, -899]]).reshape(
            1, 1, 2, 2
        ),
    }
    for name, logits in examples.items():
        arguments, p = {"logits": logits}, oracles.softmax(logits)
        check(name, arguments, p, softmax_mistakes(logits), outputs=("p",), axes=AXES)
    check.keeps_float32({"logits": examples["two images, three classes"]}, ("p",))


def softmax_mistakes(a):
    with np.errstate(all="ignore"):
        small = np.exp(a - a.max(axis=-1, keepdims=True))
        e = np.exp(a)
        return {
            "the sum runs over everything; each pixel has probabilities of its own": e / e.sum(),
            "the sum runs over all pixels, too; each pixel has probabilities of its own": small / small.sum(),
            "the sum runs over the pixels; it belongs over the classes, the last axis": e / e.sum(axis=(0, 1, 2)),
            "the sum runs over the first axis; it belongs over the classes, the last axis": e / e.sum(axis=0),
            "the sum runs over the columns; it belongs over the classes, the last axis": e
            / e.sum(axis=2, keepdims=True),
            "the sum runs over the columns; it belongs over the last axis, the classes": small
            / small.sum(axis=2, keepdims=True),
            "sum and maximum run over the rows; they belong over the last axis, the classes": along(a, 1),
            "sum and maximum run over the columns; they belong over the last axis, the classes": along(a, 2),
            "sum and maximum run over the images; they belong over the last axis, the classes": along(a, 0),
            "the sum runs over the pixels; it belongs over the last axis, the classes": small
            / small.sum(axis=(0, 1, 2), keepdims=True),
            "the largest score of each class is subtracted; each pixel subtracts its own largest": np.exp(
                a - a.max(axis=2, keepdims=True)
            )
            / np.exp(a - a.max(axis=2, keepdims=True)).sum(axis=-1, keepdims=True),
            "not divided by the sum": e,
            "not divided by the sum of the exponentials": small,
            "a sigmoid of each score by itself": 1 / (1 + np.exp(-a)),
            "the scores are divided by their sum; exp is missing": a / a.sum(axis=-1, keepdims=True),
            "the logarithm of the soft-max": a - np.log(e.sum(axis=-1, keepdims=True)),
            "the sign of the scores: exp(a), not exp(-a)": softmax_by(-a),
            "powers of 2 instead of e": softmax_by(a * np.log(2)),
            "the largest score of all pixels is subtracted: elsewhere exp gives 0 and 0 / 0. Each pixel subtracts its "
            "own largest": np.exp(a - a.max()) / np.exp(a - a.max()).sum(axis=-1, keepdims=True),
            "overflow: exp of a large score is infinite. Subtract the largest score of the pixel first": e
            / e.sum(axis=-1, keepdims=True),
            "divided by the largest exponential, not by their sum": small / small.max(axis=-1, keepdims=True),
            "1 for the largest score, 0 for the others: that is the maximum, not the soft one": (
                a == a.max(axis=-1, keepdims=True)
            )
            * 1.0,
        }


def along(a, axis):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_by(a):
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def check_energy(check):
    examples = {
        "the example of the form": (
            np.log(np.array([[1.0, 3], [1, 1]])).reshape(1, 1, 2, 2),
            np.array([[[0, 1]]]),
            np.array([[[1.0, 2]]]),
        ),
        "all weights 1": (*case(2, (1, 2, 3), 2)[:2], np.ones((1, 2, 3))),
        "weights, three classes": case(3, (1, 3, 4), 3),
        "two images": case(4, (2, 2, 3), 4),
        "large scores: 1000 must stay finite": (
            np.array([[1000.0, 0], [-1000, 0]]).reshape(1, 1, 2, 2),
            np.array([[[0, 1]]]),
            np.ones((1, 1, 2)),
        ),
        "a confident mistake: it costs 1000, not infinity": (
            np.array([[1000.0, 0], [0, 0]]).reshape(1, 1, 2, 2),
            np.array([[[1, 1]]]),
            np.ones((1, 1, 2)),
        ),
    }
    for name, (logits, labels, weights) in examples.items():
        if name.startswith("a confident"):
            expected = (1000 + np.log(2)) / 2, np.array([[0.5, -0.5], [0.25, -0.25]]).reshape(1, 1, 2, 2)
        else:
            expected = oracles.energy(logits, labels, weights)
        with np.errstate(all="ignore"):
            mistakes = energy_mistakes(logits, labels, weights, *expected)
        check(
            name,
            {"logits": logits, "labels": labels, "weights": weights},
            expected,
            mistakes,
            outputs=("loss", "dlogits"),
            axes=((), AXES),
            factors={"pixels": labels.size} if labels.size > 1 else {},
        )
    logits, labels, weights = examples["two images"]
    check.keeps_float32({"logits": logits, "labels": labels, "weights": weights}, ("loss", "dlogits"))
    logits, labels, weights = case(5, (1, 116, 116), 2)
    arguments = {"logits": logits.astype(np.float32), "labels": labels, "weights": weights.astype(np.float32)}
    how = "No loop over pixels: compare labels[..., None] with np.arange(K) for the one-hot vectors q"
    check.fast("116 x 116 pixels, 2 classes", arguments, 0.03, how)


def energy_mistakes(logits, labels, weights, loss, dlogits):
    p = softmax_by(logits)
    q = (labels[..., None] == np.arange(logits.shape[-1])) * 1.0
    w, pixels, images = weights[..., None], labels.size, len(labels)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = (q * shifted).sum(axis=-1) - np.log(np.exp(shifted).sum(axis=-1))
    other = (p * np.roll(q, 1, axis=-1)).sum(axis=-1)
    classes = logits.shape[-1]
    total = np.exp(shifted).sum(axis=-1)
    return {
        "the sign: Eq. 1 is printed without its minus, the energy is positive": (-loss, None),
        "a sum over the pixels; here it is their mean, for loss and gradient": (loss * pixels, dlogits * pixels),
        "divided by the sum of the weights; divide by the number of pixels": (
            loss * pixels / weights.sum(),
            dlogits * pixels / weights.sum(),
        ),
        "the weights are forgotten": (-log_p.mean(), (p - q) / pixels),
        "the weights of the gradient are forgotten": (None, (p - q) / pixels),
        "the weights multiply the scores; they belong in front of the logarithm": weighted_scores(logits, q, w),
        "the weights are squared, or used twice": (-(weights**2 * log_p).mean(), w**2 * (p - q) / pixels),
        "the logarithm has base 2; Eq. 1 has the natural one": (loss / np.log(2), None),
        "the logarithm has base 10; Eq. 1 has the natural one": (loss / np.log(10), None),
        "the logarithm of the sum has base 2; Eq. 1 has the natural one": (
            loss + (weights * np.log(total) * (1 / np.log(2) - 1)).mean(),
            None,
        ),
        "1 - p instead of -log p": ((weights * (1 - (p * q).sum(axis=-1))).mean(), None),
        "the logarithm is missing": (-(weights * (p * q).sum(axis=-1)).mean(), None),
        "the probability of a wrong class is taken: p at the label counts": (-(weights * np.log(other)).mean(), None),
        "all classes are summed up; only the one of the label counts": (
            -(w * np.log(p)).sum(axis=-1).mean(),
            None,
        ),
        "one against the rest, q log p + (1 - q) log(1 - p), over all classes; Eq. 1 has log p of the label": (
            -(w * (q * np.log(p) + (1 - q) * np.log(1 - p))).sum(axis=-1).mean(),
            None,
        ),
        "the labels are off by one": shifted_labels(logits, labels, weights, -1),
        "the labels are off by one ": shifted_labels(logits, labels, weights, 1),
        "a mean over the classes as well": (loss / classes, dlogits / classes),
        "divided by the number of images only": (loss * pixels / images, dlogits * pixels / images),
        "log of 0: write log p as a difference, a - max - log(sum exp(a - max))": (
            -(weights * np.log((p * q).sum(axis=-1))).mean(),
            None,
        ),
        "a small number is added before log, or p is clipped: write log p as a difference instead": (
            -(weights * np.log((p * q).sum(axis=-1) + 1e-12)).mean(),
            None,
        ),
        "a small number is added before log, or p is clipped: write log p as a difference instead ": (
            -(weights * np.log((p * q).sum(axis=-1) + 1e-8)).mean(),
            None,
        ),
    } | gradient_mistakes(logits, p, q, w, dlogits)


def shifted_labels(logits, labels, weights, by):
    """Eq. 1 with the next class in the place of each label."""
    return oracles.energy(np.clip(logits, -300, 300), (labels + by) % logits.shape[-1], weights)


def weighted_scores(logits, q, w):
    p = softmax_by(w * logits)
    return -np.log((p * q).sum(axis=-1)).mean(), (p - q) / w.size


def gradient_mistakes(logits, p, q, w, dlogits):
    """Mistakes in dlogits alone."""
    pixels = dlogits[..., 0].size
    return {
        "the gradient is by p, not by the logits: the soft-max is part of the chain": (None, -w * q / p / pixels),
        "the sign of the gradient: p - q, not q - p": (None, -dlogits),
        "q is missing in p - q": (None, w * p / pixels),
        "p is missing in p - q": (None, -w * q / pixels),
        "the gradient is multiplied with p (1 - p) once more: that is in p - q already": (
            None,
            dlogits * p * (1 - p),
        ),
        "the logits stand where the probabilities should: p - q": (None, w * (logits - q) / pixels),
        "the gradient is not divided by the number of pixels": (None, dlogits * pixels),
        "the gradient is right for the label's class only; the other classes have p, too": (None, dlogits * q),
    }
