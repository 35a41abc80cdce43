"""Numbers of objects in a label image: made consecutive, and which objects touch."""

import numpy as np
from scipy import ndimage


def renumbered(labels):
    """The same objects with the numbers 1..n, in ascending order of their old ones; 0 stays 0. -> int32, same shape.

    labels: integers of any shape, 0 = background.
    """
    _, ranks = np.unique(np.append(labels, 0), return_inverse=True)  # 0 is there even if no background is left
    return ranks[:-1].reshape(labels.shape).astype(np.int32)


def touching(instances, reach):
    """(H, W) bool: the pixels of an object that have another object's pixel at most `reach` away.

    instances: (H, W) integers, 0 = background. The distance is that of a square window.
    """
    window, beyond = 2 * reach + 1, instances.max() + 1
    largest = ndimage.maximum_filter(instances, window)
    smallest = ndimage.minimum_filter(np.where(instances > 0, instances, beyond), window)
    return (instances > 0) & ((largest != instances) | (smallest != instances))
