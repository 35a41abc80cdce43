"""python tests/torture.py: kills, damaged files, two runs in one folder, folders that fail, memory (`make torture`).

    kills     a training is killed (SIGKILL) and resumed until it is done: half of the kills at a file that is just
              being opened, renamed or removed, half at any moment. After each kill every checkpoint must load; at the
              end the network has the bits of a run that was never stopped
    files     pictures, masks, networks, configurations and logs with bytes changed, cut or inserted (tests/damage.py)
    pairs     two trainings are started in one folder at once: one of them must be refused
    places    a full disk, a folder that nobody may write, a folder that is taken away: one line each, and after making
              room the run goes on to the same bits
    ranks     one of two processes that train together under mpiexec is killed (tests/rank_kills.py): all end within ten
              seconds, and the run goes on to the bits of a run that was never stopped; skipped without MPI
    memory    a training of so many minutes; what it holds after the first minute and the most that it holds later

Each run is a fork of this process, in which NumPy and npunet are loaded already. docs/reliability.md has the figures.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import damage
import matplotlib.figure  # noqa: F401  once, for all forks
import numpy as np
import rank_kills

from npunet import train
from npunet.commands import cli
from npunet.datasets import synthetic
from npunet.files import checkpoint, images

STEPS = 18
TRAIN = "--base-channels 2 --depth 1 --tile 36 --held-out 1 --threads 1 --evaluate-every 6".split()
TOUCHED = {"open", "os.rename", "os.remove", "os.mkdir"}  # what a kill can wait for: events of Python's audit


def data(root):
    """Four small sections on the disk."""
    for kind in ("images", "masks"):
        (root / "data" / kind).mkdir(parents=True)
    for number, sample in enumerate(synthetic(n_sections=4, size=48, seed=2).samples):
        images.write_image(root / "data" / "images" / f"{number}.png", sample.image)
        images.write_mask(root / "data" / "masks" / f"{number}.png", sample.labels)
    return ["--data", str(root / "data"), "--steps", str(STEPS), *TRAIN]


# Processes


def start(arguments, log, before=lambda: None):
    """npunet.train in a fork of this process, what it says in the file `log`; its process number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["npunet.train", *map(str, arguments)]
        before()
        cli.run(train.main)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_of(process, log):
    """Its exit status, below 0 for a signal. A traceback in what it said is an error."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    said = Path(log).read_text()
    assert "Traceback" not in said, said
    return code, said


def finish(arguments, log):
    code, said = end_of(start(arguments, log), log)
    assert code == 0, said


def bits(path):
    entries = checkpoint.load(path)
    return {name: array.tobytes() for name, array in entries.items() if name != "header"}


# Kills


def dies_at(number, folder):
    """What a fork does first, so that it kills itself where it touches a file of the folder for the number-th time."""
    left = [number]

    def listen(event, arguments):
        if event in TOUCHED and str(folder) in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(listen)


def killed_after(process, seconds):
    """Kills the process once it has computed for so many seconds, unless it has ended."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        try:
            state, computed = Path(f"/proc/{process}/stat").read_text(), Path(f"/proc/{process}/schedstat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        if state.rsplit(")", 1)[1].split()[0] == "Z":
            return
        if int(computed.split()[0]) > 1e9 * seconds:
            os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.002)
    raise AssertionError("a run hangs")


def kills(root, words, count, rng):
    """{kind: kills} and the number of chains; raises AssertionError for a chain with other bits."""
    expected, done, chains = bits(root / "straight" / "newest.npz"), {"at a file": 0, "at a moment": 0}, 0
    whole = os.times().children_user  # seconds that the straight run has taken
    while sum(done.values()) < count or chains == 0:
        run = root / f"chain{chains}"
        while True:
            resume = (run / "newest.npz").exists()
            if not resume:
                shutil.rmtree(run, ignore_errors=True)
            kind = rng.choice(list(done))
            if sum(done.values()) >= count:
                kind = None
            before = dies_at(rng.randint(1, 60), run) if kind == "at a file" else lambda: None
            process = start(["--resume", run] if resume else [*words, "--out", run], root / "log", before)
            if kind == "at a moment":
                killed_after(process, rng.uniform(0.01, whole))
            code, said = end_of(process, root / "log")
            assert code in (0, -signal.SIGKILL), (code, said)
            for path in run.glob("[!.]*.npz"):  # not what is half written
                checkpoint.load(path)
            if code == 0:
                break
            done[kind] += 1
        assert bits(run / "newest.npz") == expected, f"{run} has other bits"
        assert not [path for path in run.iterdir() if ".part" in path.name], "temporary files are left"
        shutil.rmtree(run)
        chains += 1
    return done, chains


def pairs(root, words, count):
    """In how many of `count` pairs one of two trainings that were started together was refused; both never work."""
    for number in range(count):
        run, logs = root / f"pair{number}", [root / "log0", root / "log1"]
        both = [start([*words, "--seed", seed, "--out", run], logs[seed]) for seed in (0, 1)]
        ends = [end_of(process, log) for process, log in zip(both, logs)]
        assert sorted(code for code, _ in ends) == [0, 2], ends
        lines = (run / "metrics.jsonl").read_text().splitlines()
        assert sum('"loss"' in line for line in lines) == STEPS, "two runs wrote one log"
        shutil.rmtree(run)
    return count


# Places that fail


def places(root, words, rounds, rng):
    """{trouble: how often it ended in one line}; without root only the first, which needs no file system of its own."""
    found = {"folder taken away": 0, "full disk": 0, "read-only": 0}
    expected = bits(root / "straight" / "newest.npz")
    for _ in range(rounds):
        run = root / "away"
        process = start([*words, "--out", run], root / "log", lambda: moved_away(run, rng.randint(3, 60)))
        code, said = end_of(process, root / "log")
        if code:  # the run may end before it has touched so many files
            refused(code, said)
            found["folder taken away"] += 1
        for folder in (run, Path(f"{run}.moved")):
            shutil.rmtree(folder, ignore_errors=True)
    for trouble in ("full disk", "read-only"):
        for _ in range(rounds):
            with file_system(root / "disk") as disk:
                if disk is None:
                    break
                one_place(disk, words, root / "log", trouble, rng, expected)
                found[trouble] += 1
    return found


def moved_away(run, number):
    """The folder gets another name when a file in it is touched for the number-th time."""
    left = [number]

    def listen(event, arguments):
        if event in TOUCHED and str(run) in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                run.rename(f"{run}.moved")

    sys.addaudithook(listen)


def one_place(disk, words, log, trouble, rng, expected):
    """A run on a disk without room, or that turns read-only, is refused in one line, and goes on once that is over."""
    run, filler = disk / "run", disk / "filler"
    if trouble == "full disk":
        filler.write_bytes(bytes(rng.randrange(2**19, 2**20 - 2**12)))
    else:
        log_of_start = start([*words, "--out", run], log, dies_at(rng.randint(4, 60), run))
        end_of(log_of_start, log)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    resume = (run / "newest.npz").exists()
    code, said = end_of(start(["--resume", run] if resume else [*words, "--out", run], log), log)
    if code:  # a small filler leaves room enough
        refused(code, said)
    if trouble == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    filler.unlink(missing_ok=True)
    resume = (run / "newest.npz").exists()
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    finish(["--resume", run] if resume else [*words, "--out", run], log)
    assert bits(run / "newest.npz") == expected, "other bits after making room"


def refused(code, said):
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1, (code, said)


@contextlib.contextmanager
def file_system(path):
    """A file system of one megabyte in memory; None where this user may mount none."""
    path.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


# Memory


def memory(root, words, minutes):
    """Megabytes that a training of so many minutes holds after its first minute, and at most from then on."""
    words = [*words, "--steps", 10**8, "--evaluate-every", 1000, "--out", root / "long"]
    process, held, began = start(words, root / "log"), [], time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        time.sleep(min(10, 6 * minutes))
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        held.append((time.monotonic() - began, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        print(f"{held[-1][0]:.0f} s: {held[-1][1]:.1f} MB", file=sys.stderr, flush=True)
    os.kill(process, signal.SIGINT)
    code, said = end_of(process, root / "log")
    assert code == 130, said
    minute = 60 * min(1, minutes / 2)
    first = np.median([size for at, size in held if at <= minute][-3:])
    last, most = np.median([size for _, size in held][-3:]), max(size for at, size in held if at > minute)
    steps = json.loads((root / "long" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    return {"first minute": first, "at the end": last, "at most": most, "growth": last / first - 1, "steps": steps}


def main():
    parse = argparse.ArgumentParser(description="Kills, damaged files, two runs in one folder, places that fail.")
    parse.add_argument("--kills", type=int, default=200)
    parse.add_argument("--files", type=int, default=20000, help="of each kind")
    parse.add_argument(
        "--kinds", nargs="+", default=(), metavar="FILE", help="of files, such as best.npz (default all)"
    )
    parse.add_argument("--pairs", type=int, default=10)
    parse.add_argument("--places", type=int, default=10, help="of each trouble")
    parse.add_argument("--ranks", type=int, default=10, help="kills of one rank of two")
    parse.add_argument("--memory", type=float, default=0, metavar="MINUTES")
    parse.add_argument("--seed", type=int, default=0)
    options, rng = parse.parse_args(), random.Random()
    rng.seed(options.seed)
    gc.freeze()  # a gc.collect(), as behind each picture of a run, need not look at what all forks have
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        words = data(root)
        finish([*words, "--out", root / "straight"], root / "log")
        jobs = {
            "kills": lambda: kills(root, words, options.kills, rng),
            "pairs": lambda: pairs(root, words, options.pairs),
            "places": lambda: places(root, words, options.places, rng),
            "files": lambda: damage.files(root, root / "straight", options.files, options.seed, options.kinds),
            "ranks": lambda: rank_kills.chains(root, words, options.ranks, rng) if rank_kills.MPIEXEC else "no mpiexec",
            "memory": lambda: memory(root, words, options.memory),
        }
        for name, job in jobs.items():
            if getattr(options, name):
                began = time.perf_counter()
                print(json.dumps({name: job(), "seconds": round(time.perf_counter() - began)}), flush=True)


if __name__ == "__main__":
    main()
