"""Solution of lesson 1's exercise: the baseline of a single threshold."""

import numpy as np


def pixel_accuracy(found, labels):
    """Share of the pixels where found (H, W) equals labels (H, W)."""
    return float(np.mean(found == labels))


def best_threshold(image, labels, thresholds):
    """(threshold, accuracy) of the best segmentation "class 1 where the grey value is above the threshold"."""
    accuracies = [pixel_accuracy(image > threshold, labels) for threshold in thresholds]
    best = int(np.argmax(accuracies))
    return thresholds[best], accuracies[best]
