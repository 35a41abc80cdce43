"""The pictures of a report: curves, the worst and the best image, and found cells beside true ones."""

import numpy as np

from npunet.commands import run_pictures
from npunet.commands.cell_pictures import cells_panel


def draw(folder, outcome, ranking, show_data):
    """Write curves.png, and with show_data worst.png, best.png, and cells_worst.png, cells_best.png where there are
    cells; the list of names.
    """
    run_pictures.loss_curve(folder / "curves.png", outcome.records, outcome.options["loss"])
    names = ["curves.png"]
    worst, best = _extremes(outcome, ranking)
    for name, index in (("worst", worst), ("best", best)) if show_data else ():
        sample, probability = outcome.samples[index], outcome.probabilities[index]
        run_pictures.prediction_panel(folder / f"{name}.png", [sample], [probability])
        names.append(f"{name}.png")
        if outcome.found is not None:
            cells_panel(folder / f"cells_{name}.png", sample, outcome.found[index])
            names.append(f"cells_{name}.png")
    return names


def _extremes(outcome, ranking):
    """Indices of the samples with the lowest and the highest score of this name."""
    values = np.array([row[ranking] for row in outcome.rows])
    return int(np.argmin(np.where(np.isnan(values), np.inf, values))), int(
        np.argmax(np.where(np.isnan(values), -np.inf, values))
    )


def extremes(outcome, ranking):
    """The samples' names, worst and best."""
    return tuple(outcome.samples[index].name for index in _extremes(outcome, ranking))
