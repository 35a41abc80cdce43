"""Exercise of lesson 13: style by means and standard deviations instead of Gram matrices.

For feature maps F (1, H, W, C) let m and s (C,) be mean and standard deviation of each channel over the pixels,

    s = sqrt(mean over pixels of (F - m)^2 + eps)

and for a style with means a and standard deviations b

    loss = mean over channels of (m - a)^2 + mean over channels of (s - b)^2

Write the loss and its gradient by F. Each pixel moves m by 1/(H W), and s by (F - m) / (H W s).
Check yourself with: pytest lessons/exercises -k 13
"""

import numpy as np


def statistics_loss(features, means, deviations, eps=1e-5):
    """features (1, H, W, C), means a and deviations b (C,) -> loss (a number), dfeatures (1, H, W, C);
    nothing is written into.
    """
    raise NotImplementedError("write statistics_loss: the loss and its gradient by the features")
