"""One call of npunet.train after everything is prepared: the steps, with their evaluations and checkpoints."""

import math
import time

import numpy as np
from tqdm import tqdm

from npunet import tiling
from npunet.commands.choose_cutting import keep_cutting
from npunet.commands.interrupt import Interruptible
from npunet.commands.scoring import evaluate, held_out_loss, mean_dice
from npunet.commands.train_options import augmentation_settings, recipe_of
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.files.whole_file import finite
from npunet.machine import ranks
from npunet.machine.backend import peak_memory, steps_ahead
from npunet.training import (
    NotFinite,
    Plateau,
    batches,
    diagnosis,
    draw_batch,
    learning_rate,
    placed,
    read_back,
    recorded_step,
    training_step,
)


def evaluation_tile(net, tile):
    """The tile for the held-out images: that of training;
    for padded networks at least their default, which takes them whole.
    """
    return max(tile, tiling.default_tile(net)) if net.options.padding else tile


def in_words(scores):
    """Scores such as "mean iou 0.8123, dice 0.9012"; "-" for one that does not exist."""
    shown = {name: "-" if value is None or math.isnan(value) else f"{value:.4f}" for name, value in scores.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


class Session(Interruptible):
    """One call of the command: the loop over steps with its evaluations and checkpoints."""

    def __init__(self, run, net, optimizer, training, held_out, options, progress, tuning=()):
        self.run, self.net, self.optimizer, self.options, self.progress = run, net, optimizer, options, progress
        self.training, self.held_out, self.tuning = training.samples, held_out.samples, tuning
        self.recipe = recipe_of(options)
        self.plateau = Plateau(**progress.get("plateau", {}))
        self.settings = augmentation_settings(options, training)
        self.recorded = recorded_step(net, optimizer, self.recipe.clip, self.recipe.loss) if options["graph"] else None
        self.unread, self.smooth = [], None  # [(step, learning rate, report)] that are not recorded yet

    def train(self):
        """Run the remaining steps; returns False if Ctrl-C ended them early."""
        self.listen(self.recipe.steps, self.progress["step"])
        try:
            self.run_steps()
        finally:
            self.stop_listening()
        if self.stop_requested:
            self.save_newest()
            self.run.draw(self.recipe.loss)
            print(
                f"stopped after step {self.progress['step']}; go on with: python -m npunet.train --resume "
                f"{self.run.path}"
            )
            return False
        self.choose_cuttings()
        self.report()
        return True

    def run_steps(self):
        """Draw, step, record and evaluate, until all is done or a signal asks for the end."""
        recipe, first = self.recipe, self.progress["step"]
        every = self.options["evaluate_every"] or max(1, recipe.steps // 10)
        read_every = steps_ahead(self.net.device)
        output, start = self.net.output_size(recipe.tile), None
        self.samples = placed(self.training, self.net.device)
        drawn = batches(self.samples, recipe, output, first, self.settings)
        for step, batch in enumerate(drawn, start=first):
            if not self.unread:
                start = time.perf_counter()
            self.optimizer.learning_rate = self.plateau.factor * learning_rate(recipe, step)
            self.unread.append((step + 1, self.optimizer.learning_rate, self.step(step, batch)))
            self.stop_requested = ranks.any_of(self.stop_requested)
            due = (step + 1) % every == 0 or step + 1 == recipe.steps
            if len(self.unread) == read_every or due or self.stop_requested:
                self.read(start)
            if self.stop_requested and not self.unread:  # not if it was requested just now
                break
            if due:
                if ranks.rank() == 0:
                    self.evaluate()
                self.progress, self.plateau = ranks.from_first((self.progress, self.plateau))
                if ranks.from_first(ranks.rank() == 0 and self.has_stood_still()):
                    break

    def step(self, step, batch):
        """One step; returns its loss and gradient norm, on a GPU as an array that need not be computed yet."""
        try:
            if self.recorded:
                return self.recorded(*batch)
            return training_step(
                self.net, self.optimizer, *batch, clip=self.recipe.clip, loss=self.recipe.loss, wait=False
            )
        except NotFinite as error:
            self.stop_at(step + 1, error)

    def read(self, start):
        """Record the steps since the last reading, the first of which began at `start`."""
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
        self.bar.set_postfix_str(f"loss {self.smooth:.4f}, {seconds:.2f} s/step", refresh=False)
        self.bar.update(len(numbers))
        self.unread.clear()

    def stop_at(self, step, error):
        self.run.draw(self.recipe.loss)
        kept = (
            f"the last good checkpoint is {self.run.path / 'newest.npz'}"
            if self.progress["best"] >= 0
            else "no checkpoint yet"
        )
        raise InputError(f"step {step}: {error}; {kept}") from None

    def evaluate(self):
        """Score the held-out images, keep the newest and the best network, redraw the pictures."""
        self.bar.set_postfix_str("scoring the held-out images")
        scores, probabilities = evaluate(
            self.net, self.held_out, evaluation_tile(self.net, self.recipe.tile), quick=True
        )
        if self.recipe.schedule == "plateau":
            self.plateau.report(mean_dice(self.held_out, probabilities))
            self.progress["plateau"] = vars(self.plateau)
        loss = held_out_loss(self.held_out, probabilities)
        self.run.record(step=self.progress["step"], held_out=finite(scores), held_out_loss=finite(loss))
        tqdm.write(f"step {self.progress['step']}: held-out " + in_words(scores))
        if not scores["mean_iou"] <= self.progress["best"]:  # NaN, where nothing can be scored, is the best known
            self.progress["best"] = float(np.nan_to_num(scores["mean_iou"], nan=self.progress["best"]))
            # Without the optimiser's state, which is two thirds of the file.
            entries = checkpoint.network_entries(self.net)
            checkpoint.save(self.run.path / "best.npz", entries, progress=dict(self.progress))
        self.save_newest()
        self.run.draw(self.recipe.loss, self.held_out, probabilities)

    def has_stood_still(self):
        """Whether --patience evaluations in a row have brought no new best; one without a score has not."""
        patience = self.options["patience"]
        scores = [record["held_out"]["mean_iou"] for record in self.run.records.evaluations]
        known = [score for score in scores if score is not None]
        if patience is None or not known or len(scores) - 1 - scores.index(max(known)) < patience:
            return False
        tqdm.write(f"stopped early: no new best in {patience} evaluations; --resume {self.run.path} goes on")
        return True

    def choose_cuttings(self):
        """Choose on training images how cells are cut, for both networks, and write it into their files."""
        for name in ("newest.npz", "best.npz") if self.tuning and ranks.rank() == 0 else ():
            if (self.run.path / name).exists():
                tile = evaluation_tile(self.net, self.recipe.tile)
                cutting, score = keep_cutting(self.run.path / name, self.tuning, tile, self.net.device)
                print(f"{name}: cells are cut by {cutting} (SEG {score:.3f} on {len(self.tuning)} training images)")

    def save_newest(self):
        self.run.save_network("newest.npz", self.net, self.optimizer, self.progress)

    def report(self):
        evaluations = self.run.records.evaluations
        if not evaluations:
            print(f"all {self.recipe.steps} steps are done, and none was scored; --steps N goes on")
            return
        best = max(evaluations, key=lambda record: record["held_out"]["mean_iou"] or 0)
        scores = in_words(best["held_out"])
        if peak := peak_memory(self.net.device):
            print(f"most GPU memory in use: {peak / 1e9:.1f} GB")
        print(
            f"best held-out scores (step {best['step']}): {scores}\n"
            f"results in {self.run.path}/: panel.png (image, truth, probability, error), loss.png, best.npz, "
            f"newest.npz, metrics.jsonl"
        )
