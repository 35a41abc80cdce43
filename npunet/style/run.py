"""What a run of npunet.stylize leaves behind, and how it ends.

config.json         the command and its options
losses.jsonl        one JSON object a step: {"step", "total", "content", "style", "seconds"}, with "variation" if it has
                    a weight, and from optimize with the "size" of that step, for losses of two sizes do not compare
losses.png          its curves
picture.png         the newest picture          steps/62.png      those on the way
contact_sheet.png   all of them
model.npz           from train: the generator, for npunet.stylize apply
newest.npz          from train: the network and Adam's state, all that is needed to go on to the same bits
"""

import math
import time
from pathlib import Path

from npunet.commands.interrupt import Interruptible
from npunet.commands.run_folder import RunFolder
from npunet.errors import InputError
from npunet.files import images, schema
from npunet.style.pictures import contact_sheet, loss_curves, read_picture

SHEET = 8  # intermediate pictures on a contact sheet


class StyleFolder(RunFolder):
    """The folder above. `records` is what it remembers of losses.jsonl."""

    record_shape = schema.STYLE_RECORD

    @property
    def metrics(self):
        return self.path / "losses.jsonl"

    @classmethod
    def check_free(cls, path):
        """Raises InputError if there is a run, of direct optimisation too, which has no checkpoint."""
        if (Path(path) / "picture.png").exists() and not (Path(path) / "newest.npz").exists():
            raise InputError(f"{path} holds a run already; give another --out, or delete it")
        super().check_free(path)

    def go_on(self, newest, net, optimizer, steps):
        """Put the newest state, as `newest` has read it, into network and optimiser; returns its step.

        Raises InputError if it is not below `steps`.
        """
        done = self.restore(newest, net, optimizer)["step"]
        if done >= steps:
            raise InputError(
                f"--resume {self.path}: it is at step {done} of {steps} already; give more --steps to go on"
            )
        self.go_on_from(done)
        return done

    def pictures_until(self, step):
        """{"step 62": picture, ...}: those on the way, up to this step."""
        numbers = sorted(int(path.stem) for path in (self.path / "steps").glob("*.png") if path.stem.isdigit())
        return {
            f"step {number}": read_picture(self.path / "steps" / f"{number}.png")
            for number in numbers
            if number <= step
        }


class Run(Interruptible):
    """One call of train or optimize: the progress bar, what is written when, what Ctrl-C does.

    Used with `with`, which writes everything at the end.

    preview: steps from one writing of picture.png to the next; without it, it is written with the contact sheet.
    generator, optimizer: those that train; then the run can be resumed, here after its first `done` steps.
    """

    def __init__(self, folder, steps, content, style, *, preview=None, generator=None, optimizer=None, done=0):
        self.folder, self.steps, self.generator, self.optimizer, self.done = folder, steps, generator, optimizer, done
        self.preview = preview
        self.sheet = {"content": content, "style": style} | folder.pictures_until(done)
        self.paint = None

    def __enter__(self):
        self.listen(self.steps, self.done)
        self.clock = time.perf_counter()
        return self

    def report(self, step, terms, paint, **more):
        """After each step: terms of the loss, and paint() -> (H, W, 3), the newest picture. Returns whether to stop.

        more: what else goes into the record of the step.
        """
        if not math.isfinite(terms["total"]):
            raise InputError(
                f"step {step}: the loss is {terms['total']}; try a tenth of --learning-rate or of --style-weight"
                + (
                    f"; the last good pictures are in {self.folder.path}/"
                    if (self.folder.path / "picture.png").exists()
                    else ""
                )
            )
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        with self.folder.writing():
            self.folder.record(step=step, **terms, **more, seconds=round(seconds, 4))
        self.paint = paint
        self.bar.set_postfix_str(
            ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) + f", {seconds:.2f} s/step", refresh=False
        )
        self.bar.update()
        if self.is_on_the_sheet(step) and step < self.steps and not self.stop_requested:
            self.keep()
        elif self.preview and step % self.preview == 0 and step < self.steps:
            with self.folder.writing():
                images.write_image(self.folder.path / "picture.png", paint())
        return self.stop_requested

    def is_on_the_sheet(self, step):
        return step % max(1, self.steps // SHEET) == 0

    def keep(self):
        """Write everything as it is now."""
        path, step, picture = self.folder.path, self.folder.records.newest["step"], self.paint()
        newest = {f"step {step}": picture}
        with self.folder.writing():
            if self.is_on_the_sheet(step):
                self.sheet |= newest
                images.write_image(path / "steps" / f"{step}.png", picture)
            images.write_image(path / "picture.png", picture)
            contact_sheet(path / "contact_sheet.png", self.sheet | newest)
            loss_curves(path / "losses.png", self.folder.records.steps)
            if self.generator:
                self.generator.save(path / "model.npz")
                self.folder.save_network("newest.npz", self.generator.net, self.optimizer, {"step": step})

    def __exit__(self, kind, error, trace):
        self.stop_listening()
        self.finished = not self.stop_requested
        if kind is None and self.paint:
            self.keep()
            last = self.folder.records.newest
            self.finished |= last["step"] == self.steps
            terms = ", ".join(
                f"{name} {value:.4g}" for name, value in last.items() if name not in ("step", "seconds", "size")
            )
            print(
                f"{'done' if self.finished else 'stopped'} after step {last['step']}: {terms}; {self.folder.path}/ "
                f"holds picture.png, "
                "contact_sheet.png, losses.png"
                + (", model.npz" if self.generator else "")
                + (
                    f"; go on with: python -m npunet.stylize train --resume {self.folder.path}"
                    if self.generator and not self.finished
                    else ""
                )
            )
