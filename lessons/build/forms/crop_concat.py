"""Crop and concatenate (§2): "a concatenation with the correspondingly cropped feature map from the contracting
path".

    upsampled (N, H, W, C)      skip (N, Hs, Ws, Cs), Hs >= H, Ws >= W      y (N, H, W, C + Cs)

Of the skip the middle H x W pixels are taken; it begins at row (Hs - H) // 2 and column (Ws - W) // 2. In y the C
channels of upsampled come first, then those of the skip. Lesson 4.
"""

import numpy as np


def crop_concat(upsampled, skip):
    """upsampled (N, H, W, C), skip (N, Hs, Ws, Cs) -> y (N, H, W, C + Cs).

    Example: upsampled one pixel, 7; skip 3 x 3 pixels, 1 2 3 / 4 5 6 / 7 8 9. y is one pixel with two channels, 7
    and 5.
    """
    raise NotImplementedError("write crop_concat")


def crop_concat_gradients(dy, channels, skip_shape):
    """dy (N, H, W, C + Cs), channels = C, skip_shape = (N, Hs, Ws, Cs) -> dupsampled (N, H, W, C), dskip of
    skip_shape.

    Each gets its own channels of dy back. What was cut off from the skip had no influence, so its gradient is 0.

    Example: dy = 5 and 6 in one pixel, channels = 1, skip_shape = (1, 3, 3, 1): dupsampled = 5; dskip is 6 in the
    middle and 0 in the other eight pixels.
    """
    raise NotImplementedError("write crop_concat_gradients")
