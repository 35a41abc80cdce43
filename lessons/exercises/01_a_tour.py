"""Exercise of lesson 1: is the network better than the simplest thing that could work?

Membranes are dark, so a threshold on the grey value is a segmentation too. Before you admire a network, find out how
far that takes you. Check yourself with: pytest lessons/exercises -k 01
"""

import numpy as np


def pixel_accuracy(found, labels):
    """Share of the pixels where found (H, W) equals labels (H, W): a float between 0 and 1."""
    raise NotImplementedError("write pixel_accuracy: the mean of a comparison")


def best_threshold(image, labels, thresholds):
    """(threshold, accuracy) of the best segmentation "class 1 where the grey value is above the threshold".

    image (H, W) floats, labels (H, W) of 0 (dark) and 1, thresholds a sequence of floats. Of equally good thresholds
    the first.
    """
    raise NotImplementedError("write best_threshold: try them all with pixel_accuracy")
