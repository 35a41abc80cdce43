"""python -m npunet.stylize train | apply | optimize | download: paint one picture in the style of another.

    train      a generator, on one content picture or on a folder of them: DIR/model.npz, a painter that needs one pass
               for a picture
    apply      such a generator to pictures of any size
    optimize   the pixels of one picture, without a network to train: slower for each picture, and the reference
    download   VGG's weights from torchvision's address

What train and optimize leave in DIR is listed in `npunet.style.run`. Every file is there whole or not at all. Ctrl-C
ends after the step and keeps the newest; train --resume DIR then goes on to the same bits.
"""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np

from npunet.commands import cli, memory_needs, ranges
from npunet.commands.inputs import check_outputs, find_inputs
from npunet.errors import InputError
from npunet.files import images
from npunet.machine import threads
from npunet.machine.backend import to_device
from npunet.optimizers import Adam
from npunet.style import Generator, generator_step
from npunet.style import memory_needs as style_memory_needs
from npunet.style.finish import finished
from npunet.style.losses import PAINTER_STYLE_LOSS
from npunet.style.options import GRID, check_same_files, complete, parser, resumed
from npunet.style.photographs import Photographs
from npunet.style.pictures import fitted, read_picture
from npunet.style.run import Run, StyleFolder
from npunet.style.scales import coarse_to_fine, stages
from npunet.style.setting import Pair, look_at_style, objective_of, style_weight_for
from npunet.style.weights import fetch
from npunet.training import Recipe, learning_rate

WEIGHED = 8  # squares of photographs whose style loss gives the style weight
WARMUP = 20  # steps until the learning rate is at its peak, with schedule cosine


def main(arguments=None):
    given = vars(parser().parse_args(arguments))
    command = {"train": train, "apply": apply, "optimize": optimize_one, "download": download_weights}[
        given.pop("command")
    ]
    try:
        finished = command(given)
    except MemoryError:
        raise InputError(
            "out of memory before the first step; give fewer --base-channels or smaller pictures, or end other programs"
        ) from None
    if finished is False:
        sys.exit(130)


def train(given):
    """A generator; see the top of this file. Returns False if Ctrl-C ended it."""
    # 1. The options, and the pictures they name.
    resume, config = given.pop("resume", None), None
    if resume is None:
        options = complete("train", given)
        folder = StyleFolder(options.out)
        folder.check_free(options.out)
    else:
        folder, config = StyleFolder.reopen(resume, option="--resume")
        options = resumed(resume, config, given)
    set_threads(options)
    paths = content_pictures(options)
    newest = None
    if config is not None:
        check_same_files(config, file_sizes(options, paths), resume)
        newest = folder.newest({"base_channels": options.base_channels, "in_channels": 3, "n_classes": 3})
    # 2. The generator, and VGG, whose view of its pictures is the loss.
    generator = new_generator(options)
    shown = fitted(read_picture(paths[0]), options.photo_size or options.size, GRID, options.square)
    objective = objective_of(options, generator.net.device)
    size = (options.size, options.size) if Path(options.content).is_dir() else shown.shape[:2]
    with style_memory_needs.enough_memory(objective, size, generator.net, options.batch):
        style = look_at_style(options, objective)
        if options.style_weight is None:
            weigh_style(options, objective, generator, photographs_of(options, paths, shown))
        optimizer = Adam(generator.net.parameters, options.learning_rate)
        with folder.reserved():
            # 3. The folder: a new one, or the newest state in it.
            done = begin(folder, newest, options, generator, optimizer, paths)
            del newest  # it is as large as generator and optimiser together
            print(
                f"U-Net (style): {generator.net.n_parameters:,} parameters, "
                f"{'resize' if generator.net.bilinear else 'up'}-convolutions, "
                f"colours {options.colours}, device {generator.net.device}; {len(paths)} content "
                f"picture{'s' * (len(paths) > 1)}; results in {folder.path}/"
            )
            # 4. The steps.
            state = dict(generator=generator, optimizer=optimizer, done=done)
            with Run(folder, options.steps, shown, style, preview=options.preview_every, **state) as run:
                train_steps(options, paths, objective, run)
    return run.finished


def begin(folder, newest, options, generator, optimizer, paths):
    """Write config.json of a new run, or go on from the newest state of an earlier one; the step."""
    if newest is not None:
        done = folder.go_on(newest, generator.net, optimizer, options.steps)
        print(f"going on from step {done}")
        return done
    how = {"command": "train", "options": vars(options), "network": generator.net.config}
    folder.create(how | {"file_sizes": file_sizes(options, paths)})
    return 0


def content_pictures(options):
    """The files of --content. Raises InputError for a batch of one picture."""
    for name, given in (("batch", options.batch > 1), ("photo_size", options.photo_size is not None)):
        if given and not Path(options.content).is_dir():
            raise InputError(
                f"--{name.replace('_', '-')} {getattr(options, name)} needs a folder of pictures as --content; "
                f"{options.content} is one picture"
            )
    return find_inputs([options.content])


def new_generator(options):
    """The untrained generator of the options, which remembers what it is trained for."""
    generator = Generator(
        options.base_channels,
        colours=options.colours,
        bilinear=not options.up_convolutions,
        instance_norm=options.norm == "instance",
        initial_weights=options.initial_weights,
        device=options.device,
        seed=options.seed,
    )
    kept = ("size", "steps", "content_layers", "style_layers", "content_weight", "style_weight", "variation_weight")
    generator.info = {name: getattr(options, name) for name in kept}
    return generator


def weigh_style(options, objective, generator, photographs):
    """Take the style weight that was not given from the style and some photographs; say it, and keep it."""
    weight = style_weight_for(objective, photographs)
    options.style_weight = objective.style_weight = generator.info["style_weight"] = weight
    print(f"style weight {weight:g}: the style loss of the photographs as they are is {PAINTER_STYLE_LOSS:g} then")


def photographs_of(options, paths, shown):
    """Some of what a generator will learn on: (1, H, W, 3) each."""
    if not Path(options.content).is_dir():
        return [shown[None]]
    photographs = Photographs(paths, options.size, options.photo_size or options.size)
    return [photographs.batch(1, options.seed, step) for step in range(WEIGHED)]


def train_steps(options, paths, objective, run):
    """The steps of a run from where it stands, until all are done or a signal asks for the end."""
    generator, many = run.generator, Path(options.content).is_dir()
    photographs = Photographs(paths, options.size, options.photo_size or options.size)
    recipe = Recipe(
        steps=options.steps,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        warmup=WARMUP if options.schedule == "cosine" else 0,
    )
    shown = run.sheet["content"]
    content = to_device(shown[None], generator.net.device)
    targets = None if many else objective.content_targets(content)
    for step in range(run.done, options.steps):
        run.optimizer.learning_rate = learning_rate(recipe, step)
        if many:
            content = to_device(photographs.batch(options.batch, options.seed, step), generator.net.device)
        terms = generator_step(generator, objective, run.optimizer, content, targets)
        if run.report(step + 1, terms, lambda: generator.paint(shown)):
            break


def optimize_one(given):
    """One picture by direct optimisation. Returns False if Ctrl-C ended it."""
    options = complete("optimize", given)
    StyleFolder.check_free(options.out)
    set_threads(options)
    pictures = Pair(options)
    shown, style = pictures(options.size)
    objective = objective_of(options, options.device)
    folder = StyleFolder(options.out)
    with style_memory_needs.enough_memory(objective, shown.shape[:2]), folder.reserved():
        style_memory_needs.check(objective, style.shape[:2], option="style-size")
        folder.create({"command": "optimize", "options": vars(options)})
        with Run(folder, options.steps, pictures.content, pictures.style, preview=options.preview_every) as run:

            def report(step, terms, picture, content):
                size = min(content.shape[:2])
                return run.report(step, terms, functools.partial(pictures.finished, picture, size), size=size)

            plan = stages(options.size, options.steps, options.sizes)
            start = noise(options.seed) if options.start == "noise" else None
            how = dict(method=options.method, learning_rate=options.learning_rate)
            coarse_to_fine(objective, plan, pictures, report, start, **how)
        if run.paint is None:
            raise InputError(
                f"no step from the {options.start} made the loss smaller; expected a --style that differs from the "
                f"--content, or give --start noise"
            )
    return run.finished


def noise(seed):
    """A function from the content (H, W, 3) to an even grey of its size, with noise."""
    rng = np.random.default_rng(seed)
    return lambda content: rng.uniform(0.3, 0.7, content.shape).astype(np.float32)


def file_sizes(options, paths):
    """Bytes of the files that a run depends on, by which they are known again where they have moved."""
    sizes = {"content": [path.stat().st_size for path in paths]}
    for name in ("style", "weights"):
        path = getattr(options, name)
        sizes[name] = Path(path).stat().st_size if path and Path(path).is_file() else None
    return sizes


def set_threads(options):
    if options.threads is not None:
        threads.set_num_threads(options.threads)


def apply(given):
    """A trained generator on pictures of any size: DIR/NAME.png for each."""
    options = argparse.Namespace(**given)
    ranges.check(given)
    set_threads(options)
    inputs, output = find_inputs(options.input), Path(options.output)
    check_outputs(inputs, output)
    generator = Generator.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, generator.net.device, options.precision)
    for path in cli.progress_bar(iterable=inputs, unit="picture"):
        content = read_picture(path)
        content = fitted(content, options.size) if options.size else content
        with memory_needs.out_of_memory(generator.net, options.tile, covering=max(content.shape[:2])):
            painted = generator.paint(content, options.tile)
            painted = finished(painted, content, options.strength, options.keep_colours)
        try:
            images.write_image(output / f"{path.stem}.png", painted)
        except OSError as error:
            raise InputError(
                f"--output {output}: {error.strerror or error}; check the folder and the space left"
            ) from None
    print(f"{len(inputs)} picture{'s' * (len(inputs) > 1)} painted; they are in {output}/")


def download_weights(given):
    print(f"weights in {fetch(given['kind'], given['out'])}; use them with --weights")


if __name__ == "__main__":
    cli.run(main)
