"""Solution: mirrored positions along each axis, then tile after tile."""

import numpy as np


def mirrored(start, stop, length):
    period = max(2 * (length - 1), 1)
    position = np.arange(start, stop) % period
    return np.minimum(position, period - position) if length > 1 else position


def overlap_tile(network, image, tile, output, grid):
    height, width = image.shape[:2]
    border = (tile - output) // 2
    stride = output // grid * grid
    result = None
    for top in range(0, height, stride):
        for left in range(0, width, stride):
            rows = mirrored(top - border, top - border + tile, height)
            columns = mirrored(left - border, left - border + tile, width)
            answer = network(image[rows[:, None], columns])
            if result is None:
                result = np.empty((height, width, answer.shape[2]), answer.dtype)
            down, across = min(output, height - top), min(output, width - left)
            result[top : top + down, left : left + across] = answer[:down, :across]
    return result
