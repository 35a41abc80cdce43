"""Images made smaller before the network and predictions made larger after it: `--scale`, as in milesial/Pytorch-UNet.

Half the side is a quarter of the time and memory, and lets a network of fixed depth see twice as far. Images are
resized bicubically, masks by nearest neighbour. Logits are enlarged bilinearly; not probabilities, whose mean is
another number than that of the mean logit.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from npunet import loss, tiling
from npunet.commands import ranges
from npunet.errors import InputError
from npunet.instances.numbers import renumbered


def scaled_size(shape, scale):
    """(H, W, ...) -> (h, w), rounded down.

    Raises InputError for a scale out of range, or one that leaves nothing of this image.
    """
    ranges.check({"scale": scale})
    height, width = int(scale * shape[0]), int(scale * shape[1])
    if not (height and width):
        raise InputError(
            f"--scale {scale} leaves nothing of an image of {shape[0]} x {shape[1]} pixels; give a larger one"
        )
    return height, width


def resize(image, height, width, method=Image.Resampling.BICUBIC):
    """(H, W, C) -> (height, width, C) float32, channel by channel."""
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)) for c in range(image.shape[2])]
    return np.stack([np.asarray(plane.resize((width, height), method)) for plane in planes], axis=-1)


def scaled_dataset(dataset, scale):
    """The same Dataset with all samples smaller; instances that vanish are dropped."""
    if scale == 1:
        return dataset
    return replace(dataset, samples=[_scaled_sample(sample, scale) for sample in dataset.samples])


def _scaled_sample(sample, scale):
    height, width = scaled_size(sample.labels.shape, scale)
    # Nearest neighbours: the pixel under each new pixel's middle.
    rows = ((np.arange(height) + 0.5) * sample.labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * sample.labels.shape[1] / width).astype(int)
    return replace(
        sample,
        image=np.clip(resize(sample.image, height, width), 0, 1),
        labels=sample.labels[rows[:, None], columns],
        instances=renumbered(sample.instances[rows[:, None], columns]),
        ignore=None if sample.ignore is None else sample.ignore[rows[:, None], columns],
    )


def predict(net, image, scale, tile=572, *, augment=False, progress=None):
    """`tiling.predict` on an image of `scale` times the size:
    (H, W) or (H, W, C) -> (H, W, K) float32, enlarged again.
    """
    if scale == 1:
        return tiling.predict(net, image, tile, augment=augment, progress=progress)
    image = np.asarray(image).reshape(*image.shape[:2], -1)
    small = np.clip(resize(image, *scaled_size(image.shape, scale)), 0, 1)
    p = tiling.predict(net, small, tile, augment=augment, progress=progress)
    # log p is the logits but for a number that is the same for all classes of a pixel, and soft-max does not see that.
    logits = np.log(np.maximum(p, np.finfo(np.float32).tiny))
    return loss.softmax(resize(logits, *image.shape[:2], Image.Resampling.BILINEAR))
