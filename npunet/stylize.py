"""python -m npunet.stylize train | apply | optimize | download: paint one picture in the style of another.

    train      a generator, on one content picture or on a folder of them: DIR/model.npz, a painter that needs one pass for a picture
    apply      such a generator to pictures of any size
    optimize   the pixels of one picture, without a network to train: slower for each picture, and the reference
    download   VGG's weights from torchvision's address

What train and optimize leave in DIR: picture.png, contact_sheet.png (how it came about), losses.png, losses.jsonl (one JSON object a step) and,
from train, model.npz. Every file is there whole or not at all. Ctrl-C ends after the step and keeps the newest.
"""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from npunet import cli, images, threads
from npunet.backend import to_cpu, to_device
from npunet.errors import InputError
from npunet.optimizers import Adam
from npunet.predict import check_outputs, find_inputs
from npunet.style import VGG, Generator, Objective, generator_step, losses, optimize_picture, vgg
from npunet.style.direct import METHODS
from npunet.style.generator import COLOURS, TILE
from npunet.style.pictures import contact_sheet, fitted, loss_curves, random_square, read_picture
from npunet.style.weights import FILES, fetch
from npunet.training import Recipe, learning_rate

FAITHFUL = dict(size=512, base_channels=64, colours="normalised", up_convolutions=True, schedule="constant")        # the notes' demo
BETTER = dict(size=256, base_channels=32, colours="full", up_convolutions=False, schedule="cosine")
GRID = 16                                                 # pixels: the pooling grid of a generator of depth 4
WARMUP = 20                                               # steps until the learning rate is at its peak, with schedule cosine
SHEET = 8                                                 # intermediate pictures on a contact sheet


def main(arguments=None):
    options = parser().parse_args(arguments)
    if getattr(options, "threads", None):
        threads.set_num_threads(options.threads)
    try:
        finished = {"train": train, "apply": apply, "optimize": optimize_one, "download": download_weights}[options.command](options)
    except MemoryError:
        raise InputError("out of memory; give a smaller --size or --tile, or fewer --base-channels") from None
    if finished is False:
        sys.exit(130)


def train(options):
    """A generator; see the top of this file. Returns False if Ctrl-C ended it."""
    for name, value in (FAITHFUL if options.faithful else BETTER).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    check_numbers(options, "steps", "batch", "base_channels", "learning_rate")
    if options.size < 32 or options.size % GRID:
        raise InputError(f"--size is {options.size}; expected a multiple of {GRID}, at least 32")
    many = Path(options.content).is_dir()
    if options.batch > 1 and not many:
        raise InputError(f"--batch {options.batch} needs a folder of pictures as --content; {options.content} is one picture")
    paths = find_inputs([options.content])
    generator = Generator(options.base_channels, colours=options.colours, bilinear=not options.up_convolutions,
                          device=options.device, seed=options.seed)
    generator.info = {name: getattr(options, name) for name in ("size", "steps", "content_weight", "style_weight", "variation_weight")}
    shown = fitted(read_picture(paths[0]), options.size, GRID)
    objective, style = look_at_style(options, generator.net.device)
    run = Run(options, shown, style, model=generator)
    optimizer = Adam(generator.net.parameters, options.learning_rate)
    recipe = Recipe(steps=options.steps, learning_rate=options.learning_rate, schedule=options.schedule,
                    warmup=WARMUP if options.schedule == "cosine" else 0)
    content = to_device(shown[None], generator.net.device)
    targets = None if many else objective.content_targets(content)
    print(f"U-Net (style): {generator.net.n_parameters:,} parameters, {'resize' if generator.net.bilinear else 'up'}-convolutions, "
          f"colours {options.colours}, device {generator.net.device}; {len(paths)} content picture{'s' * (len(paths) > 1)}; results in {options.out}/")
    with run:
        for step in range(options.steps):
            optimizer.learning_rate = learning_rate(recipe, step)
            if many:
                content = to_device(drawn(paths, options, step), generator.net.device)
            terms = generator_step(generator, objective, optimizer, content, targets)
            if run.report(step + 1, terms, lambda: generator.paint(shown)):
                break
    return run.finished


def drawn(paths, options, step):
    """The batch of one step: random squares of random pictures, (N, size, size, 3). Each step has random numbers of its own."""
    rng = np.random.default_rng([options.seed, step])
    return np.stack([random_square(read_picture(paths[rng.integers(len(paths))]), options.size, rng) for _ in range(options.batch)])


def optimize_one(options):
    """One picture by direct optimisation. Returns False if Ctrl-C ended it."""
    options.size = options.size or BETTER["size"]
    check_numbers(options, "steps", "size", "learning_rate")
    shown = fitted(read_picture(options.content), options.size)
    objective, style = look_at_style(options, options.device)
    run = Run(options, shown, style)
    content = to_device(shown[None], objective.vgg.device)
    start = content
    if options.start == "noise":
        noise = np.random.default_rng(options.seed).uniform(0.3, 0.7, content.shape).astype(np.float32)
        start = to_device(noise, objective.vgg.device)
    with run:
        def report(step, terms, picture):
            return run.report(step, terms, lambda: to_cpu(picture)[0])
        optimize_picture(objective, content, start, options.steps, options.method, learning_rate=options.learning_rate, report=report)
    return run.finished


def look_at_style(options, device):
    """The objective of the options, and the style picture at their size."""
    if options.weights:
        eye = VGG.load(options.weights, device=device)
    else:
        eye = VGG.random(device=device)
        print("no --weights: a VGG19 with random weights looks on. Expect colours and fine texture of the style, no strokes or larger shapes. "
              "Trained ones: python -m npunet.stylize download vgg19", file=sys.stderr)
    cli.set_tf32(options.tf32, options.device, eye.device)
    counts = vgg.KINDS[eye.kind]
    content_layers = options.content_layers or f"conv3_{counts[2]},conv4_{counts[3]}"
    objective = Objective(eye, names(content_layers), names(options.style_layers),
                          options.content_weight, options.style_weight, options.variation_weight)
    style = fitted(read_picture(options.style), options.style_size or options.size)
    return objective.set_style(to_device(style[None], eye.device)), style


def names(text):
    """"conv1_2,conv2_2" -> ("conv1_2", "conv2_2"); "none" -> ()."""
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def check_numbers(options, *wanted):
    """Raises InputError for options that are not above 0."""
    for name in wanted:
        if not 0 < getattr(options, name) < math.inf:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(options, name)}; expected a number above 0")


class Run:
    """One call of train or optimize: its folder, its progress bar, what Ctrl-C does. Used with `with`, which writes everything at the end."""

    def __init__(self, options, content, style, model=None):
        self.path, self.steps, self.model = Path(options.out), options.steps, model
        if (self.path / "losses.jsonl").exists():
            raise InputError(f"--out {self.path} holds a run already; give another folder, or delete it")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.path}: the folder cannot be made ({error.strerror}); give one that can be written") from None
        self.sheet, self.records, self.paint, self.stop_requested = {"content": content, "style": style}, [], None, False

    def __enter__(self):
        self.before = {number: signal.signal(number, self.request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self.bar = tqdm(total=self.steps, unit="step", dynamic_ncols=True, mininterval=0.5,
                        bar_format="{n}/{total} |{bar}| {elapsed}<{remaining}{postfix}")
        self.clock = time.perf_counter()
        return self

    def report(self, step, terms, paint):
        """After each step: terms of the loss, and paint() -> (H, W, 3), the newest picture. Returns whether to stop."""
        if not math.isfinite(terms["total"]):
            raise InputError(f"step {step}: the loss is {terms['total']}; try a tenth of --learning-rate or of --style-weight"
                             + (f"; the last good pictures are in {self.path}/" if len(self.sheet) > 2 else ""))
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.records.append({"step": step} | terms | {"seconds": round(seconds, 4)})
        self.paint = paint
        self.bar.set_postfix_str(", ".join(f"{name} {value:.4g}" for name, value in terms.items()) + f", {seconds:.2f} s/step", refresh=False)
        self.bar.update()
        if step % max(1, self.steps // SHEET) == 0 and step < self.steps and not self.stop_requested:
            self.keep()
        return self.stop_requested

    def keep(self):
        """Write everything as it is now."""
        picture = self.paint()
        self.sheet[f"step {self.records[-1]['step']}"] = picture
        try:
            images.write_image(self.path / "picture.png", picture)
            contact_sheet(self.path / "contact_sheet.png", self.sheet)
            loss_curves(self.path / "losses.png", self.records)
            with images.written_whole(self.path / "losses.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(record) + "\n" for record in self.records))
            if self.model:
                self.model.save(self.path / "model.npz")
        except OSError as error:
            raise InputError(f"--out {self.path}: {error.strerror or error}; check the folder and the space left") from None

    def __exit__(self, kind, error, trace):
        self.bar.close()
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.finished = not self.stop_requested
        if kind is None and self.records:
            self.keep()
            last = ", ".join(f"{name} {value:.4g}" for name, value in self.records[-1].items() if name not in ("step", "seconds"))
            print(f"{'stopped' if self.stop_requested else 'done'} after step {self.records[-1]['step']}: {last}; "
                  f"{self.path}/ holds picture.png, contact_sheet.png, losses.png" + (", model.npz" if self.model else ""))

    def request_stop(self, number, frame):
        if self.stop_requested:                           # the second time: now
            raise KeyboardInterrupt
        self.stop_requested = True
        tqdm.write("stopping after this step; once more to stop at once", file=sys.stderr)


def apply(options):
    """A trained generator on pictures of any size: DIR/NAME.png for each."""
    inputs, output = find_inputs(options.input), Path(options.output)
    check_outputs(inputs, output)
    generator = Generator.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, generator.net.device)
    if options.size is not None:
        check_numbers(options, "size")
    for path in tqdm(inputs, unit="picture", dynamic_ncols=True, leave=False):
        picture = read_picture(path)
        picture = generator.paint(fitted(picture, options.size) if options.size else picture, options.tile)
        try:
            images.write_image(output / f"{path.stem}.png", picture)
        except OSError as error:
            raise InputError(f"--output {output}: {error.strerror or error}; check the folder and the space left") from None
    print(f"{len(inputs)} picture{'s' * (len(inputs) > 1)} painted; they are in {output}/")


def download_weights(options):
    print(f"weights in {fetch(options.kind, options.out)}; use them with --weights")


def parser():
    parse = argparse.ArgumentParser(prog="python -m npunet.stylize", description="Paint one picture in the style of another.")
    commands = parse.add_subparsers(dest="command", required=True, metavar="train | apply | optimize | download")
    train = commands.add_parser("train", help="train a U-Net that paints in the style of a picture")
    optimize = commands.add_parser("optimize", help="paint one picture by direct optimisation, without a generator")
    for command, steps, rate in ((train, 500, 1e-3), (optimize, 200, 2e-2)):
        def option(name, help, default=None, **keywords):
            command.add_argument(f"--{name}", help=help + (f" (default {default})" if default is not None else ""), default=default, **keywords)

        or_folder = ", or a folder of pictures to learn on" if command is train else ""
        option("content", "the picture to be painted" + or_folder, required=True, metavar="C")
        option("style", "the picture whose style it gets", required=True, metavar="S")
        option("weights", "VGG19 or VGG16 of torchvision, .pth or .safetensors (default: random weights, which see less)", metavar="FILE")
        option("out", "folder for the results", "runs/style", metavar="DIR")
        option("size", f"longer side of the content in pixels, or side of squares from a folder (default {BETTER['size']})", type=int)
        option("style-size", "longer side of the style picture: smaller is finer texture (default as --size)", type=int)
        option("steps", "steps of gradient descent", steps, type=int)
        option("learning-rate", "of Adam", rate, type=float)
        option("content-layers", "compared with the content (default conv3_4,conv4_4; VGG16: conv3_3,conv4_3); or none", metavar="NAMES")
        option("style-layers", "whose Gram matrices are compared with the style; or none", ",".join(losses.STYLE_LAYERS), metavar="NAMES")
        option("content-weight", "of the content loss", losses.CONTENT_WEIGHT, type=float)
        option("style-weight", "of the style loss", losses.STYLE_WEIGHT, type=float)
        option("variation-weight", "of the total variation, which smooths", 0.0, type=float)
        option("seed", "of all random numbers", 0, type=int)
        cli.add_device(command)
        option("threads", "CPU threads (default one a core)", type=int)
        if command is train:
            option("batch", "squares a step, from a folder", 1, type=int)
            option("base-channels", f"of the generator's first level (default {BETTER['base_channels']})", type=int)
            option("colours", "range of the output: all of 0..1, or tanh in VGG's units, which is greyish (default full)", choices=list(COLOURS))
            option("up-convolutions", "enlarge by up-convolutions instead of resize-convolutions: checkerboards", action="store_const", const=True)
            option("schedule", "of the learning rate: a rise and half a cosine, or constant (default cosine)", choices=["cosine", "constant"])
            command.add_argument("--faithful", action="store_true", help="the setting of the notes' demo: --size 512 --base-channels 64 "
                                 "--colours normalised --up-convolutions --schedule constant")
        else:
            option("method", "of minimisation", "lbfgs", choices=METHODS)
            option("start", "where to begin", "content", choices=["content", "noise"])
    painter = commands.add_parser("apply", help="paint pictures of any size with a trained generator")
    painter.add_argument("--model", required=True, help="model.npz that train wrote", metavar="M")
    painter.add_argument("--input", required=True, nargs="+", help="pictures, or folders of pictures", metavar="IMAGE")
    painter.add_argument("--output", required=True, help="folder for NAME.png; files of the same name in it are replaced", metavar="DIR")
    painter.add_argument("--size", type=int, help="scale pictures to this longer side first: a generator paints best at the size it was trained with")
    painter.add_argument("--tile", type=int, default=TILE, help=f"largest side that is painted at once (default {TILE})")
    cli.add_device(painter)
    painter.add_argument("--threads", type=int, help="CPU threads (default one a core)")
    loader = commands.add_parser("download", help="fetch VGG's weights from torchvision's address")
    loader.add_argument("kind", choices=list(FILES))
    loader.add_argument("--out", default=".", help="folder (default here)", metavar="DIR")
    return parse


if __name__ == "__main__":
    cli.run(main)
