"""python -m npunet.doctor: why the predictions of a run are black, white, grey, noise or NaN.

It looks at the run's records, lets the network predict the held-out images of the data it was trained on, and compares
new images (--image) with the training images. Where the predictions say nothing, a fresh network tries to learn one
tile by heart. One line for each finding, the worst first, with the evidence and the
cure. Status 0 without a finding, 1 with some.
"""

import argparse
import sys
from pathlib import Path

from npunet import datasets
from npunet.commands import cli, ranges, scaling
from npunet.commands.beside_a_model import class_values_of
from npunet.commands.grey_values import rule_of
from npunet.commands.inputs import find_inputs
from npunet.commands.run_folder import OF_TRAINING, RunFolder
from npunet.commands.scoring import predict_samples
from npunet.commands.session import evaluation_tile
from npunet.commands.train_options import recipe_of, stored
from npunet.datasets.dataset import HELD_OUT
from npunet.datasets.finding import HIGH, Finding
from npunet.datasets.findings import findings as of_data
from npunet.datasets.heads import with_head
from npunet.doctor import by_heart, from_images, from_network, from_records
from npunet.errors import InputError
from npunet.files import images, schema
from npunet.unet import UNet


def main(arguments=None):
    options = parser().parse_args(arguments)
    ranges.check(vars(options))
    run, config = RunFolder.reopen(options.run, OF_TRAINING)
    found = sorted(diagnoses(run, config, options), key=lambda finding: -finding.severity)
    for number, finding in enumerate(found, start=1):
        print(f"{number}. {finding.kind}: {finding}")
    print(f"{len(found)} finding{'s' * (len(found) != 1)} about {run.path}")
    if found:
        sys.exit(1)


def diagnoses(run, config, options):
    """Every `Finding` about a run."""
    trained = stored(config, run.path / "config.json")
    records, damaged = schema.read_lines(run.metrics, schema.RECORD)
    if damaged:
        yield Finding("damaged log", f"{run.metrics} has {damaged} damaged lines, which were left out")
    yield from from_records.findings(records, trained)
    if not (run.path / options.checkpoint).exists():
        yield Finding("no checkpoint", f"there is no {options.checkpoint}; the run ended before its first one", HIGH)
        return
    try:
        net = UNet.load(run.path / options.checkpoint)
    except InputError as error:
        yield Finding("unusable checkpoint", str(error), HIGH)
        return
    how = dict(labels=trained["labels"], class_values=class_values_of(net, config), rule=rule_of(net))
    dataset = datasets.load(options.data or trained["data"], **how)
    yield from of_data(dataset, trained["held_out"] or HELD_OUT)
    training, held_out = scaling.scaled_dataset(dataset, trained["scale"]).split(trained["held_out"] or HELD_OUT)
    if [sample.name for sample in held_out.samples] != config["held_out"]:
        yield Finding("other data", "the data hold out other images than the run did; give --data", HIGH)
        return
    held_out = with_head(held_out, trained["head"])
    tile = evaluation_tile(net, trained["tile"])
    probabilities = predict_samples(net, held_out.samples, tile)
    silent = list(from_network.findings(net, held_out.samples, probabilities, trained["tile"]))
    yield from silent
    yield from from_network.much_dropout(silent, net.config["dropout"])
    if options.by_heart and any(finding.kind in from_network.SILENT for finding in silent):
        seen = with_head(training, trained["head"]).samples
        yield from by_heart.findings(net, recipe_of(trained), seen, options.by_heart)
    seen = [sample.image for sample in training.samples]
    for path in find_inputs(options.image or []):
        page = images.with_channels(images.read_image(path, rule_of(net))[0], net.in_channels, str(path))
        yield from from_images.findings(Path(path).name, page, seen)


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("doctor"), description="Why the predictions of a run are black, white, grey, noise or NaN."
    )
    parse.add_argument("run", help="the --out folder of a run of npunet.train", metavar="RUN")
    parse.add_argument("--data", help="its training data, if they have moved")
    parse.add_argument(
        "--by-heart",
        type=float,
        default=30,
        metavar="SECONDS",
        help="where predictions say nothing: how long to try whether a fresh network can learn one training tile by "
        "heart (default 30; 0 for not at all)",
    )
    parse.add_argument("--checkpoint", default="best.npz", help="which network of the run (default best.npz)")
    parse.add_argument("--image", nargs="+", help="new images that are predicted badly", metavar="IMAGE")
    return parse


if __name__ == "__main__":
    cli.run(main)
