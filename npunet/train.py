"""python -m npunet.train: train a U-Net on a folder of images and masks, a pair of TIFF stacks, or synthetic sections.

The last images of the set are held out as one block (neighbouring sections of a stack look alike, so a
random split would flatter the score). Everything goes to one run folder, see `npunet.run_folder`.
"""

import argparse
import signal
import sys
import time

import numpy as np
from tqdm import tqdm

from npunet import checkpoint, cli, datasets, geometry, scaling, summary, threads, tiling
from npunet.augmentation import Settings
from npunet.backend import free_memory
from npunet.errors import InputError
from npunet.evaluate import evaluate, mean_dice
from npunet.run_folder import RunFolder
from npunet.training import (LOSSES, OPTIMIZERS, SCHEDULES, NotFinite, Plateau, Recipe, batches, learning_rate, make_optimizer,
                             training_step)
from npunet.unet import VARIANTS, UNet
from npunet.weight_map import class_balance

CHANGEABLE_ON_RESUME = ("data", "steps", "device", "threads", "evaluate_every", "recompute")


def main(arguments=None):
    given = vars(parser().parse_args(arguments))
    resume = given.pop("resume", None)
    config = None
    if resume is None:
        options = DEFAULTS | given
        loaded = UNet.load(options["load"]) if options["load"] else None
        if loaded:
            options |= {name: loaded.config.get(name, False) for name in LOADED} | given
        if "tile" not in given and VARIANTS[options["variant"]].padding:
            options["tile"] = 512
        check(options)
    else:
        run, config = RunFolder.reopen(resume)
        refused = [name for name in given if name not in CHANGEABLE_ON_RESUME]
        if refused:
            raise InputError(f"--{refused[0].replace('_', '-')} cannot change when a run is resumed; only "
                             f"--{', --'.join(CHANGEABLE_ON_RESUME).replace('_', '-')} can")
        options = DEFAULTS | config["options"] | given
        check(options)
    if options["threads"]:
        threads.set_num_threads(options["threads"])
    dataset = scaling.scaled_dataset(datasets.load(options["data"], labels=options["labels"]), options["scale"])
    training, held_out = dataset.split(options["held_out"] or 1 / 6)
    print(datasets.describe(dataset))
    if options["epochs"] and not config:
        options["steps"] = options["epochs"] * -(-len(training.samples) // options["batch"])
    if config:
        net = UNet(**config["network"], device=options["device"], recompute=options["recompute"])
    else:
        net = new_network(options, dataset, training, loaded)
    check_memory(net, options["tile"], options["batch"])
    net.mask_values = list(dataset.class_values) if dataset.class_values else None
    optimizer = make_optimizer(recipe_of(options), net.parameters)
    progress = {"step": 0, "best": -1.0}
    if resume is None:
        run = RunFolder.create(options["out"], {
            "options": options, "network": net.config, "held_out": [sample.name for sample in held_out.samples],
            "data": {"labels": dataset.kind, "class_values": dataset.class_values if dataset.kind == "classes" else None}})
    else:
        progress = run.restore("newest.npz", net, optimizer)
        run.go_on_from(progress["step"])
        print(f"going on from step {progress['step']}")
    print(f"U-Net ({options['variant']}): {net.n_parameters:,} parameters, tile {options['tile']} -> {net.output_size(options['tile'])}, "
          f"device {net.device}; {len(training.samples)} images to train on, {len(held_out.samples)} held out; results in {run.path}/")
    finished = Session(run, net, optimizer, training, held_out, options, progress).train()
    if not finished:
        sys.exit(130)


def check_memory(net, tile, batch):
    """Say before starting that a training step will not fit, and what will."""
    def needed(tile):
        return batch * summary.training_memory(net, summary.rows(net, tile))

    free = free_memory(net.device)
    if free is None or needed(tile) <= free:
        return
    fitting = [size for size in range(tile % 16, tile, 16)[::-1] if is_valid(net, size) and needed(size) <= free]
    advice = f"--tile {fitting[0]} or fewer --base-channels would fit" if fitting else "fewer --base-channels are needed"
    raise InputError(f"a training step at tile {tile} needs about {needed(tile) / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; {advice}")


def is_valid(net, tile):
    try:
        return net.output_size(tile) > 0
    except InputError:
        return False


def recipe_of(options):
    return Recipe(**{name: options[name] for name in Recipe.__dataclass_fields__})


def new_network(options, dataset, training, loaded):
    """The untrained network of the options, or with the weights of `loaded`; it must fit the data.

    Batch normalisation centres the maps itself, so such networks see the grey values as they are, which PyTorch's files expect.
    """
    n_classes = options["classes"] or (loaded.n_classes if loaded else dataset.n_classes)
    if max(n_classes, 2) < dataset.n_classes:
        raise InputError(f"--classes {n_classes}, but the masks hold {dataset.n_classes} classes; give --classes {dataset.n_classes}")
    mean, std = (0.0, 1.0) if VARIANTS[options["variant"]].batch_norm else grey_statistics(training.samples)
    if loaded:
        mean, std = loaded.input_mean, loaded.input_std
    net = UNet(dataset.in_channels, n_classes, options["base_channels"], options["depth"], variant=options["variant"],
               bilinear=options["bilinear"], dropout=options["dropout"], device=options["device"], seed=options["seed"],
               input_mean=mean, input_std=std, recompute=options["recompute"])
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
        self.stop_requested = False

    def train(self):
        """Run the remaining steps; returns False if Ctrl-C ended them early."""
        recipe, first = self.recipe, self.progress["step"]
        every = self.options["evaluate_every"] or max(1, recipe.steps // 10)
        before = {number: signal.signal(number, self.request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=recipe.steps, initial=first, unit="step", dynamic_ncols=True, mininterval=0.5,
                   bar_format="{n}/{total} |{bar}| {elapsed}<{remaining}{postfix}")
        smooth = None
        try:
            output = self.net.output_size(recipe.tile)
            for step, batch in enumerate(batches(self.training, recipe, output, first, self.settings), start=first):
                start = time.perf_counter()
                self.optimizer.learning_rate = self.plateau.factor * learning_rate(recipe, step)
                energy, norm = self.step(step, batch)
                seconds = time.perf_counter() - start
                smooth = energy if smooth is None else 0.95 * smooth + 0.05 * energy
                self.progress["step"] = step + 1
                self.run.record(step=step + 1, loss=energy, gradient_norm=norm,
                                learning_rate=self.optimizer.learning_rate, seconds=round(seconds, 4))
                bar.set_postfix_str(f"loss {smooth:.4f}, {seconds:.2f} s/step", refresh=False)
                bar.update()
                if self.stop_requested:
                    break
                if (step + 1) % every == 0 or step + 1 == recipe.steps:
                    self.evaluate(bar)
        finally:
            bar.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stop_requested:
            self.save_newest()
            self.run.draw()
            print(f"stopped after step {self.progress['step']}; go on with: python -m npunet.train --resume {self.run.path}")
            return False
        self.report()
        return True

    def step(self, step, batch):
        try:
            return training_step(self.net, self.optimizer, *batch, clip=self.recipe.clip, loss=self.recipe.loss)
        except NotFinite as error:
            self.run.draw()
            kept = f"the last good checkpoint is {self.run.path / 'newest.npz'}" if self.progress["best"] >= 0 else "no checkpoint yet"
            raise InputError(f"step {step + 1}: {error}; {kept}") from None
        except MemoryError:
            smaller = geometry.valid_sizes_around(self.recipe.tile - 1, self.net.depth, self.net.options.padding)[0]
            raise InputError(f"out of memory at tile {self.recipe.tile} with {self.options['base_channels']} base channels; "
                             f"try --recompute, --tile {smaller} or fewer --base-channels (python -m npunet.summary tells what they need)") from None

    def evaluate(self, bar):
        """Score the held-out images, keep the newest and the best network, redraw the pictures."""
        bar.set_postfix_str("scoring the held-out images")
        tile = max(self.recipe.tile, tiling.default_tile(self.net)) if self.net.options.padding else self.recipe.tile
        scores, probabilities = evaluate(self.net, self.held_out, tile, quick=True)
        if self.recipe.schedule == "plateau":
            self.plateau.report(mean_dice(self.held_out, probabilities))
            self.progress["plateau"] = vars(self.plateau)
        self.run.record(step=self.progress["step"], held_out=scores)
        tqdm.write(f"step {self.progress['step']}: held-out " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items()))
        if scores["mean_iou"] > self.progress["best"]:
            self.progress["best"] = scores["mean_iou"]
            self.run.save_network("best.npz", self.net, self.optimizer, self.progress)
        self.save_newest()
        self.run.draw(self.held_out, probabilities)

    def save_newest(self):
        self.run.save_network("newest.npz", self.net, self.optimizer, self.progress)

    def report(self):
        evaluations = [record for record in self.run.records if "held_out" in record]
        best = max(evaluations, key=lambda record: record["held_out"]["mean_iou"])
        scores = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in best["held_out"].items())
        print(f"best held-out scores (step {best['step']}): {scores}\n"
              f"results in {self.run.path}/: panel.png (image, truth, probability, error), loss.png, best.npz, newest.npz, metrics.jsonl")

    def request_stop(self, number, frame):
        if self.stop_requested:                           # the second time: now
            raise KeyboardInterrupt
        self.stop_requested = True
        tqdm.write("stopping after this step; once more to stop at once", file=sys.stderr)


DEFAULTS = dict(data="synthetic", out="runs/unet", labels="auto", held_out=None, base_channels=64, depth=4, variant="paper", dropout=0.5,
                device="cpu", threads=None, evaluate_every=None, bilinear=False, classes=None, scale=1.0, load=None, epochs=None, recompute=False)
LOADED = ("variant", "bilinear", "base_channels", "depth")         # options that a file of weights decides
DEFAULTS |= {name: field.default for name, field in Recipe.__dataclass_fields__.items()}
AUGMENTATION = ("rotation", "mirror", "elastic", "grey", "w0", "sigma")
DEFAULTS |= {name: getattr(Settings(), name) for name in AUGMENTATION} | {"class_balance": True}


def augmentation_settings(options, dataset):
    """The Settings of the options; w_c of Eq. 2 is counted over all training images."""
    class_weights = None
    if options["class_balance"]:
        balance = class_balance([sample.labels for sample in dataset.samples], dataset.n_classes,
                                [sample.ignore for sample in dataset.samples])
        class_weights = tuple(map(float, balance))
    return Settings(class_weights=class_weights, **{name: options[name] for name in AUGMENTATION})


def grey_statistics(samples):
    """Mean and standard deviation of all grey values of the training images, for the network's input_mean and input_std."""
    values = np.concatenate([sample.image.ravel() for sample in samples])
    return float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-3)


def check(options):
    """Refuse options that cannot work, before anything is read or written."""
    for name in ("steps", "batch", "base_channels", "depth", "held_out", "epochs", "classes"):
        if options[name] is not None and options[name] < 1:
            raise InputError(f"--{name.replace('_', '-')} is {options[name]}; expected at least 1")
    if not options["learning_rate"] > 0:
        raise InputError(f"--learning-rate is {options['learning_rate']}; expected a number above 0")
    if not 0 <= options["momentum"] < 1:
        raise InputError(f"--momentum is {options['momentum']}; expected at least 0 and below 1")
    if options["weight_decay"] < 0:
        raise InputError(f"--weight-decay is {options['weight_decay']}; expected at least 0")
    scaling.scaled_size((100, 100), options["scale"])
    if VARIANTS[options["variant"]].padding:
        geometry.padded_output_size(options["tile"], options["depth"])
    else:
        geometry.output_size(options["tile"], options["depth"])


def parser():
    parse = argparse.ArgumentParser(prog="python -m npunet.train", description=__doc__.split("\n\n")[0].partition(": ")[2],
                                    argument_default=argparse.SUPPRESS)

    def option(name, help, **keywords):
        default = DEFAULTS.get(name.replace("-", "_"))
        parse.add_argument(f"--{name}", help=help + (f" (default {default})" if default is not None else ""), **keywords)

    option("data", "a folder with images/ and masks/, one with train-volume.tif and train-labels.tif, a named set, or synthetic")
    option("out", "folder for everything the run writes")
    option("resume", "go on with the run in this folder, to the same bits as if it had not been stopped", metavar="DIR")
    option("load", "start from the weights of this .npz, .pth or .safetensors file; it also decides the variant and the sizes", metavar="FILE")
    option("steps", "training steps", type=int)
    option("epochs", "instead of --steps: how often to show as many tiles as there are images", type=int)
    option("tile", "side of the input tile in pixels; valid are 12 (mod 16) from 188 on; any with padded variants (default 512)", type=int)
    option("batch", "tiles a step", type=int)
    option("base-channels", "channels of the first level; 64 is the paper's network", type=int)
    option("depth", "number of poolings", type=int)
    option("variant", "which U-Net", choices=list(VARIANTS))
    option("bilinear", "bilinear upsampling (variant pytorch-unet)", action="store_true")
    option("classes", "output channels; 1 for two classes by a sigmoid (default as many as the masks hold)", type=int)
    option("scale", "make images and masks smaller by this factor", type=float)
    option("dropout", "rate at the end of the contracting path", type=float)
    option("learning-rate", "peak of the schedule", type=float)
    option("optimizer", "which", choices=OPTIMIZERS)
    option("momentum", "of stochastic gradient descent and RMSprop", type=float)
    option("weight-decay", "pull of the parameters towards 0", type=float)
    option("loss", "what is minimised", choices=LOSSES)
    option("schedule", "of the learning rate after the warm-up; plateau: a tenth when the held-out Dice score stops growing", choices=SCHEDULES)
    option("warmup", "steps until the learning rate is at its peak", type=int)
    option("clip", "largest norm of the gradient, 0 for no limit", type=float)
    option("rotation", "largest angle of a random rotation, degrees", type=float)
    option("mirror", "mirror at random", action=argparse.BooleanOptionalAction)
    option("elastic", "standard deviation of the elastic displacements, pixels; 0 for none", type=float)
    option("grey", "strength of the grey-value variation; 0 for none", type=float)
    option("w0", "height of the separation border in the weight map of Eq. 2; 0 for none", type=float)
    option("sigma", "its width in pixels", type=float)
    option("class-balance", "the class weights w_c of Eq. 2", action=argparse.BooleanOptionalAction)
    option("held-out", "how many images to hold out, the last of the set (default a sixth)", type=int)
    option("labels", "what the masks hold", choices=["auto", "binary", "instances", "classes"])
    option("evaluate-every", "steps between evaluations and checkpoints (default a tenth of the steps)", type=int)
    option("seed", "of weights, dropout and augmentation", type=int)
    option("device", "where to compute", choices=["cpu", "gpu", "auto"])
    option("recompute", "compute feature maps again in the backward pass: less memory, more time", action="store_true")
    option("threads", "CPU threads (default one a core)", type=int)
    return parse


if __name__ == "__main__":
    cli.run(main)
