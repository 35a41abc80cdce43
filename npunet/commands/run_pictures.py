"""Pictures of a run: the loss curve, and panels of image, truth, probability and error. Drawn without a screen."""

import gc

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from npunet.commands.records import Records
from npunet.files.whole_file import written_whole

LOSS_NAMES = {
    "cross-entropy": "weighted cross-entropy (Eq. 1)",
    "cross-entropy+dice": "weighted cross-entropy (Eq. 1) + Dice loss",
}
LOSS_COLOUR, UNSEEN_COLOUR, SCORE_COLOUR = "#4C72B0", "#1B2A49", "#DD8452"


def loss_curve(path, records, loss="cross-entropy"):
    """Write the loss of the steps, its running median, and the held-out loss and scores.

    records: `Records`, or a list of all that metrics.jsonl holds, of which a long run's steps are thinned out alike.
    loss: one of training.LOSSES, which is what the axis is labelled with.
    """
    records = records if isinstance(records, Records) else Records(records)
    steps = [record["step"] for record in records.steps if "loss" in record]
    losses = [record["loss"] for record in records.steps if "loss" in record]
    scores = [(record["step"], record["held_out"]) for record in records.evaluations]
    each = "each step" if records.every == 1 else f"one step in {records.every}"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color=LOSS_COLOUR, alpha=0.3, linewidth=0.8, label=f"loss of {each}")
    window = max(1, len(losses) // 20)
    if len(losses) >= 2 * window:  # a median does not jump where a single step does
        median = f"median of {window * records.every} steps"
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(losses, window), axis=1)
        axes.plot(steps[window - 1 :], smooth, color=LOSS_COLOUR, linewidth=2, label=median)
    unseen = [(one["step"], one["held_out_loss"]) for one in records.evaluations if one.get("held_out_loss")]
    if unseen:
        axes.plot(*zip(*unseen, strict=True), "^-", color=UNSEEN_COLOUR, markersize=4, label="held-out, unweighted")
    axes.set(xlabel="step", ylabel=LOSS_NAMES[loss], yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    lines, labels = axes.get_legend_handles_labels()
    if scores:
        right = axes.twinx()
        for name, style in (("pixel_accuracy", "o-"), ("mean_iou", "s--")):
            right.plot(
                [step for step, _ in scores],
                [np.nan if score.get(name) is None else score[name] for _, score in scores],
                style,
                color=SCORE_COLOUR,
                markersize=4,
                label=f"held-out {name.replace('_', ' ')}",
            )
        right.set(ylim=(0, 1), ylabel="held-out score")
        lines, labels = [a + b for a, b in zip((lines, labels), right.get_legend_handles_labels())]
    figure.legend(lines, labels, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    save(figure, path)


def prediction_panel(path, samples, probabilities, rows=3):
    """Write rows of image, truth, probability of class 1 (or of the most likely class), and error.

    samples: datasets.Sample; probabilities: (H, W, K) arrays. Errors are red where an object was missed
    (truth 1, found 0 or another class) and blue where one was invented; ignored pixels stay grey.
    """
    rows = min(rows, len(samples))
    figure = Figure(figsize=(12, 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False)
    for axes, sample, probability in zip(grid, samples, probabilities):
        n_classes = probability.shape[-1]
        found = probability.argmax(axis=-1)
        show_image(axes[0], *stretched_if_dark(sample.image, sample.name))
        axes[1].imshow(
            sample.labels,
            cmap="gray" if n_classes == 2 else "viridis",
            vmin=0,
            vmax=n_classes - 1,
            interpolation="nearest",
        )
        shown = probability[..., 1] if n_classes == 2 else found
        axes[2].imshow(
            shown, cmap="gray" if n_classes == 2 else "viridis", vmin=0, vmax=1 if n_classes == 2 else n_classes - 1
        )
        axes[3].imshow(error_picture(sample, found), interpolation="nearest")
        wrong = (found != sample.labels) & ~sample.ignored
        for one, title in zip(
            axes[1:],
            (
                "truth",
                "probability of class 1" if n_classes == 2 else "most likely class",
                f"error: {wrong.mean():.1%} (red missed, blue invented)",
            ),
        ):
            one.set_title(title, fontsize="medium")
        for one in axes:
            one.set_axis_off()
    save(figure, path)


def show_image(axes, image, title):
    """An image (H, W, C) with its values between 0 and 1; grey if it has one channel, its first three otherwise."""
    picture = image[..., 0] if image.shape[-1] < 3 else image[..., :3]
    axes.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(printable(title), fontsize="medium", parse_math=False)


def stretched_if_dark(image, title):
    """(image, title) as they are, or brighter where next to no pixel reaches half of white, as in fluorescence."""
    brightest = float(np.quantile(image, 0.999))
    return (image / max(brightest, 1e-3), f"{title}, contrast stretched") if brightest < 0.5 else (image, title)


def printable(name):
    """A file's name as a figure or a terminal can show it; bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode().replace("\n", " ")


def error_picture(sample, found):
    """(H, W, 3): the image, faint, with missed pixels red and invented ones blue."""
    grey = np.clip(sample.image.mean(axis=-1, keepdims=True), 0, 1) * 0.5 + 0.5  # (H, W, 1)
    picture = np.repeat(grey, 3, axis=2)
    wrong = (found != sample.labels) & ~sample.ignored
    picture[wrong & (sample.labels > 0)] = (0.84, 0.15, 0.16)
    picture[wrong & (sample.labels == 0)] = (0.12, 0.40, 0.80)
    return picture


def save(figure, path):
    """Write the figure as PNG, under a temporary name until it is whole. The figure is empty afterwards."""
    with written_whole(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
    figure.clear()
    gc.collect()  # a figure is a knot of references; a long run would hold tens of megabytes of old ones
