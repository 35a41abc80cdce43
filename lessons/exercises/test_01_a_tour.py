"""Check of exercise 1, run as: pytest lessons/exercises -k 01"""

import numpy as np
from exercise import check_of

from npunet.datasets import synthetic

READ = 'lesson 1, "The data"'


def test_pixel_accuracy():
    check = check_of("01_a_tour", "pixel_accuracy", READ)
    rng = np.random.default_rng(1)
    cases = {
        "by hand: three of four": (np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]])),
        "all right": (np.ones((2, 3), int), np.ones((2, 3), int)),
        "random": (rng.integers(0, 2, (5, 7)), rng.integers(0, 2, (5, 7))),
    }
    for case, (found, labels) in cases.items():
        equal = sum(found[place] == labels[place] for place in np.ndindex(found.shape))
        both = sum(found[place] == labels[place] == 1 for place in np.ndindex(found.shape))
        mistakes = {
            "the share of wrong pixels; right ones are wanted": 1 - equal / found.size,
            "a number of pixels; a share is wanted: divide by their number, or take the mean": equal,
            "only pixels of class 1 count; right pixels of class 0 are right, too": both / found.size,
            "divided by the pixels of class 1; all pixels count": both / max(labels.sum(), 1),
            "a percentage; a share between 0 and 1 is wanted": 100 * equal / found.size,
            "divided by the number of rows; all pixels count": equal / len(found),
        }
        check(case, {"found": found, "labels": labels}, np.float64(equal / found.size), mistakes, outputs=("accuracy",))
    check.verdict()
    accuracy = check.call("the type", {"found": found, "labels": labels})
    if not isinstance(accuracy, float):
        check.fail(f"pixel_accuracy returns {type(accuracy).__name__}", "a float is wanted: float(...)")


def dark(image, labels, thresholds):
    right = [float(np.sum((image < t) == labels)) / labels.size for t in thresholds]
    return thresholds[right.index(max(right))], max(right)


def test_best_threshold():
    check = check_of("01_a_tour", "best_threshold", READ)
    sample = synthetic(n_sections=1, size=96, seed=5).samples[0]
    cases = {
        "by hand": (np.array([[0.1, 0.3], [0.6, 0.9]]), np.array([[0, 0], [1, 1]]), [0.0, 0.2, 0.4, 0.5, 0.7]),
        "a grey value that equals the threshold is not above it": (
            np.array([[0.2, 0.4, 0.6]]),
            np.array([[0, 0, 1]]),
            [0.2, 0.4, 0.6],
        ),
        "thresholds in falling order": (np.array([[0.1, 0.9]]), np.array([[0, 1]]), [0.8, 0.5, 0.2]),
        "two of four thresholds are wrong": (np.array([[0.3, 0.7, 0.9]]), np.array([[0, 1, 1]]), [0.1, 0.8, 0.5, 0.2]),
        "a section": (sample.image[..., 0], sample.labels, list(np.linspace(0, 1, 51))),
    }
    for case, (image, labels, thresholds) in cases.items():
        right = [float(np.sum((image > t) == labels)) / labels.size for t in thresholds]
        reached = [float(np.sum((image >= t) == labels)) / labels.size for t in thresholds]
        best, last = right.index(max(right)), len(right) - 1 - right[::-1].index(max(right))
        worst, equal = right.index(min(right)), reached.index(max(reached))
        mistakes = {
            "of equally good thresholds the last; the first is wanted": (thresholds[last], right[last]),
            "the number of the threshold in the list; its value is wanted": (best, right[best]),
            "the worst threshold: argmin for argmax?": (thresholds[worst], right[worst]),
            "dark pixels are called class 1; it should be above the threshold": dark(image, labels, thresholds),
            "above means >, not >=": (thresholds[equal], reached[equal]),
            "the accuracy is one of another threshold": (thresholds[best], right[-1]),
            "the smallest of equally good thresholds; the first is wanted": (
                min(t for t, a in zip(thresholds, right) if a == max(right)),
                max(right),
            ),
        }
        arguments = {"image": image, "labels": labels, "thresholds": thresholds}
        expected = np.float64(thresholds[best]), np.float64(right[best])
        check(case, arguments, expected, mistakes, outputs=("threshold", "accuracy"))
    check.verdict()
