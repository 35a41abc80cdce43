"""python tests/mutants.py: which faults, planted one at a time, does no test see? (make mutants MUTANTS="--count 300")

Three steps, each of which goes on where it was stopped. All work is done in a copy of the tree, under --work:

    1. tests.jsonl: the suite runs once under coverage.py: which test executes which line, and how long each test takes
       (mutant_judges.py)
    2. `count` mutants are drawn with a seed from all places alike (mutant_places.py)
    3. rows.jsonl: for each mutant some seconds of the tests that execute its line, fastest first, until one fails; if
       none does, the others, up to --slow seconds. A fork of this process runs them, so that NumPy and pytest are
       imported once

Each mutant is killed (a test failed), survived, or was out of time (a loop without end, or slow code): a fault that no
test saw within its time is not counted as killed. docs/reliability.md has the figures of the last run.

`--only ops/ unet.py` draws from these files of npunet/ and maps the test files that name them, for whoever works there.
`--replay ROWS` plants what survived or was out of time in an earlier rows.jsonl again, each where its line of text
stands now, to see whether newer tests kill it. `--tests tests/test_relu.py ...` judges by these tests alone, without
step 1.
"""

import argparse
import functools
import gc
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from mutant_judges import LONGEST, SLOW_TESTS, Clock, judges, known_tests, map_tests, run_tests
from mutant_places import around, drawn, found_again

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 8 << 30  # bytes of address space; a mutant that wants more is killed by the MemoryError


def verdict(tree, mutant, tests):
    """Runs the tests, {test: seconds it takes without a fault}, on a mutant in a fork of this process; its row."""
    name, line, start, end, new = mutant
    path = tree / "npunet" / name
    source = path.read_bytes()
    text, column = around(source, start, end)
    row = {"file": name, "line": line, "text": text, "column": column}
    row |= {"old": source[start:end].decode(), "new": new, "tests": len(tests)}
    kept = tree.parent / "planted.json"  # if this process is killed, the next one takes the fault out: `copied`
    kept.write_text(json.dumps([name, source.decode()]))
    path.write_bytes(source[:start] + new.encode() + source[end:])
    for compiled in (path.parent / "__pycache__").glob(path.stem + ".*"):
        compiled.unlink()
    began, (read, write) = time.perf_counter(), os.pipe()
    child = os.fork()
    if not child:
        child_of(tree, tests, write)
    os.close(write)
    with os.fdopen(read) as answer:
        by = answer.read()
    _, status = os.waitpid(child, 0)
    path.write_bytes(source)
    kept.unlink()
    shutil.rmtree(tree / "left", ignore_errors=True)
    killed = "killed" if by else "survived" if status == 0 else "out of time"
    return row | {"verdict": killed, "by": by, "seconds": round(time.perf_counter() - began, 1)}


def judged(tree, mutant, quick, slow):
    """The row of a mutant that meets the quick tests, and if it survives them the slow ones."""
    row = verdict(tree, mutant, quick)
    if row["verdict"] == "survived" and slow:
        row = verdict(tree, mutant, slow) | {"slow": True}
    return row


def give_up(*_):
    os.killpg(0, signal.SIGKILL)


def child_of(tree, tests, write):
    """What the fork does: run the tests until one fails, and write its name."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.dont_write_bytecode = True
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    clock = Clock(lambda test: 5 + 4 * tests.get(test, LONGEST), give_up)
    clock.set_timers(2 * LONGEST)  # for the imports
    names, code = list(tests), 1
    try:
        for first, last in itertools.pairwise((0, 6, 30, len(names) + 30)):  # few files are collected for the first
            if names[first:last] and not clock.failed:
                code = int(run_tests(tree, ["-x", "--basetemp", str(tree / "left"), *names[first:last]], clock))
    except BaseException as error:  # the mutant broke pytest itself: that is seen
        clock.failed.append(repr(error)[:200])
    os.write(write, (clock.failed or [""] if code in (0, 1) else [f"pytest ended with {code}"])[0].encode())
    os._exit(0)


def copied(tree):
    """A copy of the files that git knows, once; a fault that a killed process left in it is taken out."""
    if not tree.exists():
        for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")[:-1]:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    kept = tree.parent / "planted.json"
    if kept.exists():
        name, source = json.loads(kept.read_text())
        (tree / "npunet" / name).write_text(source)
        kept.unlink()


def parser():
    parse = argparse.ArgumentParser(description="Plant faults, one at a time, and see which no test notices.")
    parse.add_argument("--count", type=int, default=100)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--only", nargs="+", default=(), help="files and folders of npunet/", metavar="NAME")
    parse.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the same command goes on")
    parse.add_argument(
        "--work", type=Path, default=ROOT / "runs/mutants", help="the copy of the tree and what was found"
    )
    parse.add_argument("--replay", type=Path, help="plant those of this rows.jsonl that no test killed", metavar="ROWS")
    parse.add_argument("--tests", nargs="+", help="judge by these tests alone", metavar="TEST")
    parse.add_argument("--slow", type=float, default=SLOW_TESTS, help="seconds of more tests for a survivor")
    return parse


def planned(tree, options):
    """The mutants to be judged; None for one of --replay whose line is gone."""
    if not options.replay:
        mutants, places = drawn(tree, options.count, options.seed, options.only)
        print(f"{len(mutants)} of {places} places", file=sys.stderr)
        return mutants
    rows = map(json.loads, options.replay.read_text().splitlines())
    return [found_again(tree, row) for row in rows if row["verdict"] in ("survived", "out of time")]


def summary(rows):
    """One line: each verdict with its number, and the share of those judged that a test killed: within seconds, and
    with the slower tests.
    """
    count = Counter(row["verdict"] for row in rows)
    slower = sum(row["verdict"] == "killed" and row.get("slow", False) for row in rows)
    planted = max(1, len(rows) - count["line is gone"])
    words = ", ".join(f"{count[word]} {word}" for word in ("killed", "survived", "out of time", "line is gone"))
    quick, all_tests = (100 * killed / planted for killed in (count["killed"] - slower, count["killed"]))
    return f"{len(rows)} mutants: {words}; {quick:.1f} % killed within seconds, {all_tests:.1f} % with slower tests"


def main():
    options = parser().parse_args()
    tree = options.work.resolve() / "tree"
    copied(tree)
    until = time.time() + 60 * options.minutes
    if options.tests:
        choose = lambda name, line: (dict.fromkeys(options.tests, LONGEST), {})
    else:
        if not map_tests(tree, options.work / "tests.jsonl", until, options.only):
            sys.exit("time is over; the same command goes on")
        choose = functools.partial(judges, known_tests(options.work / "tests.jsonl"), slow=options.slow)
    rows = options.work / ("replayed.jsonl" if options.replay else "rows.jsonl")
    done = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    import matplotlib.pyplot, PIL.Image, pytest, scipy.ndimage, tifffile  # noqa: E401, F401, I001  once for all forks

    gc.freeze()  # the collector need not look at these in each fork

    for mutant in planned(tree, options)[len(done) :]:
        if time.time() > until:
            break
        done.append(judged(tree, mutant, *choose(*mutant[:2])) if mutant else {"verdict": "line is gone"})
        with rows.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(json.dumps(done[-1]), flush=True)
    print(summary(done))


if __name__ == "__main__":
    main()
