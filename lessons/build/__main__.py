"""make build: the forms are made where they are missing, what is written is checked, and the next step is shown.

python -m lessons.build               all of it; when every function is right the network is trained
python -m lessons.build relu conv2d   these alone, with the whole message of each
python -m lessons.build --list        the functions, their files, and where each is derived
"""

import argparse
import sys
from pathlib import Path

from lessons.build import answers
from lessons.build.checks import probes, probes_of_pictures
from lessons.build.course import BY_NAME, STEPS
from lessons.checking import Check
from lessons.compare import Wrong

PROBES = vars(probes) | vars(probes_of_pictures)  # by the name of the function
FOLDER = Path(__file__).parents[1] / "my_unet"


def main(arguments=None):
    sys.stdout.reconfigure(line_buffering=True)  # messages of the processes that are started come in between
    options = parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        print(f"there is no function {unknown[0]}; there are: {', '.join(BY_NAME)}", file=sys.stderr)
        return 2
    if options.list:
        for step in STEPS:
            print(f"  {step.name:24s} {step.file + '.py':20s} {step.read}")
        return 0
    answers.shut_out()
    for line in answers.start(options.folder):
        print(line)
    results = check_all(options.folder, options.names)
    show(results, options)
    if any(state != "right" for state, _ in results.values()):
        return 1
    if not options.names and not options.no_training:
        from lessons.build import training

        return training.main(options.folder)
    return 0


def parser():
    made = argparse.ArgumentParser(prog="python -m lessons.build", description=__doc__.splitlines()[0])
    made.add_argument("names", nargs="*", help="functions to check; all if none is named")
    made.add_argument("--list", action="store_true", help="list the functions")
    made.add_argument("--no-training", action="store_true", help="do not train the network when everything is right")
    made.add_argument("--folder", type=Path, default=FOLDER, help="where your files are (lessons/my_unet)")
    return made


def check_all(folder, names=(), sources=None):
    """{name: (state, message)}; state is "right", "wrong", "to write" or "waits"."""
    get = answers.load(folder, sources)
    results = {}
    wanted = list(names) or list(BY_NAME)
    needed = {other for name in wanted for other in (name, *before(name))}
    for step in STEPS:
        if step.name in needed:
            results[step.name] = one(step, get, results)
    return {name: results[name] for name in results if name in wanted}


def before(name):
    """What must be right before `name` can be checked, and before that."""
    for other in BY_NAME[name].needs:
        yield from (other, *before(other))


def one(step, get, results):
    missing = [name for name in step.needs if results[name][0] != "right"]
    if missing:
        return "waits", f"for {', '.join(missing[:3])}" + (" and others" if missing[3:] else "")
    try:
        others = lambda name: get(BY_NAME[name].file, name)
        check = Check(step.name, get(step.file, step.name), step.read, others, PROBES.get(step.name))
        step.check(check)
        check.verdict()
    except NotImplementedError as empty:
        return "to write", str(empty)
    except Wrong as wrong:
        return "wrong", str(wrong)
    return "right", ""


def show(results, options):
    """How far it is, each function on a line, and in full the first message, or those of the functions asked for."""
    marks = {"right": "ok", "wrong": "WRONG", "to write": "-", "waits": "-"}
    shown = False
    for name, (state, message) in results.items():
        step = BY_NAME[name]
        note = {"to write": f"write it in {step.file}.py", "waits": f"waits {message}"}.get(state, "")
        if state == "wrong":
            full = options.names or not shown
            note = "" if full else f"python -m lessons.build {name} says why"
            shown = True
        print(f"  {marks[state]:6s} {name:24s} {note}".rstrip())
        if state == "wrong" and full:
            print("\n" + "\n".join("      " + line for line in message.splitlines()) + "\n")
    if not options.names:
        show_progress(results, options.folder)


def show_progress(results, folder):
    done = sum(state == "right" for state, _ in results.values())
    bar = "#" * done + "." * (len(results) - done)
    print(f"\n[{bar}] {done} of {len(results)} functions of your U-Net are right")
    following = next((name for name, (state, _) in results.items() if state in ("wrong", "to write")), None)
    if following:
        step = BY_NAME[following]
        what = "mend" if results[following][0] == "wrong" else "write"
        print(f"next: {what} {following} in {shortened(folder)}/{step.file}.py; it is derived in {step.read}")


def shortened(folder):
    """The folder as seen from here, if it is inside."""
    path = Path(folder).resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
