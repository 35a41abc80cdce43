"""Which tests judge a mutant: those that execute its line, as coverage.py saw it when each test ran once.

Tests that read the source instead of running it see every change and judge nothing: BLIND. Nor does a test that takes
longer than LONGEST, or that fails without any fault.
"""

import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

from mutant_places import chosen_files

BLIND = "house", "readme", "lessons", "signatures", "site", "exercises", "build", "wasm"
BLIND += "benchmarks", "benchmark_gpu"  # these run other files than the package's
SLOW = "against_pytorch", "learning", "parallel_mpi", "cuda_"  # minutes for what other tests see too
LATE = "train", "train_cells", "predict_cells", "option_effects", "parallel", "experiments", "stylize", "report"
LATE += "style_generator", "style_memory_needs", "pytorch_unet", "export", "doctor"  # minutes too: mapped last
LONGEST = 30  # seconds of one test
QUICK, NEAR = 15, 5  # seconds of tests that a mutant meets first, and of tests that do not execute its line
SLOW_TESTS = 240  # seconds of further tests that a mutant meets if it survives the quick ones


def suite(tree, only=()):
    """The test files to map, the quick ones first. For some modules: those named like one of them, and the quick ones
    that mention one."""
    files = [Path(name) for name in chosen_files(tree, only)]
    words = {file.stem for file in files} | {file.parent.name for file in files}
    words -= {"__init__", "__main__", ""}
    mention = re.compile(rf"npunet\b.*\b({'|'.join(sorted(words))})\b", re.IGNORECASE)
    found = {}
    for path in (tree / "tests").glob("test_*.py"):
        name = path.stem.removeprefix("test_")
        matters = not only or name in words or name not in LATE and mention.search(path.read_text("utf-8"))
        if matters and name not in BLIND and not name.startswith(SLOW):
            found[str(path)] = name in LATE, path.stat().st_size
    return sorted(found, key=found.get)


class Clock:
    """A pytest plugin: seconds of each test, and the tests that fail; tells coverage.py the names.

    `overrun` is called when a test takes more processor time than `limit(test)` seconds, or ten times that by the
    clock: other programs may be running.
    """

    def __init__(self, limit, overrun, coverage=None):
        self.limit, self.overrun, self.coverage = limit, overrun, coverage
        self.seconds, self.failed = defaultdict(float), []

    def set_timers(self, seconds):
        for timer, caught, factor in (signal.ITIMER_PROF, signal.SIGPROF, 1), (signal.ITIMER_REAL, signal.SIGALRM, 10):
            signal.signal(caught, self.overrun)
            signal.setitimer(timer, factor * seconds)

    def pytest_runtest_setup(self, item):
        if self.coverage:
            self.coverage.switch_context(item.nodeid)
        self.set_timers(self.limit(item.nodeid))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "teardown":
            self.set_timers(0)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(tree, names, plugin):
    import pytest

    os.chdir(tree)
    sys.path[:0] = [str(tree), str(tree / "tests")]
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(tree), *names], [plugin])


def map_tests(tree, into, until, only=()):
    """Adds a line for each test file to `into`, until it is too late; whether all are there.

    {"of": test file, "seconds": {test: s}, "lines": {file: {line: [tests]}}, "failed": [tests]}
    """
    done = {json.loads(line)["of"] for line in into.read_text().splitlines()} if into.exists() else set()
    files = suite(tree, only)
    for path in files:
        if path not in done and time.time() < until:
            child = os.fork()
            if not child:
                map_file(tree, path, into)
                os._exit(0)
            os.waitpid(child, 0)
            done.add(path)
    return set(files) <= done


def too_long(*_):
    raise TimeoutError(f"longer than {LONGEST} s")


def map_file(tree, path, into):
    import coverage

    os.environ["COVERAGE_CORE"] = "ctrace"
    watch = coverage.Coverage(data_file=None, include=[str(tree / "npunet/*")], config_file=False)
    clock, lines = Clock(lambda test: LONGEST, too_long, watch), {}
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


def judges(known, name, line, slow=SLOW_TESTS):
    """Two rounds of tests for a mutant, each {test: the seconds it takes}: quick ones, and those for a survivor.

    The first round are tests that execute its line, then others of its home; the second are all further tests that
    execute its line, as far as `slow` seconds reach. Home are the test files named like the module or its folder
    (test_strips.py, test_instances.py, test_instances_strips.py) and test_defaults.py, which reads all signatures. In
    each round the quickest come first, and those of the home before others. A line that runs when its module is
    imported, or in a process of its own only, is judged by all tests that execute something of the file.
    """
    seconds, lines = known["seconds"], known["lines"][name]
    exact = lines.get(line) or {test for tests in lines.values() for test in tests}
    folder, stem = Path(name).parent.name, Path(name).stem
    named = tuple(f"tests/test_{file}.py::" for file in (stem, folder, f"{folder}_{stem}", "defaults"))
    home = {test for test in seconds if test.startswith(named)}
    rounds = {}, {}
    for chosen, tests, budget in ((rounds[0], exact, QUICK), (rounds[0], home - exact, NEAR), (rounds[1], exact, slow)):
        unmet = tests - known["failed"] - rounds[0].keys()
        for test in sorted(unmet, key=lambda test: seconds[test] / (5 if test in home else 1)):
            if seconds[test] < budget:
                budget -= seconds[test]
                chosen[test] = seconds[test]
    return rounds
