"""python -m npunet.train: train a U-Net on a folder of images and masks, a pair of TIFF stacks, or synthetic sections.

The last images of the set are held out as one block (neighbouring sections of a stack look alike, so a
random split would flatter the score). Everything goes to one run folder, see `npunet.commands.run_folder`.
"""

import contextlib
import dataclasses
import statistics
import sys
import time
from pathlib import Path

from npunet import datasets, geometry, parallel
from npunet.commands import cli, memory_needs, scaling
from npunet.commands.choose_cutting import first_cutting, tuning_samples
from npunet.commands.follower import folder_class
from npunet.commands.grey_values import load_to_train
from npunet.commands.run_folder import OF_TRAINING
from npunet.commands.scoring import evaluate
from npunet.commands.session import Session, evaluation_tile
from npunet.commands.starting_weights import new_network
from npunet.commands.train_options import (
    CHANGEABLE_ON_RESUME,
    DEFAULTS,
    LOADED,
    augmentation_settings,
    check,
    gap_of,
    parser,
    recipe_of,
    stored,
)
from npunet.datasets.dataset import HELD_OUT, fingerprint
from npunet.datasets.findings import worst_findings
from npunet.datasets.heads import with_head
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.machine import ranks, threads
from npunet.machine.backend import resolve_device
from npunet.training import batches, make_optimizer, placed, training_step
from npunet.unet import UNet
from npunet.variants import VARIANTS
from npunet.weight_map import with_gaps

# --minutes: steps that are timed; the share of the time that is planned for, the rest is for checkpoints and pictures
TIMED_STEPS, SHARE_OF_TIME = 5, 0.95
LARGEST_PADDED = 512  # the tile of padded variants, unless it is given or the images are smaller


def main(arguments=None):
    given = vars(parser().parse_args(arguments))
    resume = given.pop("resume", None)
    cli.join(given.get("device", DEFAULTS["device"] if resume is None else "auto"))
    begin = new_run(given) if resume is None else resumed_run(resume, given)
    with begin as session:
        tile, batch = session.recipe.tile, session.recipe.batch
        print(
            f"U-Net ({session.options['variant']}): {session.net.n_parameters:,} parameters, tile {tile} -> "
            f"{session.net.output_size(tile)}, device {session.net.device}; {len(session.training)} images to train "
            f"on, {len(session.held_out)} held out; results in {session.run.path}/"
            + (f"; {ranks.size()} processes, {ranks.size() * batch} tiles a step" if ranks.size() > 1 else "")
        )
        with memory_needs.out_of_memory(session.net, tile, batch), session.run.writing():
            finished = session.train()
    if not finished:
        sys.exit(130)


@contextlib.contextmanager
def new_run(given):
    """A run from its beginning: within, a `Session` whose folder holds config.json and is nobody else's."""
    # 1. The options, all of them checked before anything is read or written.
    options, loaded = new_options(given)
    folder = folder_class()
    folder.check_free(options["out"])
    # 2. The data: what they look like is printed, and the last images are held out.
    dataset, training, held_out, prints = read_data(options)
    follow_images(options, given, dataset, loaded)
    if options["epochs"]:
        options["steps"] = options["epochs"] * -(-len(training) // options["batch"])
    # 3. The network, a tile that fits, and the memory that a step needs.
    net = new_network(options, dataset, training, loaded)
    prepare(options, net, training)
    # 4. --minutes: how many steps that is. Timing them has changed the network, so it is made again.
    if options["minutes"]:
        with memory_needs.out_of_memory(net, options["tile"], options["batch"]):
            options["steps"] = ranks.from_first(steps_in(60 * options["minutes"], net, training, held_out, options))
        net = new_network(options, dataset, training, loaded)
    optimizer = make_optimizer(recipe_of(options), net.parameters)
    # 5. The folder.
    with folder(options["out"]).reserved() as run:
        run.create(configuration(options, net, dataset, prints))
        progress = {"step": 0, "best": -1.0}
        yield Session(run, net, optimizer, training, held_out, options, progress, tuning_of(dataset, held_out))


@contextlib.contextmanager
def resumed_run(path, given):
    """The run in the folder `path`, where its newest checkpoint stands: within, a `Session` that goes on from there."""
    # 1. The options of the run, and those that may change.
    run, config = folder_class().reopen(path, OF_TRAINING, "--resume")
    refused = [name for name in given if name not in CHANGEABLE_ON_RESUME]
    if refused:
        raise InputError(
            f"--{refused[0].replace('_', '-')} cannot change when a run is resumed; only "
            f"--{', --'.join(CHANGEABLE_ON_RESUME).replace('_', '-')} can"
        )
    options = stored(config, run.path / "config.json") | given
    check(options)
    with run.reserved():
        # 2. The data, which must be those that it began with.
        dataset, training, held_out, prints = read_data(options)
        check_same_data(config, prints, options["data"])
        check_same_threads(config)
        # 3. The network and everything else that the checkpoint holds.
        how = dict(device=resolve_device(options["device"]), recompute=options["recompute"])
        newest = run.newest(config["network"])
        net = checkpoint.build(UNet, config["network"], run.path / "config.json", **how)
        net.mask_values = list(dataset.class_values) if dataset.class_values else None
        net.grey_rule = dataset.grey_rule
        if dataset.kind == "instances":
            net.cutting = first_cutting(training.samples, options["head"]).as_dict()
        prepare(options, net, training)
        optimizer = make_optimizer(recipe_of(options), net.parameters)
        progress = run.restore(newest, net, optimizer)
        del newest  # it is as large as network and optimiser together
        if progress["step"] > options["steps"]:
            raise InputError(
                f"--steps {options['steps']}, but the run in {run.path} has done {progress['step']}; give more, or "
                f"leave it out"
            )
        run.go_on_from(progress["step"])
        if progress["step"] < options["steps"]:
            print(f"going on from step {progress['step']}")
        else:
            print(f"{run.path} is done: all {options['steps']} steps; --steps N with a larger N goes on")
        yield Session(run, net, optimizer, training, held_out, options, progress, tuning_of(dataset, held_out))


def new_options(given):
    """(options, the network of --load or None): defaults, what that file decides, and what was given.

    Raises InputError for what cannot work, or two ways of saying how long to train.
    """
    ways = [f"--{name}" for name in ("steps", "minutes", "epochs") if name in given]
    if len(ways) > 1:
        raise InputError(f"{' and '.join(ways)} all say how long to train; give one of them")
    options = DEFAULTS | given
    loaded = UNet.load(options["load"]) if options["load"] else None
    if loaded:
        decided = {name: loaded.config.get(name, False) for name in LOADED}
        for name in decided.keys() & given.keys():
            if given[name] != decided[name]:
                raise InputError(
                    f"--{name.replace('_', '-')} {given[name]} beside --load {options['load']}, whose network has "
                    f"{decided[name]}; leave it out, the file decides it"
                )
        options |= decided
        options |= {"head": loaded.cutting.get("head", "mask")} if loaded.cutting and "head" not in given else {}
    if "tile" not in given and VARIANTS[options["variant"]].padding:
        options["tile"] = LARGEST_PADDED
    check(options)
    parallel.check_loss(options["loss"])
    return options, loaded


def read_data(options):
    """(data set, training images, held-out images, their fingerprints); prints what the images look like.

    Touching cells get their gaps, and all cells the classes of another head than the mask, in the training images only.
    The fingerprints are of the data as they were read.
    """
    if options["threads"]:
        threads.set_num_threads(options["threads"])
    dataset = load_to_train(options)
    print(datasets.describe(dataset))
    for finding in worst_findings(dataset, options["held_out"] or HELD_OUT):
        print(f"  WARNING: {finding}")
    prints = [
        {sample.name: [fingerprint(sample.image), fingerprint(sample.labels)] for sample in part.samples}
        for part in dataset.split(options["held_out"] or HELD_OUT)
    ]
    dataset = scaling.scaled_dataset(dataset, options["scale"])
    training, held_out = dataset.split(options["held_out"] or HELD_OUT)
    if gap := gap_of(options, dataset):
        training.samples = [with_gaps(sample, gap) for sample in training.samples]
    training = with_head(training, options["head"])
    dataset = dataclasses.replace(dataset, n_classes=training.n_classes)
    return dataset, training, held_out, dict(zip(("training", "held_out"), prints))


def follow_images(options, given, dataset, loaded):
    """Without --tile: the smallest that covers the images, but at most the paper's 572. Without --depth too: fewer
    poolings where the images are smaller than what the paper's four lose at the border, 184 pixels.
    """
    padding = VARIANTS[options["variant"]].padding
    if "tile" in given:
        return
    longest = max(max(sample.labels.shape) for sample in dataset.samples)
    if "depth" not in given and not loaded and not padding:
        while options["depth"] > 1 and geometry.border_lost(options["depth"]) > longest:
            options["depth"] -= 1
    largest = LARGEST_PADDED if padding else geometry.nearest_valid_size(options["tile"], options["depth"])
    options["tile"] = min(largest, geometry.input_size_for(longest, options["depth"], padding))


def tuning_of(dataset, held_out):
    """The training images as they were, on which a cutting into cells is chosen; [] where nobody numbered cells."""
    if dataset.kind != "instances":
        return []
    return tuning_samples(dataset.samples[: len(dataset) - len(held_out)])


def prepare(options, net, training):
    """Put a number of pixels into options["tile"], and refuse a training step that does not fit into memory."""
    cli.set_tf32(options["tf32"], options["device"], net.device, options["precision"])
    if options["tile"] == "auto":
        longest = max(max(sample.labels.shape) for sample in training.samples)
        options["tile"] = ranks.from_first(memory_needs.tile_for_training(net, longest, options["batch"]))
    memory_needs.check_training(net, options["tile"], options["batch"])


def configuration(options, net, dataset, prints):
    """What config.json holds: all that a resumed run and npunet.evaluate need to know."""
    class_values = dataset.class_values if dataset.kind == "classes" else None
    return {
        "options": options,
        "network": net.config,
        "held_out": list(prints["held_out"]),
        "data": {"labels": dataset.kind, "class_values": class_values},
        "fingerprints": prints,  # of image and mask
        "threads": threads.get_num_threads(),
    }


def check_same_data(config, prints, source):
    """Raises InputError if a resumed run would hold out other images, or train on others than it began with:
    its scores would mean something else, and its bits would not be those of a run that was never stopped.
    """
    before, now = config["held_out"], list(prints["held_out"])
    if before != now:
        raise InputError(
            f"data {source}: the last {len(now)} images are {now[0]} to {now[-1]}, but this run holds out {before[0]} "
            f"to {before[-1]}; give the --data that it began with, or start a new run"
        )
    for part, known in config.get("fingerprints", {}).items():
        for name in dict.fromkeys([*known, *prints[part]]):
            old, new = known.get(name), prints[part].get(name)
            if old != new:
                what = "is new" if old is None else "is gone" if new is None else "or its mask has changed"
                raise InputError(
                    f"data {source}: {name} {what} since this run began; give the --data that it began with, or start "
                    f"a new run with --load {Path(config['options']['out']) / 'newest.npz'}"
                )


def check_same_threads(config):
    """Says so if a resumed run computes on another number of threads than it began with."""
    before, now = config.get("threads"), threads.get_num_threads()
    if before not in (None, now):
        print(
            f"this run began on {before} threads and goes on with {now}, so its last bits will be others than without "
            f"a stop; --threads {before} keeps them",
            file=sys.stderr,
        )


def steps_in(seconds, net, training, held_out, options):
    """How many steps, evaluations included, fit into so many seconds.

    A few of them are done to measure that, so `net` is another one afterwards.
    """
    began = time.perf_counter()
    recipe = dataclasses.replace(recipe_of(options), steps=TIMED_STEPS + 2)
    optimizer, settings = make_optimizer(recipe, net.parameters), augmentation_settings(options, training)
    samples = placed(training.samples, net.device)
    moments = []
    for batch in batches(samples, recipe, net.output_size(recipe.tile), 0, settings):
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
        steps = (left - 10 * (now - start)) / step  # ten evaluations, see Session.run_steps
    steps = max(1, int(steps))
    print(
        f"{step:.3g} s a step, {now - start:.3g} s an evaluation: {steps} steps in {seconds / 60:g} minutes (--steps "
        f"{steps} repeats this run)"
    )
    return steps


if __name__ == "__main__":
    cli.run(main)
