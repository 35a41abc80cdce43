"""Pictures of cells: found ones beside true ones."""

import colorsys

import numpy as np
from matplotlib.figure import Figure

from npunet import metrics
from npunet.commands import run_pictures


def cells_panel(path, sample, found):
    """Write image, true cells and found cells;
    a found cell has the colour of the true one that it covers most of, else it is white.
    """
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    run_pictures.show_image(
        left, sample.image / max(np.quantile(sample.image, 0.999), 1e-3), f"{sample.name}, contrast stretched"
    )
    truth = sample.instances
    colours = palette(int(truth.max()))
    middle.imshow(colours[truth], interpolation="nearest")
    right.imshow(np.concatenate([colours, np.ones((1, 3))])[in_colours_of(found, truth)], interpolation="nearest")
    counts = metrics.count_errors(found, truth)
    middle.set_title(f"truth: {counts['true']} cells", fontsize="medium")
    right.set_title(
        f"found: {counts['found']} cells\n{counts['merged']} merged, {counts['split']} split, {counts['missed']} "
        f"missed, "
        f"{counts['invented']} invented",
        fontsize="medium",
    )
    for axes in (left, middle, right):
        axes.set_axis_off()
    run_pictures.save(figure, path)


def palette(count):
    """(count + 1, 3): black for 0, then hues a golden angle apart, so that neighbouring numbers look different."""
    return np.array(
        [
            (0.0, 0.0, 0.0),
            *(
                colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75 - 0.3 * (index % 2), 1 - 0.25 * (index % 3) / 2)
                for index in range(count)
            ),
        ]
    )


def in_colours_of(found, truth):
    """(H, W): for each found cell the number of the true cell that it shares most pixels with;
    truth.max() + 1 if it shares none.
    """
    shared = metrics.contingency_table(found, truth)[0].toarray()  # (true + 1, found + 1); column 0 is empty
    colour = np.where(shared.any(axis=0), shared.argmax(axis=0), truth.max() + 1)
    colour[0] = 0
    return colour[found]
