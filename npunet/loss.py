"""The energy function (§3, Eq. 1).

It is "computed by a pixel-wise soft-max over the final feature map combined with the cross entropy loss function" (§3).

Notation: logits a (N, H, W, K), labels l (N, H, W) with values 0 .. K-1, weights w (N, H, W).

    p_k(x) = exp(a_k(x)) / sum over k' of exp(a_k'(x))                       soft-max
    E = - sum over x of  w(x) * log p_l(x)(x)    / number of pixels          Eq. 1

The paper prints Eq. 1 without the minus sign; the thing that is minimised is the negative
log-likelihood. It sums over pixels; here it is the mean over all pixels, so that neither the learning
rate nor the figures depend on the tile size.

Gradient. With q the one-hot vector of the label,  -log p_l = log(sum exp a) - a_l,  whose derivative by
a_k is  exp(a_k) / sum exp a  -  q_k.  Therefore

    dE/da_k(x) = w(x) * (p_k(x) - q_k(x)) / number of pixels

**One logit for two classes.** The soft-max of (0, a) is (1 - s, s) with the sigmoid s = 1 / (1 + exp(-a)), so a network
with a single output channel tells two classes apart; Eq. 1 is then called binary cross-entropy.

**Dice loss** (Milletari et al. 2016, arXiv 1606.04797; not in the paper). Cross-entropy counts pixels; Dice compares
areas, so a small object weighs as much as a large background. Over all pixels and classes (one class: class 1 only), as
milesial/Pytorch-UNet has it:

    D = 1 - (2 I + eps) / (S + eps),      I = sum of p q,     S = sum of p + sum of q,     eps = 1e-6
    g_k = dD/dp_k = (2 I + eps) / (S + eps)^2 - 2 q_k / (S + eps)

and on through the soft-max, dp_j/da_k = p_j ([j = k] - p_k):  dD/da_k = p_k (g_k - sum over j of p_j g_j);
s (1 - s) g with one logit.
"""

import math

from npunet.errors import InputError
from npunet.gpu import by_device
from npunet.gpu import loss as gpu_loss
from npunet.machine.backend import Array, array_module
from npunet.machine.shapes import check_arrays, check_maps

DICE_EPS = 1e-6


def softmax(logits: Array) -> Array:
    """logits (..., K) -> probabilities of the same shape and dtype, positive, sum 1 over the last axis.

    The largest logit is subtracted first: the result is the same and nothing overflows.
    """
    xp = array_module(logits)
    p = _class_planes(logits)  # (K, ...)
    p -= p.max(axis=0)
    xp.exp(p, out=p)
    p /= p.sum(axis=0)
    return xp.ascontiguousarray(xp.moveaxis(p, 0, -1))


def probabilities(logits: Array) -> Array:
    """logits (..., K) -> (..., max(K, 2)): the soft-max, of (0, a) where there is one logit a."""
    xp = array_module(logits)
    return softmax(logits if logits.shape[-1] > 1 else xp.concatenate([xp.zeros_like(logits), logits], axis=-1))


def _class_planes(logits):
    """(..., K) -> a copy (K, ...):
    sums over the few classes are then sums of whole planes, many times faster on a CPU.
    """
    return array_module(logits).moveaxis(logits, -1, 0).copy()


def weighted_cross_entropy_definition(logits: Array, labels: Array, weights: Array) -> float:
    """Eq. 1 as loops over pixels, in Python floats; the loss alone."""
    energy, pixels = 0.0, 0
    for pixel in array_module(logits).ndindex(labels.shape):
        a = [float(value) for value in logits[pixel]]
        probability = math.exp(a[int(labels[pixel])]) / sum(math.exp(value) for value in a)
        energy -= float(weights[pixel]) * math.log(probability)
        pixels += 1
    return energy / pixels


def weighted_cross_entropy(logits: Array, labels: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Eq. 1 and its gradient.

    logits (N, H, W, K) float; labels (N, H, W) integer, 0 .. K-1; weights (N, H, W) float or None (all 1).
    Returns loss, a 0-d array of the logits' dtype, and dlogits (N, H, W, K).
    Raises InputError if labels or weights do not have the shape of the logits' pixels, if labels are not classes, or
    weights negative or not finite. (A GPU is not waited for: for the last two the loss is NaN there, which stops the
    training.)
    """
    check_shapes(logits, labels, weights)
    return _cross_entropy(logits, labels, weights)


def _cross_entropy(logits, labels, weights):
    xp = array_module(logits)
    check_values(labels, logits.shape[-1], weights)  # an index that is no class would wrap
    shifted = _class_planes(logits)  # (K, N, H, W)
    shifted -= shifted.max(axis=0)
    p = xp.exp(shifted)
    total = p.sum(axis=0)  # (N, H, W)
    negative_log_p = xp.log(total) - xp.take_along_axis(shifted, labels[None], 0)[0]
    p /= total
    p -= labels == xp.arange(len(p)).reshape(-1, 1, 1, 1)  # p - q, the one-hot vector
    if weights is not None:
        weights = weights.astype(logits.dtype, copy=False)
        negative_log_p *= weights
        p *= weights
    p /= labels.size
    return negative_log_p.mean(), xp.ascontiguousarray(xp.moveaxis(p, 0, -1))


_cross_entropy = by_device(_cross_entropy, gpu_loss.cross_entropy)


def binary_cross_entropy(logits: Array, labels: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Eq. 1 for two classes and one logit:
    logits (N, H, W, 1), labels (N, H, W) 0 or 1, weights (N, H, W) or None -> loss, dlogits.

    -log s = log(1 + exp(-a)) and -log(1 - s) = log(1 + exp(a)), both without overflow as max(a, 0) - a l + log(1 +
    exp(-|a|)). Raises InputError as `weighted_cross_entropy` does.
    """
    check_shapes(logits, labels, weights)
    xp = array_module(logits)
    a, q = logits[..., 0], labels.astype(logits.dtype)  # (N, H, W)
    small = xp.exp(-abs(a))
    negative_log_p = xp.maximum(a, 0) - a * q + xp.log(1 + small)
    gradient = xp.where(a > 0, 1 / (1 + small), small / (1 + small)) - q
    if weights is not None:
        weights = weights.astype(logits.dtype, copy=False)
        negative_log_p *= weights
        gradient *= weights
    return energy_if_valid(negative_log_p.mean(), labels, 2, weights), gradient[..., None] / labels.size


def dice_loss(logits: Array, labels: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """D and its gradient: logits (N, H, W, K), labels (N, H, W), weights (N, H, W) or None -> loss, dlogits.

    Pixels of weight 0 do not count; other weights mean nothing here. Raises InputError as `weighted_cross_entropy`
    does.
    """
    check_shapes(logits, labels, weights)
    xp, classes = array_module(logits), logits.shape[-1]
    p = xp.moveaxis(probabilities(logits), -1, 0)  # (K or 2, N, H, W)
    q = labels == xp.arange(len(p)).reshape(-1, 1, 1, 1)  # one-hot
    if classes == 1:
        p, q = p[1:], q[1:]  # (1, N, H, W): class 1 alone
    counted = xp.ones_like(labels, dtype=bool) if weights is None else weights > 0
    intersection = (p * (q & counted)).sum(dtype="float64")
    total = (p * counted).sum(dtype="float64") + (q & counted).sum()
    score = (2 * intersection + DICE_EPS) / (total + DICE_EPS)
    g = (score - 2 * q) * counted / (total + DICE_EPS)  # float64
    g = g.astype(logits.dtype)
    dlogits = p * (1 - p) * g if classes == 1 else p * (g - (p * g).sum(axis=0))
    energy = energy_if_valid((1 - score).astype(logits.dtype), labels, max(classes, 2), weights)
    return energy, xp.ascontiguousarray(xp.moveaxis(dlogits, 0, -1))


def energy_if_valid(energy: Array, labels: Array, classes: int, weights: Array | None) -> Array:
    """energy itself, if labels and weights pass `check_values`. (On a GPU it is NaN if not, and nothing is raised.)"""
    check_values(labels, classes, weights)
    return energy


energy_if_valid = by_device(energy_if_valid, gpu_loss.energy_if_valid)


def check_values(labels: Array, classes: int, weights: Array | None) -> None:
    """Raises InputError if a label is not one of 0 .. classes - 1, or a weight is negative or not finite: below 0 the
    energy would fall where the prediction becomes worse.
    """
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(
            f"labels lie in {int(labels.min())} .. {int(labels.max())}; "
            f"expected classes 0 .. {classes - 1}, pixels to be ignored have weight 0"
        )
    if weights is None:
        return
    least, most = float(weights.min()), float(weights.max())
    if not 0 <= least <= most < math.inf:  # NaN is neither
        raise InputError(f"weights lie in {least:g} .. {most:g}; expected finite ones, 0 for pixels that do not count")


def check_shapes(logits: Array, labels: Array, weights: Array | None) -> None:
    """Raises InputError unless these are arrays, and labels and weights have the shape of the pixels of the logits."""
    check_maps("loss", logits=logits)
    check_arrays("loss", labels=labels, weights=weights)
    if labels.shape != logits.shape[:-1] or labels.dtype.kind not in "iu" or not labels.size:
        raise InputError(
            f"labels {labels.shape} {labels.dtype} do not fit logits {logits.shape}; "
            f"expected integers of shape {logits.shape[:-1]}, one at least"
        )
    if weights is not None and weights.shape != labels.shape:
        raise InputError(f"weights {weights.shape} do not fit labels {labels.shape}; expected the same shape")
