"""The energy function (§3, Eq. 1): pixel-wise soft-max over the final feature map, with cross-entropy.

Notation: logits a (N, H, W, K), labels l (N, H, W) with values 0 .. K-1, weights w (N, H, W).

    p_k(x) = exp(a_k(x)) / sum over k' of exp(a_k'(x))                       soft-max
    E = - sum over x of  w(x) * log p_l(x)(x)    / number of pixels          Eq. 1

The paper prints Eq. 1 without the minus sign; the thing that is minimised is the negative
log-likelihood. It sums over pixels; here it is the mean over all pixels, so that neither the learning
rate nor the figures depend on the tile size.

Gradient. With q the one-hot vector of the label,  -log p_l = log(sum exp a) - a_l,  whose derivative by
a_k is  exp(a_k) / sum exp a  -  q_k.  Therefore

    dE/da_k(x) = w(x) * (p_k(x) - q_k(x)) / number of pixels
"""

import math

from npunet.backend import array_module


def softmax(logits):
    """logits (..., K) -> probabilities of the same shape and dtype, positive, sum 1 over the last axis.

    The largest logit is subtracted first: the result is the same and nothing overflows.
    """
    xp = array_module(logits)
    p = _class_planes(logits)                             # (K, ...)
    p -= p.max(axis=0)
    xp.exp(p, out=p)
    p /= p.sum(axis=0)
    return xp.ascontiguousarray(xp.moveaxis(p, 0, -1))


def _class_planes(logits):
    """(..., K) -> a copy (K, ...): sums over the few classes are then sums of whole planes, many times faster on a CPU."""
    return array_module(logits).moveaxis(logits, -1, 0).copy()


def weighted_cross_entropy_definition(logits, labels, weights):
    """Eq. 1 as loops over pixels, in Python floats; the loss alone."""
    energy, pixels = 0.0, 0
    for pixel in array_module(logits).ndindex(labels.shape):
        a = [float(value) for value in logits[pixel]]
        probability = math.exp(a[int(labels[pixel])]) / sum(math.exp(value) for value in a)
        energy -= float(weights[pixel]) * math.log(probability)
        pixels += 1
    return energy / pixels


def weighted_cross_entropy(logits, labels, weights=None):
    """Eq. 1 and its gradient.

    logits (N, H, W, K) float; labels (N, H, W) integer, 0 .. K-1; weights (N, H, W) float or None (all 1).
    Returns loss, a 0-d array of the logits' dtype, and dlogits (N, H, W, K).
    Raises ValueError if labels or weights do not have the shape of the logits' pixels, or if labels are not classes.
    """
    xp = array_module(logits)
    if labels.shape != logits.shape[:-1] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels {labels.shape} {labels.dtype} do not fit logits {logits.shape}; "
                         f"expected integers of shape {logits.shape[:-1]}")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[-1]:       # an index out of range would wrap, silently on a GPU
        raise ValueError(f"labels lie in {int(labels.min())} .. {int(labels.max())}; "
                         f"expected classes 0 .. {logits.shape[-1] - 1}, pixels to be ignored have weight 0")
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(f"weights {weights.shape} do not fit labels {labels.shape}; expected the same shape")
    shifted = _class_planes(logits)                                    # (K, N, H, W)
    shifted -= shifted.max(axis=0)
    p = xp.exp(shifted)
    total = p.sum(axis=0)                                              # (N, H, W)
    negative_log_p = xp.log(total) - xp.take_along_axis(shifted, labels[None], 0)[0]
    p /= total
    p -= labels == xp.arange(len(p)).reshape(-1, 1, 1, 1)              # p - q, the one-hot vector
    if weights is not None:
        weights = weights.astype(logits.dtype, copy=False)
        negative_log_p *= weights
        p *= weights
    p /= labels.size
    return negative_log_p.mean(), xp.ascontiguousarray(xp.moveaxis(p, 0, -1))
