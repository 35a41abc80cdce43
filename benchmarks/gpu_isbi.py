"""A training of some minutes on ISBI 2012: a part of benchmarks/gpu.py."""

import time
from pathlib import Path

import numpy as np

from benchmarks.gpu_report import isbi_picture
from npunet import UNet, datasets, training
from npunet.commands.scoring import evaluate
from npunet.commands.train_options import grey_statistics
from npunet.errors import InputError
from npunet.weight_map import class_balance

READ_EVERY = 10  # steps


def isbi(device, options):
    """Training for --minutes on sections 0 to 19 of ISBI 2012, scored on sections 20 to 23, in --precision."""
    dataset = datasets.load(options.data)
    train, held_out = dataset.samples[:20], dataset.samples[20:24]
    if not held_out:
        raise InputError(f"{options.data} has {len(dataset.samples)} images; expected more than 20")
    device.forget()
    device.precision(options.precision)
    mean, std = grey_statistics(train)
    seconds = 60 * min(options.minutes, max(0.2, options.time_left() / 60 - 0.6))
    settings = training.augmentation.Settings(w0=0.0)
    if (
        options.weight_map
    ):  # Eq. 2 in full: V_rand 0.972 instead of 0.961 on a CPU; the host's threads draw the tiles then
        settings = training.augmentation.Settings(
            class_weights=tuple(map(float, class_balance([sample.labels for sample in train], 2)))
        )
    net = UNet(base_channels=options.base_channels, device=device.name, input_mean=mean, input_std=std)
    train = training.placed(train, device.name)

    def run(net, steps):
        recipe = training.Recipe(steps=steps, tile=options.tile, learning_rate=options.learning_rate)
        optimizer, rows = training.make_optimizer(recipe, net.parameters), []
        step_of = (
            training.recorded_step(net, optimizer, recipe.clip)
            if options.graph
            else lambda *batch: training.training_step(net, optimizer, *batch, clip=recipe.clip, wait=False)
        )
        unread, began = [], time.perf_counter()
        for step, batch in enumerate(training.batches(train, recipe, net.output_size(recipe.tile), 0, settings)):
            optimizer.learning_rate = training.learning_rate(recipe, step)
            unread.append(step_of(*batch))
            if len(unread) == READ_EVERY or step + 1 == steps:  # as npunet.train does: the host runs ahead
                found = training.read_back(unread)
                rows += [(time.perf_counter() - began, *numbers) for numbers in found]
                unread = []
        return rows

    first = UNet(base_channels=options.base_channels, device=device.name, input_mean=mean, input_std=std)
    times = [row[0] for row in run(first, options.trial)]
    half = options.trial // 2  # the first half compiles and fills the pool; both end with a reading
    each = (times[-1] - times[half - 1]) / (options.trial - half)
    del first
    steps = max(12, int(0.97 * seconds / each))
    rows = run(net, steps)
    start = time.perf_counter()
    scores, probabilities = evaluate(net, held_out, options.tile)
    device.precision("float32")
    np.savez_compressed(
        Path(options.out) / "held_out.npz", probabilities=np.stack([p[..., 1] for p in probabilities]).astype("float16")
    )
    isbi_picture(rows, held_out[0], probabilities[0], Path(options.out) / "isbi.png")
    return dict(
        seconds=rows[-1][0],
        steps=steps,
        steps_a_second=len(rows) / rows[-1][0],
        precision=options.precision,
        weight_map=options.weight_map,
        scores=scores,
        scoring_seconds=time.perf_counter() - start,
        peak_bytes=device.peak(),
        losses=[round(row[1], 4) for row in rows[:: max(1, steps // 200)]],
    )
