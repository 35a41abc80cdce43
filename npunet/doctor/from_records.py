"""What the records of a run say: a loss that does not fall, diverges, or falls while held-out scores get worse."""

import numpy as np

from npunet.datasets.finding import HIGH, MIDDLE, Finding

FEW_STEPS = 50


def findings(records, options):
    """`Finding`s from the lines of metrics.jsonl and the options of the run."""
    losses = np.array([record["loss"] for record in records if "loss" in record])
    if losses.size == 0:
        yield Finding("no step", "no step is recorded; did the run end before its first one?", HIGH)
        return
    yield from _of_steps(records, losses, options)
    yield from _of_losses(losses, options)
    yield from _of_scores(records, losses)


def _of_steps(records, losses, options):
    if losses.size < options["steps"]:
        yield Finding("unfinished", f"{losses.size} of {options['steps']} steps are done; --resume goes on", MIDDLE)
    if losses.size <= max(FEW_STEPS, options["warmup"]):
        yield Finding(
            "few steps",
            f"{losses.size} steps, of which {min(options['warmup'], losses.size)} are warm-up; a network needs some "
            "hundreds: give more --steps",
            MIDDLE,
        )
    norms = [record["gradient_norm"] for record in records if "gradient_norm" in record]
    clip = options["clip"]
    if clip and np.median(norms) > 30 * clip:
        yield Finding(
            "large gradients",
            f"half of the gradients have a norm above {np.median(norms):.3g}, and are cut to {clip:g}; give a tenth of "
            f"the learning rate ({options['learning_rate']:g})",
            MIDDLE,
        )


def _of_losses(losses, options):
    part = max(1, losses.size // 5)
    first, last = np.median(losses[:part]), np.median(losses[-part:])
    rate = options["learning_rate"]
    if last > 2 * max(first, 0.05):
        yield Finding(
            "diverging", f"the loss rose from {first:.3g} to {last:.3g}; give a tenth of --learning-rate {rate:g}", HIGH
        )
    elif last > 0.97 * first and losses.size > FEW_STEPS and last > 0.1:
        low = rate < 1e-5
        cure = f"--learning-rate {rate:g} is very small; the default is 0.001" if low else "are masks and images pairs?"
        yield Finding("loss does not fall", f"the loss went from {first:.3g} to {last:.3g}; {cure}", HIGH)


def _of_scores(records, losses):
    scores = [(record["step"], record["held_out"].get("mean_iou")) for record in records if "held_out" in record]
    known = [(step, score) for step, score in scores if score is not None]
    if scores and not known:
        yield Finding(
            "nothing to score", "no held-out image has an object, so best.npz is no choice; hold out others", HIGH
        )
        return
    if len(known) < 3:
        return
    best_step, best = max(known, key=lambda pair: pair[1])
    last_step, last = known[-1]
    if best - last > 0.1 and np.median(losses[-len(losses) // 5 :]) < np.median(losses[: len(losses) // 5]):
        yield Finding(
            "overfitting",
            f"held-out mean IoU was {best:.3f} at step {best_step} and is {last:.3f} at step {last_step}, while "
            f"the loss "
            "fell; use best.npz, more images, or more augmentation",
            MIDDLE,
        )
