"""python tests/mutants.py: which faults, planted one at a time, does no test see? (make mutants MUTANTS="--count 300")

Three steps, each of which goes on where it was stopped. All work is done in a copy of the tree, under --work:

    1. tests.jsonl: the suite runs once under coverage.py: which test executes which line, and how long each test takes
    2. `count` mutants are drawn with a fixed seed, at least one in each file, and the rest wherever the dice fall
    3. rows.jsonl: for each mutant the tests that execute its line, fastest first, until one fails. A mutant that no
       such test kills meets the other tests of their files too. A fork of this process runs them, so that NumPy and
       pytest are imported once

A mutant changes one place of the text: a comparison, `and`/`or`, a `not`, an operator, a number, True/False, a
condition, a `return`, or a call whose result nobody uses. Texts that a person reads, annotations and the files of
LEFT_OUT are left alone. Tests that read the source instead of running it see every change: BLIND.
docs/reliability.md has the figures of the last run.

`--replay ROWS` plants the survivors of an earlier rows.jsonl again, each where its line of text stands now, to see
whether newer tests kill them. `--tests tests/test_relu.py ...` judges by these tests alone, and step 1 is left out.
"""

import argparse
import ast
import functools
import gc
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = "gpu/", "experiments/report_pictures.py", "style/pictures.py"  # need a GPU, or draw for eyes alone
BLIND = "house", "readme", "lessons", "signatures", "site", "exercises", "build", "wasm"
BLIND += "benchmarks", "benchmark_gpu"  # these run other files than the package's
SLOW = "against_pytorch", "learning", "parallel_mpi", "cuda_"  # minutes for what other tests see too
BUDGET, NEAR = 120, 40  # seconds of tests for one mutant at most, and of tests that do not execute its line
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is", "in": "not in",
    "not in": "in", "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*", "&": "|", "|": "&",
    ">>": "<<", "<<": ">>", "and": "or", "or": "and", "@": "*",
}  # fmt: skip


class Places(ast.NodeVisitor):
    """Collects (line, start, end, new text) of each mutant of one source file; start and end count its bytes."""

    def __init__(self, source):
        self.source, self.found = source, []
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line.encode()))
        self.bytes = source.encode()
        self.visit(ast.parse(source))

    def span(self, node):
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node):
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def add(self, node, span, new):
        self.found.append((node.lineno, *span, new))

    def between(self, node, left, right):
        """The operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.bytes[start:end].decode()
        operator = re.sub(r"\s+", " ", gap.strip("() \n\\"))
        if operator in SWAPS:
            self.add(left, (start, end), gap.replace(gap.strip("() \n\\"), SWAPS[operator]))

    def visit_JoinedStr(self, node):
        pass  # Python 3.11 does not know where the parts of an f-string stand

    def visit_arg(self, node):
        pass  # an annotation

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_FunctionDef(self, node):
        for part in [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body]:
            self.visit(part)

    def visit_If(self, node):
        if "__name__" not in self.text(node.test):
            self.add(node, self.span(node.test), f"not ({self.text(node.test)})")
            self.generic_visit(node)

    def visit_IfExp(self, node):
        self.add(node.test, self.span(node.test), f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_Compare(self, node):
        for left, right in zip([node.left, *node.comparators], node.comparators):
            self.between(node, left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        for left, right in zip(node.values, node.values[1:]):
            self.between(node, left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if not any(isinstance(side, (ast.JoinedStr, ast.Constant)) and "'" in repr(getattr(side, "value", "'"))
                   for side in (node.left, node.right)):  # fmt: skip
            self.between(node, node.left, node.right)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        start, end = self.span(node.target)[1], self.span(node.value)[0]
        sign = self.bytes[start:end].decode().strip("() \n")[:-1]
        if sign in SWAPS:
            self.add(node, (start, end), f" {SWAPS[sign]}= ")
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, (ast.Not, ast.USub)):
            self.add(node, self.span(node), f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add(node, self.span(node), str(not node.value))
        elif isinstance(node.value, (int, float)):
            self.add(node, self.span(node), str(node.value + 1))

    def visit_Return(self, node):
        if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.add(node, self.span(node.value), "None")
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.add(node, self.span(node), "pass")
        self.generic_visit(node)


def drawn(tree, count, seed):
    """`count` mutants as {id: (file, line, start, end, new)}: one of each file, the rest wherever the dice fall."""
    rng, files = random.Random(seed), {}
    for path in sorted((tree / "npunet").rglob("*.py")):
        name = path.relative_to(tree / "npunet").as_posix()
        if not name.startswith(LEFT_OUT):
            files[name] = [(name, *place) for place in Places(path.read_text("utf-8")).found]
    first = [rng.choice(places) for places in files.values() if places]
    others = [place for places in files.values() for place in places if place not in set(first)]
    rng.shuffle(first)
    print(f"{len(first) + len(others)} places in {len(files)} files", file=sys.stderr)
    return (first + rng.sample(others, min(len(others), max(0, count - len(first)))))[:count]


def around(source, start, end):
    """The whole lines around a place, and where it begins in them: how `found_again` knows it when lines have moved."""
    first, after = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    return source[first : after if after >= 0 else len(source)].decode(), start - first


def found_again(tree, row):
    """The mutant of a row of an earlier run, in the tree of today; None where its lines of text are gone."""
    path = tree / "npunet" / row["file"]
    source, text = path.read_bytes() if path.exists() else b"", row["text"].encode()
    starts = [place.start() for place in re.finditer(b"^" + re.escape(text) + b"$", source, re.MULTILINE)]
    if not starts:
        return None
    line = {start: source.count(b"\n", 0, start) + 1 for start in starts}
    start = min(starts, key=lambda start: abs(line[start] - row["line"])) + row["column"]
    return row["file"], source.count(b"\n", 0, start) + 1, start, start + len(row["old"].encode()), row["new"]


# Which test executes which line


def suite(tree):
    names = {path.stem.removeprefix("test_"): str(path) for path in (tree / "tests").glob("test_*.py")}
    return sorted(path for name, path in names.items() if name not in BLIND and not name.startswith(SLOW))


class Clock:
    """A pytest plugin: seconds of each test, and the tests that fail; tells coverage.py the names."""

    def __init__(self, coverage=None):
        self.coverage, self.seconds, self.failed = coverage, defaultdict(float), []

    def pytest_runtest_setup(self, item):
        if self.coverage:
            self.coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(tree, names, plugin):
    import pytest

    os.chdir(tree)
    sys.path[:0] = [str(tree), str(tree / "tests")]
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(tree), *names], [plugin])


def map_tests(tree, into, until):
    """Adds a line for each test file to `into`, until it is too late; whether all are there.

    {"of": test file, "seconds": {test: s}, "lines": {file: {line: [tests]}}, "failed": [tests]}
    """
    done = {json.loads(line)["of"] for line in into.read_text().splitlines()} if into.exists() else set()
    for path in suite(tree):
        if path not in done and time.time() < until:
            child = os.fork()
            if not child:
                map_file(tree, path, into)
                os._exit(0)
            os.waitpid(child, 0)
    return set(suite(tree)) <= {json.loads(line)["of"] for line in into.read_text().splitlines()}


def map_file(tree, path, into):
    import coverage

    os.environ["COVERAGE_CORE"] = "ctrace"
    watch = coverage.Coverage(data_file=None, include=[str(tree / "npunet/*")], config_file=False)
    clock, lines = Clock(watch), {}
    watch.start()
    run_tests(tree, [path], clock)
    watch.stop()
    data = watch.get_data()
    for measured in data.measured_files():
        name = Path(measured).relative_to(tree / "npunet").as_posix()
        lines[name] = {line: sorted(set(tests) - {""}) for line, tests in data.contexts_by_lineno(measured).items()}
    with into.open("a") as file:
        file.write(json.dumps({"of": path, "seconds": clock.seconds, "failed": clock.failed, "lines": lines}) + "\n")


def known_tests(path):
    """What map_tests found, over all test files."""
    seconds, failed, lines = {}, set(), defaultdict(lambda: defaultdict(set))
    for row in map(json.loads, path.read_text().splitlines()):
        seconds |= row["seconds"]
        failed |= set(row["failed"])
        for name, of_file in row["lines"].items():
            for line, tests in of_file.items():
                lines[name][int(line)] |= set(tests)
    return {"seconds": seconds, "failed": failed, "lines": lines}


def judges(known, name, line):
    """The tests for a mutant: those that execute its line, then their neighbours in the same files; fastest first.

    A line that runs when its module is imported, or in a process of its own only, is judged by all tests of the file.
    """
    seconds, lines = known["seconds"], known["lines"][name]
    exact = lines.get(line) or {test for tests in lines.values() for test in tests}
    stem = "/test_" + Path(name).stem
    homes = {test.split("::")[0] for test in exact} | {t.split("::")[0] for t in seconds if stem in t}
    near = {test for test in seconds if test.split("::")[0] in homes} - exact
    chosen = []
    for tests, budget in ((exact, BUDGET), (near, NEAR)):
        for test in sorted(tests - known["failed"], key=seconds.get):
            budget -= seconds[test]
            if budget > 0:
                chosen.append(test)
    return chosen, sum(map(seconds.get, chosen))


# One mutant


def verdict(tree, mutant, tests, spent):
    """Runs the tests, which take `spent` seconds, on a mutant in a fork of this process; its row."""
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
        child_of(tree, tests, spent, write)
    os.close(write)
    with os.fdopen(read) as answer:
        by = answer.read()
    _, status = os.waitpid(child, 0)
    path.write_bytes(source)
    kept.unlink()
    shutil.rmtree(tree / "left", ignore_errors=True)
    killed = "killed" if by else "survived" if status == 0 else "out of time"
    return row | {"verdict": killed, "by": by, "seconds": round(time.perf_counter() - began, 1)}


def child_of(tree, tests, spent, write):
    """What the fork does: run the tests until one fails, and write its name."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(
        int(60 + 20 * spent)
    )  # the machine may be busy: the limit on its own processor time is the sharper one
    resource.setrlimit(resource.RLIMIT_CPU, (int(30 + 5 * spent),) * 2)
    sys.dont_write_bytecode = True
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    clock = Clock()
    code = 1
    try:
        for first, last in itertools.pairwise((0, 6, 30, len(tests) + 30)):  # few files are collected for the first
            if tests[first:last] and not clock.failed:
                code = int(run_tests(tree, ["-x", "--basetemp", str(tree / "left"), *tests[first:last]], clock))
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
    parse.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the same command goes on")
    parse.add_argument(
        "--work", type=Path, default=ROOT / "runs/mutants", help="the copy of the tree and what was found"
    )
    parse.add_argument("--replay", type=Path, help="plant the survivors of this rows.jsonl again", metavar="ROWS")
    parse.add_argument("--tests", nargs="+", help="judge by these tests alone", metavar="TEST")
    return parse


def planned(tree, options):
    """The mutants to be judged; None for one of --replay whose line is gone."""
    if not options.replay:
        return drawn(tree, options.count, options.seed)
    rows = map(json.loads, options.replay.read_text().splitlines())
    return [found_again(tree, row) for row in rows if row["verdict"] == "survived"]


def main():
    options = parser().parse_args()
    tree = options.work.resolve() / "tree"
    copied(tree)
    until = time.time() + 60 * options.minutes
    if options.tests:
        choose = lambda name, line: (options.tests, BUDGET)
    else:
        if not map_tests(tree, options.work / "tests.jsonl", until):
            sys.exit("time is over; the same command goes on")
        known = known_tests(options.work / "tests.jsonl")
        choose = functools.partial(judges, known)
    rows = options.work / ("replayed.jsonl" if options.replay else "rows.jsonl")
    done = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    import matplotlib.pyplot, PIL.Image, pytest, scipy.ndimage, tifffile  # noqa: E401, F401, I001  once for all forks

    gc.freeze()  # the collector need not look at these in each fork

    for mutant in planned(tree, options)[len(done) :]:
        if time.time() > until:
            break
        done.append(verdict(tree, mutant, *choose(*mutant[:2])) if mutant else {"verdict": "line is gone"})
        with rows.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(json.dumps(done[-1]), flush=True)
    count = Counter(row["verdict"] for row in done)
    judged = len(done) - count["line is gone"]
    print(f"{len(done)} mutants: {dict(count)}; {1 - count['survived'] / max(1, judged):.1%} killed")


if __name__ == "__main__":
    main()
