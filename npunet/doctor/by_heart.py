"""Can a fresh network of this kind learn one image by heart? If not, the fault is not that training was too short.

One tile of one training image, the same again and again, without drop-out and augmentation. A network that cannot
repeat it after some hundred steps never will: the recipe does not move it, or image and mask do not belong together.
"""

import dataclasses
import time

import numpy as np

from npunet import metrics, tiling
from npunet.datasets.finding import HIGH, LOW, Finding
from npunet.doctor.from_network import centre, first_tile
from npunet.training import NotFinite, Recipe, learning_rate, make_optimizer, training_step
from npunet.unet import UNet

STEPS, GOOD = 200, 0.9  # at most; mean IoU of a tile that is known by heart


def findings(net, recipe, samples, seconds):
    """A `Finding` about the recipe of the run or its images, or that they are not the reason; none if time is short."""
    sample, began = max(samples, key=most_of_the_rarest), time.perf_counter()
    score, steps, in_time = learned(net, recipe, sample, seconds)
    if score >= GOOD:
        yield Finding(
            "learned by heart",
            f"a fresh network of this size learns one tile of {sample.name} by heart (mean IoU {score:.2f} after "
            f"{steps} steps): recipe, image and mask are not the reason; what the run lacks is steps, or varied images",
            LOW,
        )
    if score >= GOOD or not in_time:
        return
    said = f"a fresh network of this size does not learn one tile of {sample.name} by heart"
    usual = Recipe(tile=recipe.tile)
    left = seconds - (time.perf_counter() - began)
    better, usual_steps, in_time = learned(net, usual, sample, left)
    if better >= GOOD:
        yield Finding(
            "recipe",
            f"{said} with the recipe of the run (mean IoU {score:.2f} after {steps} steps), but does with --optimizer "
            f"adam --learning-rate {usual.learning_rate:g} ({better:.2f} after {usual_steps}); train with those",
            HIGH,
        )
    elif in_time:
        yield Finding(
            "not learned by heart",
            f"{said} (mean IoU {max(score, better):.2f} after {usual_steps} steps): do image and mask belong together? "
            "Look with npunet.inspect; or give more --base-channels",
            HIGH,
        )


def most_of_the_rarest(sample):
    """How many pixels the rarest class of an image has; 0 where there is one class alone."""
    counts = np.unique(sample.labels, return_counts=True)[1]
    return counts.min() if len(counts) > 1 else 0


def learned(net, recipe, sample, seconds):
    """(mean IoU on the tile, steps done, whether all were done in time) of a fresh network like `net`."""
    until = time.perf_counter() + seconds
    fresh = UNet(**net.config | {"dropout": 0.0}, device=net.device)
    recipe = dataclasses.replace(recipe, weight_decay=0.0, schedule="constant")
    optimizer = make_optimizer(recipe, fresh.parameters)
    x = first_tile(fresh, sample, recipe.tile)
    labels = centre(sample.labels, fresh.output_size(recipe.tile))[None]  # (1, H', W')
    score = 0.0
    for step in range(1, STEPS + 1):
        if time.perf_counter() > until:
            return score, step, False
        optimizer.learning_rate = learning_rate(recipe, step - 1)
        try:
            training_step(fresh, optimizer, x, labels, np.ones(labels.shape, np.float32), recipe.clip, recipe.loss)
        except NotFinite:
            return score, step, True
        if step % 10 == 0:
            score = mean_iou(tiling.classify(tiling.predict_piece(fresh, x[0])), labels[0])
            if score >= GOOD:
                break
    return score, step, True


def mean_iou(found, truth):
    """Mean over the classes of the truth."""
    return float(np.mean([metrics.iou(found == index, truth == index) for index in np.unique(truth)]))
