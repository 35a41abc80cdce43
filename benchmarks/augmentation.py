"""What it costs to draw one training tile (§3.1) and to score one section (§4), on one core.

    python -m benchmarks.augmentation

draw_tile: image by cubic spline, labels and instances by nearest neighbour, Eq. 2 after the deformation, for the
paper's tile of 572 -> 388 pixels. Measures: each on one 512 x 512 section, all eleven thresholds. Sections and cells
are the drawn ones of npunet.datasets.synthetic. Prints a table (--out FILE writes it, too); processor time, medians of
a few runs, BLAS held to one thread.
"""

import argparse
import datetime
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from benchmarks.machine import processor
from npunet import augmentation, datasets, instances, metrics
from npunet.commands.scoring import CHALLENGE


def seconds(action, repeats):
    action()  # spline coefficients are kept from the first call on
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


def rows():
    """(what, seconds) pairs."""
    sample = datasets.synthetic(n_sections=1).samples[0]
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal(sample.labels.shape), 2)
    # about a tenth of the pixels wrong
    probability = ndimage.gaussian_filter(sample.labels.astype(np.float64), 1.5) + 1.5 * noise
    probability = probability.clip(0, 1).astype(np.float32)
    for w0 in (10.0, 0.0):
        settings = augmentation.Settings(w0=w0)
        yield (
            f"draw_tile 572 -> 388, w0 = {w0:g}" + f", {sample.instances.max()} cells" * bool(w0),
            seconds(lambda: augmentation.draw_tile(sample, 572, 388, rng, settings), 9),
        )
    for name in CHALLENGE:
        yield name, seconds(lambda: getattr(metrics, name)(probability[None], sample.instances[None]), 3)
    found = instances.components(probability)
    yield (
        "seg, iou, dice, counting errors",
        seconds(
            lambda: (
                metrics.seg(found, sample.instances),
                metrics.iou(found, sample.instances),
                metrics.dice(found, sample.instances),
                metrics.count_errors(found, sample.instances),
            ),
            3,
        ),
    )
    yield "(seeded watershed into cells)", seconds(lambda: instances.seeded_watershed(probability), 3)


def main():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__.splitlines()[0])
    parse.add_argument("--out", help="also write the table to this file", metavar="FILE")
    options = parse.parse_args()
    with threadpool_limits(1):
        found = list(rows())
    scores = sum(time for what, time in found if not what.startswith(("draw", "(")))
    lines = [f"| {what} | {time:.3f} |" for what, time in [*found, ("all measures of one section together", scores)]]
    text = (
        f"# Drawing a tile, scoring a section: processor seconds on one core\n\n{datetime.date.today()}, "
        f"{processor()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}.\n\n    python -m benchmarks.augmentation\n\n| | seconds |\n|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )
    print(text)
    if options.out:
        Path(options.out).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
