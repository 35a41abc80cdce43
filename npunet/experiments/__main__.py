"""python -m npunet.experiments NAME: one of the paper's experiments (§4) from data to report; --help has examples."""

import argparse
import sys
from pathlib import Path

from npunet.commands import cli, train_options
from npunet.commands.run_folder import RunFolder
from npunet.errors import InputError
from npunet.experiments import recipes, report, running

EPILOG = """
    python -m npunet.experiments isbi2012                     train by the recipe, score, write a report
    python -m npunet.experiments isbi2012 --run runs/mine     only report on a run of npunet.train that is there
    python -m npunet.experiments phase_contrast --no-weight-map --out D     the recipe with one thing left out
    python -m npunet.experiments phase_contrast --ablation no-weight-map no-elastic base-8
                                                              the recipe, each of them, and one table

A run that was interrupted goes on when the same command is given again; one that is finished is only scored. Training
options that are given replace those of the recipe (npunet.experiments.recipes), whatever they do; npunet.train --help
explains them.
"""
PASSED_ON = dict(
    data=str,
    steps=int,
    minutes=float,
    held_out=int,
    base_channels=int,
    depth=int,
    tile=cli.tile_size,
    learning_rate=float,
    w0=float,
    sigma=float,
    gap=int,
    evaluate_every=int,
    seed=int,
    device=str,
    threads=int,
)


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = vars(parser().parse_args(arguments))
    experiment = recipes.EXPERIMENTS[options["name"]]
    given = {name: options[name] for name in PASSED_ON if name in options}
    base = (
        train_options.DEFAULTS | experiment.train | {name: value for name, value in given.items() if name != "minutes"}
    )
    flags = [name for name in recipes.ABLATIONS if options.get(name.replace("-", "_"))]
    folder = Path(options["out"] or Path("runs") / "experiments" / "_".join([experiment.name, *flags]))
    command = "python -m npunet.experiments " + " ".join(
        Path(word).name if Path(word).is_absolute() else word for word in arguments
    )
    if options["run"]:
        if flags or options["ablation"] or set(given) - {"data", "device"}:
            raise InputError(
                "--run reports on a run as it is; only --data, --device, --plain, --no-pictures and --out go with it"
            )
        outcome = score(options["run"], experiment, options)
        finish(folder, experiment, outcome, command, options)
        return
    recipes.changed(base, options["ablation"])  # unknown names are refused before any work
    wanted = only_wanted(recipes.changed(base, flags), experiment, given, base)
    outcomes = {"recipe": train_and_score(folder, experiment, wanted, given, command, options)}
    for name in options["ablation"]:
        same = {name: value for name, value in given.items() if name != "minutes"} | {
            "steps": outcomes["recipe"].options["steps"]
        }
        # The same number of steps, also where --minutes decided it.
        varied = only_wanted(recipes.changed(base | same, [name]), experiment, same, base)
        outcomes[name] = train_and_score(folder / name, experiment, varied, same, command, options)
        report.write_ablations(folder / "ablations.md", experiment, outcomes, command)
    if options["ablation"]:
        print(f"the table of all of them is in {folder / 'ablations.md'}")


def only_wanted(changed, experiment, given, base):
    """The options that training is told: those of the recipe, given by hand or changed by an ablation.

    Not every default.
    """
    names = [*experiment.train, *given, *(name for name in changed if changed[name] != base[name])]
    wanted = {name: changed[name] for name in dict.fromkeys(names)} | {
        name: given[name] for name in ("minutes",) if name in given
    }
    if "minutes" in wanted and "steps" not in given:
        wanted.pop("steps", None)
    return wanted


def train_and_score(folder, experiment, wanted, given, command, options):
    recipe = train_options.DEFAULTS | experiment.train
    running.ensure_trained(
        folder / "run", wanted, [name for name in wanted if name in given or wanted[name] != recipe[name]]
    )
    outcome = score(folder / "run", experiment, options)
    finish(folder, experiment, outcome, command, options)
    return outcome


def score(run, experiment, options):
    return running.score_run(
        run, experiment, device=options.get("device", "cpu"), data=options.get("data"), symmetries=not options["plain"]
    )


def finish(folder, experiment, outcome, command, options):
    with RunFolder(folder).writing():
        path = report.write_report(
            folder, experiment, outcome, command, symmetries=not options["plain"], show_data=not options["no_pictures"]
        )
    running.write_scores(folder / "scores.json", outcome)
    print(report.scores_table(experiment, outcome))
    print(f"report: {path} (scores.json beside it)")


def parser():
    parse = argparse.ArgumentParser(
        prog=cli.program("experiments"),
        description="One of the paper's experiments (§4) from data to report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse.add_argument("name", choices=list(recipes.EXPERIMENTS), help="which experiment")
    parse.add_argument(
        "--out",
        metavar="DIR",
        help="folder for run/, report.md, its pictures and scores.json (default runs/experiments/NAME)",
    )
    parse.add_argument("--run", metavar="DIR", help="report on this run of npunet.train instead of training")
    parse.add_argument("--plain", action="store_true", help="one version of each image, not the mean over eight (§4)")
    parse.add_argument(
        "--no-pictures",
        action="store_true",
        help="a report without pictures of the images, for places where the data must not go",
    )
    for name, ablation in recipes.ABLATIONS.items():
        parse.add_argument(f"--{name}", action="store_true", help=ablation.title)
    parse.add_argument(
        "--ablation",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"also run these, into DIR/NAME, and make one table: {', '.join(recipes.ABLATIONS)}, base-N (N base "
        f"channels)",
    )
    training = parse.add_argument_group("training, instead of the recipe's (see npunet.train)")
    for name, kind in PASSED_ON.items():
        training.add_argument(f"--{name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS, metavar=name.upper())
    return parse


if __name__ == "__main__":
    cli.run(main)
