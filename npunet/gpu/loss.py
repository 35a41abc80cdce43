"""Eq. 1 and its gradient on a GPU, in one pass over the logits (loss.cu; npunet/loss.py has the derivation)."""

import math

from npunet.gpu import cuda
from npunet.machine.backend import array_module

KERNELS = cuda.CudaFile("loss")


def cross_entropy(logits, labels, weights=None):
    """logits (N, H, W, K), labels and weights (N, H, W) of the right shapes -> loss, a 0-d array, and dlogits.

    The loss is NaN if a label is no class, or a weight is negative or not finite: to raise an error the host would have
    to wait in every step.
    """
    xp = array_module(logits)
    logits = xp.ascontiguousarray(logits)
    labels = xp.ascontiguousarray(labels.astype("int64", copy=False))
    weighted = weights is not None
    weights = xp.ascontiguousarray(weights.astype(logits.dtype, copy=False)) if weighted else logits  # not read then
    blocks = -(-labels.size // cuda.THREADS)
    dlogits, energy = xp.empty(logits.shape, dtype=logits.dtype), xp.empty((), dtype=logits.dtype)
    partial = xp.empty((blocks,), dtype="float64")
    KERNELS.launch(
        "cross_entropy",
        labels.size,
        logits,
        labels,
        weights,
        dlogits,
        partial,
        labels.size,
        logits.shape[-1],
        int(weighted),
    )
    KERNELS.launch("mean_energy", 1, partial, energy, blocks, labels.size, dtype=logits.dtype)
    return energy, dlogits


def energy_if_valid(energy, labels, classes, weights):
    """energy, a 0-d array, or NaN if a label is not one of 0 .. classes - 1, or a weight is negative or not finite: a
    loss of NaN stops the training.
    """
    valid = ((labels >= 0) & (labels < classes)).all()
    if weights is not None:
        valid &= ((weights >= 0) & (weights < math.inf)).all()  # NaN is neither
    return array_module(energy).where(valid, energy, energy.dtype.type(math.nan))
