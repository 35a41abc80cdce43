"""python -m npunet.train: train a U-Net on a folder of images and masks, a pair of TIFF stacks, or synthetic sections.

The last images of the set are held out as one block (neighbouring sections of a stack look alike, so a
random split would flatter the score). Everything goes to one run folder, see `npunet.commands.run_folder`.
"""

import dataclasses
import math
import signal
import statistics
import sys
import time

from tqdm import tqdm

from npunet import datasets, tiling
from npunet.commands import cli, memory_needs, scaling
from npunet.commands.run_folder import OF_TRAINING, RunFolder
from npunet.commands.scoring import evaluate, mean_dice
from npunet.commands.train_options import (
    CHANGEABLE_ON_RESUME,
    DEFAULTS,
    LOADED,
    augmentation_settings,
    check,
    gap_of,
    grey_statistics,
    parser,
    recipe_of,
)
from npunet.datasets.labels import with_gaps
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.machine import threads
from npunet.machine.backend import peak_memory
from npunet.training import (
    NotFinite,
    Plateau,
    batches,
    diagnosis,
    draw_batch,
    learning_rate,
    make_optimizer,
    placed,
    read_back,
    training_step,
)
from npunet.unet import VARIANTS, UNet

TIMED_STEPS, SHARE_OF_TIME = (
    5,
    0.95,
)  # --minutes: steps that are timed; what is planned for, the rest is for checkpoints and pictures
READ_EVERY = 10  # steps that a GPU may be ahead of the host, which reads their losses together


def main(arguments=None):
    given = vars(parser(__doc__.split("\n\n")[0].partition(": ")[2]).parse_args(arguments))
    resume = given.pop("resume", None)
    config = None
    if resume is None:
        check_length(given)
        options = DEFAULTS | given
        loaded = UNet.load(options["load"]) if options["load"] else None
        if loaded:
            options |= {name: loaded.config.get(name, False) for name in LOADED} | given
        if "tile" not in given and VARIANTS[options["variant"]].padding:
            options["tile"] = 512
        check(options)
        RunFolder.check_free(options["out"])
    else:
        run, config = RunFolder.reopen(resume, OF_TRAINING)
        refused = [name for name in given if name not in CHANGEABLE_ON_RESUME]
        if refused:
            raise InputError(
                f"--{refused[0].replace('_', '-')} cannot change when a run is resumed; only "
                f"--{', --'.join(CHANGEABLE_ON_RESUME).replace('_', '-')} can"
            )
        options = DEFAULTS | config["options"] | given
        check(options)
    if options["threads"]:
        threads.set_num_threads(options["threads"])
    dataset = scaling.scaled_dataset(datasets.load(options["data"], labels=options["labels"]), options["scale"])
    training, held_out = dataset.split(options["held_out"] or 1 / 6)
    print(datasets.describe(dataset))
    if config:
        check_same_data(config, held_out, options["data"])
    if gap := gap_of(options, dataset):
        training.samples = [with_gaps(sample, gap) for sample in training.samples]
    if options["epochs"] and not config:
        options["steps"] = options["epochs"] * -(-len(training.samples) // options["batch"])
    if config:
        net = UNet(**config["network"], device=options["device"], recompute=options["recompute"])
    else:
        net = new_network(options, dataset, training, loaded)
    cli.set_tf32(options["tf32"], options["device"], net.device)
    if options["tile"] == "auto":
        options["tile"] = memory_needs.tile_for_training(
            net, max(max(sample.labels.shape) for sample in training.samples), options["batch"]
        )
    memory_needs.check_training(net, options["tile"], options["batch"])
    if options["minutes"] and not config:
        with memory_needs.out_of_memory(net, options["tile"], options["batch"]):
            options["steps"] = steps_in(60 * options["minutes"], net, training, held_out, options)
        net = new_network(options, dataset, training, loaded)
    net.mask_values = list(dataset.class_values) if dataset.class_values else None
    optimizer = make_optimizer(recipe_of(options), net.parameters)
    progress = {"step": 0, "best": -1.0}
    if resume is None:
        run = RunFolder.create(
            options["out"],
            {
                "options": options,
                "network": net.config,
                "held_out": [sample.name for sample in held_out.samples],
                "data": {
                    "labels": dataset.kind,
                    "class_values": dataset.class_values if dataset.kind == "classes" else None,
                },
            },
        )
    else:
        progress = run.restore("newest.npz", net, optimizer)
        if progress["step"] > options["steps"]:
            raise InputError(
                f"--steps {options['steps']}, but the run in {run.path} has done {progress['step']}; give more, or "
                f"leave it out"
            )
        run.go_on_from(progress["step"])
        print(f"going on from step {progress['step']}")
    print(
        f"U-Net ({options['variant']}): {net.n_parameters:,} parameters, tile {options['tile']} -> "
        f"{net.output_size(options['tile'])}, "
        f"device {net.device}; {len(training.samples)} images to train on, {len(held_out.samples)} held out; results "
        f"in {run.path}/"
    )
    with memory_needs.out_of_memory(net, options["tile"], options["batch"]), run.writing():
        finished = Session(run, net, optimizer, training, held_out, options, progress).train()
    if not finished:
        sys.exit(130)


def check_length(given):
    """Raises InputError if the command line says in two ways how long to train."""
    ways = [f"--{name}" for name in ("steps", "minutes", "epochs") if name in given]
    if len(ways) > 1:
        raise InputError(f"{' and '.join(ways)} all say how long to train; give one of them")


def check_same_data(config, held_out, source):
    """Raises InputError if a resumed run would hold out other images:
    it has learned some of those, and its scores would mean something else.
    """
    before, now = config["held_out"], [sample.name for sample in held_out.samples]
    if before != now:
        raise InputError(
            f"data {source}: the last {len(now)} images are {now[0]} to {now[-1]}, but this run holds out {before[0]} "
            f"to {before[-1]}; "
            "give the --data that it began with, or start a new run"
        )


def steps_in(seconds, net, training, held_out, options):
    """How many steps, evaluations included, fit into so many seconds;
    measured with a few of them, which `net` is not the same after.
    """
    began = time.perf_counter()
    recipe = dataclasses.replace(recipe_of(options), steps=TIMED_STEPS + 2)
    optimizer, settings = make_optimizer(recipe, net.parameters), augmentation_settings(options, training)
    samples, workers = placed(training.samples, net.device, settings)
    moments = []
    for batch in batches(samples, recipe, net.output_size(recipe.tile), 0, settings, workers):
        training_step(net, optimizer, *batch, clip=recipe.clip, loss=recipe.loss)
        moments.append(time.perf_counter())
    step = statistics.median(after - before for before, after in zip(moments[1:], moments[2:]))  # the first are slower
    start = time.perf_counter()
    evaluate(net, held_out.samples, evaluation_tile(net, recipe.tile), quick=True)
    now = time.perf_counter()
    left = SHARE_OF_TIME * seconds - (now - began)
    if options["evaluate_every"]:
        steps = left / (step + (now - start) / options["evaluate_every"])
    else:
        steps = (left - 10 * (now - start)) / step  # ten evaluations, see Session.train
    steps = max(1, int(steps))
    print(
        f"{step:.3g} s a step, {now - start:.3g} s an evaluation: {steps} steps in {seconds / 60:g} minutes (--steps "
        f"{steps} repeats this run)"
    )
    return steps


def evaluation_tile(net, tile):
    """The tile for the held-out images: that of training;
    for padded networks at least their default, which takes them whole.
    """
    return max(tile, tiling.default_tile(net)) if net.options.padding else tile


def new_network(options, dataset, training, loaded):
    """The untrained network of the options, or with the weights of `loaded`; it must fit the data.

    Batch normalisation centres the maps itself, so such networks see the grey values as they are, which PyTorch's files
    expect.
    """
    n_classes = options["classes"] or (loaded.n_classes if loaded else dataset.n_classes)
    if max(n_classes, 2) < dataset.n_classes:
        raise InputError(
            f"--classes {n_classes}, but the masks hold {dataset.n_classes} classes; give --classes {dataset.n_classes}"
        )
    mean, std = (0.0, 1.0) if VARIANTS[options["variant"]].batch_norm else grey_statistics(training.samples)
    if loaded:
        mean, std = loaded.input_mean, loaded.input_std
    net = UNet(
        dataset.in_channels,
        n_classes,
        options["base_channels"],
        options["depth"],
        variant=options["variant"],
        bilinear=options["bilinear"],
        dropout=options["dropout"],
        device=options["device"],
        seed=options["seed"],
        input_mean=mean,
        input_std=std,
        recompute=options["recompute"],
    )
    if loaded:
        checkpoint.fill_network(net, checkpoint.network_entries(loaded), options["load"])
    return net


class Session:
    """One call of the command: the loop over steps with its evaluations and checkpoints."""

    def __init__(self, run, net, optimizer, training, held_out, options, progress):
        self.run, self.net, self.optimizer, self.options, self.progress = run, net, optimizer, options, progress
        self.training, self.held_out = training.samples, held_out.samples
        self.recipe = recipe_of(options)
        self.plateau = Plateau(**progress.get("plateau", {}))
        self.settings = augmentation_settings(options, training)
        self.unread, self.smooth = [], None  # [(step, learning rate, report)] that are not recorded yet
        self.stop_requested = False

    def train(self):
        """Run the remaining steps; returns False if Ctrl-C ended them early."""
        recipe, first = self.recipe, self.progress["step"]
        every = self.options["evaluate_every"] or max(1, recipe.steps // 10)
        before = {number: signal.signal(number, self.request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(
            total=recipe.steps,
            initial=first,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            bar_format="{n}/{total} |{bar}| {elapsed}<{remaining}{postfix}",
        )
        read_every, start = READ_EVERY if self.net.device == "gpu" else 1, time.perf_counter()
        try:
            output = self.net.output_size(recipe.tile)
            self.samples, workers = placed(self.training, self.net.device, self.settings)
            for step, batch in enumerate(
                batches(self.samples, recipe, output, first, self.settings, workers), start=first
            ):
                start = time.perf_counter() if not self.unread else start
                self.optimizer.learning_rate = self.plateau.factor * learning_rate(recipe, step)
                report = self.step(step, batch)
                self.unread.append((step + 1, self.optimizer.learning_rate, report))
                due = (step + 1) % every == 0 or step + 1 == recipe.steps
                if len(self.unread) == read_every or due or self.stop_requested:
                    self.read(bar, start)
                if self.stop_requested and not self.unread:  # not if it was requested just now
                    break
                if due:
                    self.evaluate(bar)
        finally:
            bar.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stop_requested:
            self.save_newest()
            self.run.draw()
            print(
                f"stopped after step {self.progress['step']}; go on with: python -m npunet.train --resume "
                f"{self.run.path}"
            )
            return False
        self.report()
        return True

    def step(self, step, batch):
        """One step; returns its loss and gradient norm, on a GPU as an array that need not be computed yet."""
        try:
            return training_step(
                self.net, self.optimizer, *batch, clip=self.recipe.clip, loss=self.recipe.loss, wait=False
            )
        except NotFinite as error:
            self.stop_at(step + 1, error)

    def read(self, bar, start):
        """Record the steps since the last reading, the first of which began at ``start``."""
        numbers = read_back([report for *_, report in self.unread])
        seconds = (time.perf_counter() - start) / len(numbers)
        for (step, rate, _), (energy, norm) in zip(self.unread, numbers):
            if not math.isfinite(energy + norm):  # only on a GPU, which has changed nothing since
                images, *_ = draw_batch(
                    self.samples, self.recipe, self.net.output_size(self.recipe.tile), step - 1, self.settings
                )
                self.stop_at(step, diagnosis(self.net, images, energy, norm))
            self.smooth = energy if self.smooth is None else 0.95 * self.smooth + 0.05 * energy
            self.progress["step"] = step
            self.run.record(step=step, loss=energy, gradient_norm=norm, learning_rate=rate, seconds=round(seconds, 4))
        bar.set_postfix_str(f"loss {self.smooth:.4f}, {seconds:.2f} s/step", refresh=False)
        bar.update(len(numbers))
        self.unread.clear()

    def stop_at(self, step, error):
        self.run.draw()
        kept = (
            f"the last good checkpoint is {self.run.path / 'newest.npz'}"
            if self.progress["best"] >= 0
            else "no checkpoint yet"
        )
        raise InputError(f"step {step}: {error}; {kept}") from None

    def evaluate(self, bar):
        """Score the held-out images, keep the newest and the best network, redraw the pictures."""
        bar.set_postfix_str("scoring the held-out images")
        scores, probabilities = evaluate(
            self.net, self.held_out, evaluation_tile(self.net, self.recipe.tile), quick=True
        )
        if self.recipe.schedule == "plateau":
            self.plateau.report(mean_dice(self.held_out, probabilities))
            self.progress["plateau"] = vars(self.plateau)
        self.run.record(step=self.progress["step"], held_out=scores)
        tqdm.write(
            f"step {self.progress['step']}: held-out "
            + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
        )
        if scores["mean_iou"] > self.progress["best"]:
            self.progress["best"] = scores["mean_iou"]
            self.run.save_network("best.npz", self.net, self.optimizer, self.progress)
        self.save_newest()
        self.run.draw(self.held_out, probabilities)

    def save_newest(self):
        self.run.save_network("newest.npz", self.net, self.optimizer, self.progress)

    def report(self):
        evaluations = [record for record in self.run.records if "held_out" in record]
        if not evaluations:
            print(f"all {self.recipe.steps} steps are done, and none was scored; --steps N goes on")
            return
        best = max(evaluations, key=lambda record: record["held_out"]["mean_iou"])
        scores = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in best["held_out"].items())
        if self.net.device == "gpu":
            print(f"most GPU memory in use: {peak_memory() / 1e9:.1f} GB")
        print(
            f"best held-out scores (step {best['step']}): {scores}\n"
            f"results in {self.run.path}/: panel.png (image, truth, probability, error), loss.png, best.npz, "
            f"newest.npz, metrics.jsonl"
        )

    def request_stop(self, number, frame):
        if self.stop_requested:  # the second time: now
            raise KeyboardInterrupt
        self.stop_requested = True
        tqdm.write("stopping after this step; once more to stop at once", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
