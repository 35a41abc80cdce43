"""What a network does with annotated images: one class everywhere, a wrong threshold, dead ReLUs, no gradient."""

import numpy as np

from npunet import metrics, tiling
from npunet.datasets.finding import HIGH, MIDDLE, Finding
from npunet.layers import BatchNorm, Convolution, InstanceNorm
from npunet.machine.backend import to_cpu
from npunet.training import energy_of

THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
WORDS = {0: "black", 1: "white"}
MUCH_DROPOUT = 0.8
SILENT = ("black", "white", "grey", "one class", "no better than one class")  # kinds of predictions that say nothing


def findings(net, samples, probabilities, tile):
    """`Finding`s from the (H, W, K) probabilities of annotated samples, and from one pass through the network."""
    yield from one_class(samples, probabilities)
    yield from dead_layers(net, samples[0], tile)
    yield from gradients(net, samples[0], tile)


def much_dropout(silent, probability):
    """A `Finding` if predictions say nothing and training dropped nearly all channels. Alone it is no illness: over the
    skip connections a network can learn without them.
    """
    if probability >= MUCH_DROPOUT and any(finding.kind in SILENT for finding in silent):
        yield Finding(
            "dropout",
            f"the dropout probability is {probability:g}: one channel in {1 / max(1 - probability, 1e-9):.0f} is left "
            "at the end of the contracting path, and predictions say nothing; the default is 0.5",
            MIDDLE,
        )


def one_class(samples, probabilities):
    """Predictions that are one class nearly everywhere though the masks are not, and what another threshold does."""
    found = np.concatenate([tiling.classify(p).ravel() for p in probabilities])
    truth = np.concatenate([sample.labels.ravel() for sample in samples])
    n_classes = probabilities[0].shape[-1]
    shares = np.bincount(found, minlength=n_classes) / found.size
    true_shares = np.bincount(truth, minlength=n_classes) / truth.size
    common = int(shares.argmax())
    if shares[common] < 0.995 or true_shares[common] > 0.98:
        yield from no_better(found, truth, true_shares)
        return
    p = np.concatenate([probability[..., -1 if n_classes > 2 else 1].ravel() for probability in probabilities])
    picture = f"{shares[common]:.1%} of the pixels are predicted as class {common}, {true_shares[common]:.1%} are so"
    if n_classes == 2:
        scores = {threshold: metrics.iou(p > threshold, truth == 1) for threshold in THRESHOLDS}
        best = max(scores, key=scores.get)
        if scores[best] > max(0.3, 1.5 * true_shares[1] if true_shares[1] < 0.5 else 1.1 * true_shares[1]):
            yield Finding(
                "threshold",
                f"{picture}, but at --threshold {best:g} the IoU is {scores[best]:.3f}: the class balance has moved "
                f"the "
                "probabilities; predict with that threshold, or train longer",
                HIGH,
            )
            return
        if p.std() < 0.02 and 0.3 < p.mean() < 0.7:
            yield Finding(
                "grey", f"{picture}; all probabilities lie near {p.mean():.2f}: nothing was learned yet", HIGH
            )
            return
    yield Finding(
        WORDS.get(common, "one class") if n_classes == 2 else "one class",
        f"{picture}; probabilities of the other classes are {p.mean():.3g} in the mean, and no threshold helps: train "
        "longer, with a lower learning rate, or with --class-balance",
        HIGH,
    )


def no_better(found, truth, true_shares):
    """Predictions that score no better than the commonest class everywhere."""
    accuracy = float((found == truth).mean())
    if accuracy <= true_shares.max() and metrics.iou(found > 0, truth > 0) < max(0.1, 0.7 * (1 - true_shares[0])):
        yield Finding(
            "no better than one class",
            f"{accuracy:.1%} of the pixels are right; the commonest class everywhere would have "
            f"{true_shares.max():.1%}: "
            "train longer, and look at the data with npunet.inspect",
            HIGH,
        )


def dead_layers(net, sample, tile):
    """Layers most of whose channels are 0 for every pixel of an image."""
    maps = net.feature_maps(first_tile(net, sample, tile))
    dead = {}
    for name, layer in net.layers.items():
        if isinstance(layer, Convolution) and layer.relu or isinstance(layer, (BatchNorm, InstanceNorm)):
            values = to_cpu(maps[name])
            dead[name] = float((values.reshape(-1, values.shape[-1]).max(axis=0) <= 0).mean())
    worst = {name: share for name, share in dead.items() if share > 0.75}
    if worst:
        shown = ", ".join(f"{name} {share:.0%}" for name, share in list(worst.items())[:4])
        yield Finding(
            "dead ReLUs",
            f"channels that are 0 everywhere: {shown}; give a lower learning rate or longer --warmup",
            HIGH,
        )


def gradients(net, sample, tile):
    """Layers that get no gradient from an image."""
    x = first_tile(net, sample, tile)
    logits = net.forward(x, train=True)
    output = net.output_size(x.shape[1])
    labels = centre(sample.labels, output)[None] % net.n_labels
    energy, dlogits = energy_of("cross-entropy", logits, labels, None)
    net.backward(dlogits, need_dx=False)
    norms = {}
    for name, parameter in net.parameters.items():
        if name.endswith("weight"):
            norms[name.removesuffix(".weight")] = float(np.linalg.norm(to_cpu(parameter.grad)))
            parameter.grad = None
    silent = [name for name, norm in norms.items() if norm < 1e-12]
    if silent and float(energy) > 1e-6:
        yield Finding(
            "no gradient",
            f"no gradient reaches {', '.join(silent[:4])}, though the loss is {float(energy):.3g}: what comes "
            f"after it is "
            "dead or saturated; start again with a lower learning rate",
            MIDDLE,
        )


def first_tile(net, sample, tile):
    """(1, tile, tile, C): the middle of the image, mirrored at its borders where it is smaller than the tile."""
    height, width = sample.image.shape[:2]
    piece = tiling.gather(sample.image, (height - tile) // 2, (width - tile) // 2, tile, tile)
    return piece.reshape(1, tile, tile, -1).astype(net.dtype)


def centre(labels, size):
    """(size, size): the middle of a label image, mirrored where it is smaller."""
    height, width = labels.shape
    return tiling.gather(labels[..., None], (height - size) // 2, (width - size) // 2, size, size)[..., 0]
