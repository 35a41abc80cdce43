"""One experiment from its options to its scores:
train (or go on, or take a run that is there), predict the held-out images, score.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

from npunet import datasets, train
from npunet.commands import cell_scores, cli, scaling, scoring, session, train_options
from npunet.commands.beside_a_model import class_values_of
from npunet.commands.choose_cutting import choose_cutting, tuning_samples
from npunet.commands.grey_values import rule_of
from npunet.commands.run_folder import OF_TRAINING, RunFolder
from npunet.datasets import named
from npunet.errors import InputError
from npunet.experiments.recipes import CHECKPOINT
from npunet.files import schema
from npunet.files.whole_file import write_json
from npunet.instances.cutting import Cutting, cutting_of
from npunet.unet import UNet


@dataclass
class Outcome:
    """What a run came to. mean: the scores of the table; rows: the same for each held-out sample; counts are sums."""

    options: dict  # of npunet.train
    records: list  # of metrics.jsonl
    parameters: int
    device: str  # where the run was scored
    training: int  # number of images
    samples: list
    probabilities: list
    rows: list
    mean: dict
    seconds: float  # of scoring, predictions included
    thresholds: dict = field(default_factory=dict)
    cutting: Cutting | None = None
    cutting_score: float | None = None
    found: list | None = None  # cell numbers of each sample

    @property
    def steps(self):
        return max(record["step"] for record in self.records)

    @property
    def training_seconds(self):
        """Of the steps alone, without evaluations."""
        return sum(record.get("seconds", 0) for record in self.records)

    def for_json(self):
        options = {name: value for name, value in self.options.items() if name != "out"} | {
            "data": name_of(self.options["data"])
        }
        return {
            "mean": self.mean,
            "thresholds": self.thresholds,
            "cutting": vars(self.cutting) if self.cutting else None,
            "steps": self.steps,
            "training_seconds": round(self.training_seconds, 1),
            "parameters": self.parameters,
            "options": options,
            "per_image": [{"name": sample.name} | row for sample, row in zip(self.samples, self.rows)],
        }


def ensure_trained(folder, wanted, given):
    """Train into `folder` with the options `wanted`;
    a run that is there already is gone on with, if it is not finished.

    given: names of the options that were asked for by hand. Raises InputError if the run that is there has others.
    """
    config, checkpoint = Path(folder) / "config.json", Path(folder) / "newest.npz"
    if config.exists() and not checkpoint.exists():  # stopped before anything was kept
        for name in ("config.json", "metrics.jsonl"):
            (Path(folder) / name).unlink(missing_ok=True)
    if not config.exists():
        train.main([*arguments_of(wanted), "--out", str(folder)])
        return
    _, stored = RunFolder.reopen(folder, OF_TRAINING)
    had = train_options.DEFAULTS | stored["options"]
    differing = [
        name
        for name in given
        if name not in (*train_options.CHANGEABLE_ON_RESUME, "minutes") and had[name] != wanted[name]
    ]
    if differing:
        raise InputError(
            f"{folder} holds a run with {differing[0]} {had[differing[0]]}, not {wanted[differing[0]]}; "
            "give another --out, or leave the option out to report on that run"
        )
    again = {name: wanted[name] for name in ("steps", "device", "threads", "data") if name in given}
    if max((record["step"] for record in read_records(folder)), default=0) < again.get("steps", had["steps"]):
        train.main([*arguments_of(again), "--resume", str(folder)])


def read_records(folder):
    """The lines of metrics.jsonl, which may still be written to."""
    return schema.read_lines(Path(folder) / "metrics.jsonl", schema.RECORD)[0]


def name_of(data):
    """A data set's name as it is, a path by its last part: reports hold no paths of the machine that wrote them."""
    return data if data in named.SETS or data == "synthetic" else Path(data).name


def arguments_of(options):
    """Training options as the words of a command line; what is None is left out."""
    words = []
    for name, value in options.items():
        word = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [word if value else f"--no-{word[2:]}"]
        elif value is not None:
            words += [word, f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def score_run(folder, experiment, *, device="cpu", data=None, symmetries=True, choose=True, ready=None):
    """Score the network of a run folder on the images that it held out: an `Outcome`.

    Raises InputError if there is no such run.

    Probabilities are means over the eight rotated and mirrored versions (§4) unless symmetries is false. choose: the
    cutting into cells is chosen for them; else the one that training chose is taken, as npunet.predict does. ready is
    called as ready(net) before anything is computed.
    """
    run, config = RunFolder.reopen(folder, OF_TRAINING)
    path = run.path / CHECKPOINT
    if not path.exists():
        raise InputError(f"{folder} holds no {CHECKPOINT} yet; wait until the run has kept its first checkpoint")
    options = train_options.stored(config, run.path / "config.json")
    net = UNet.load(path, device=device)
    if ready is not None:
        ready(net)
    how = dict(labels=options["labels"], class_values=class_values_of(net, config), rule=rule_of(net))
    dataset = scaling.scaled_dataset(datasets.load(data or options["data"], **how), options["scale"])
    names = set(config["held_out"])
    held_out = [sample for sample in dataset.samples if sample.name in names]
    training = [sample for sample in dataset.samples if sample.name not in names]
    if len(held_out) != len(names):
        raise InputError(
            f"{data or options['data']} has {len(held_out)} of the {len(names)} images that the run in {folder} held "
            f"out; give its --data"
        )
    tile = session.evaluation_tile(net, options["tile"])
    start = time.perf_counter()
    outcome = Outcome(
        options,
        read_records(folder),
        net.n_parameters,
        net.device,
        len(training),
        held_out,
        _predict(net, held_out, tile, symmetries, "held-out"),
        rows=[],
        mean={},
        seconds=0.0,
    )
    if experiment.cells:
        outcome.cutting = cutting_of(net)
        if choose or not net.cutting:
            tuning = tuning_samples(training)
            predicted = _predict(net, tuning, tile, symmetries, "training images, to choose thresholds")
            outcome.cutting, outcome.cutting_score = choose_cutting(tuning, predicted, outcome.cutting.head)
    score_outcome(outcome, net)
    outcome.seconds = time.perf_counter() - start
    return outcome


def score_outcome(outcome, net):
    """Put the scores of the probabilities into the outcome: of cells, if it has a cutting."""
    if outcome.cutting:
        found = cell_scores.score_cells(outcome.cutting, outcome.samples, outcome.probabilities)
        outcome.rows, outcome.mean, outcome.found = found
        outcome.probabilities = scoring.classes_scored(net, outcome.probabilities)
    else:
        outcome.rows, outcome.thresholds = scoring.score_samples(outcome.samples, outcome.probabilities)
        outcome.mean = scoring.mean_scores(outcome.rows)


def _predict(net, samples, tile, symmetries, what):
    with cli.progress_bar(total=len(samples), desc=f"predicting {what}", unit="image") as bar:
        return scoring.predict_samples(net, samples, tile, symmetries, lambda done, total: bar.update())


def write_scores(path, outcome):
    write_json(path, outcome.for_json())
