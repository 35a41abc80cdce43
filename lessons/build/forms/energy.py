"""Soft-max and energy (§3, Eq. 1): "a pixel-wise soft-max ... combined with the cross entropy loss function".
Lesson 5.

    logits a (N, H, W, K): a score for each pixel and class      labels (N, H, W): the class, 0 .. K - 1
    weights w (N, H, W): how much a pixel counts

    p_k = exp(a_k) / (exp(a_0) + ... + exp(a_(K-1)))                            at each pixel by itself
    E   = mean over all pixels of   - w log p_label                       Eq. 1, with the minus that is not printed
    dE/da_k = w (p_k - q_k) / number of pixels,    q_k = 1 for the label's class, 0 for the others

Scores may be as large as 1000, and exp(1000) is infinite. Subtract from the scores of each pixel their largest: p
stays the same. For the same reason log p is computed as a difference, a_label - max - log(sum of exp(a - max)),
and not as the logarithm of p, which may be 0. Speed: no loop over pixels; 0.03 s for 116 x 116 pixels.
"""

import numpy as np


def softmax(logits):
    """logits (..., K) -> p of the same shape. Example: scores log 1 and log 3 -> p = 1/4 and 3/4."""
    raise NotImplementedError("write softmax")


def energy(logits, labels, weights):
    """logits (N, H, W, K), labels (N, H, W), weights (N, H, W) -> loss (a number), dlogits (N, H, W, K).

    Example of two pixels: scores log 1, log 3 with label 0 and weight 1; scores 0, 0 with label 1 and weight 2.
    loss = (1 * log 4 + 2 * log 2) / 2 = 1.386;  dlogits = -0.375 0.375 for the first pixel, 0.5 -0.5 for the
    second.
    """
    raise NotImplementedError("write energy")
