"""python tests/torture.py: kills, damaged files and two runs in one folder, as many as one likes (`make torture`).

    kills     a training is killed (SIGKILL) at random moments and resumed until it is done; its network must have the
              bits of a run that was never stopped, and every checkpoint must load after each kill
    files     checkpoints, configurations and logs with bytes changed, cut or inserted: each is used or refused with one
              InputError
    pairs     two trainings are started in one folder at once: one of them must be refused

docs/reliability.md has the figures of the last run.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from npunet import UNet
from npunet.commands.run_folder import OF_TRAINING, RunFolder, training_config
from npunet.errors import InputError
from npunet.files import checkpoint, schema

TRAIN = "--data synthetic --base-channels 2 --depth 1 --tile 36 --threads 1 --steps 60 --evaluate-every 6".split()


def start(*arguments):
    words = [sys.executable, "-m", "npunet.train", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def bits(path):
    entries = checkpoint.load(path)
    return {name: array.tobytes() for name, array in entries.items() if name != "header"}


def kills(root, count, rng):
    """How many kills there were, and in how many chains; raises AssertionError for a chain with other bits."""
    assert start(*TRAIN, "--out", root / "straight").wait() == 0
    expected, done, chains = bits(root / "straight" / "newest.npz"), 0, 0
    while done < count:
        run = root / f"chain{chains}"
        while True:
            resume = (run / "newest.npz").exists()
            if not resume:
                shutil.rmtree(run, ignore_errors=True)
            process = start("--resume", run) if resume else start(*TRAIN, "--out", run)
            try:
                output, _ = process.communicate(timeout=rng.uniform(0.3, 8))
                assert process.returncode == 0, output
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done += 1
            for name in ("newest.npz", "best.npz"):
                if (run / name).exists():
                    checkpoint.load(run / name)
        assert bits(run / "newest.npz") == expected, f"{run} has other bits"
        assert not [path for path in run.iterdir() if ".part" in path.name], "temporary files are left"
        chains += 1
    return done, chains


def damaged(content, rng):
    """The bytes with one to four of them changed, a part cut out or put in twice, or the end missing."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content))
        kind = rng.randrange(4)
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            del content[at : at + rng.randrange(1, 50)]
        elif kind == 2:
            content[at:at] = content[at : at + rng.randrange(1, 50)]
        else:
            del content[max(1, at) :]
        if not content:
            return b"x"
    return bytes(content)


def files(root, count, rng):
    """{kind: [used, refused]} over `count` damaged files of each kind; any other exception than InputError ends it."""
    run = root / "straight"
    sources = {name: (run / name).read_bytes() for name in ("best.npz", "config.json", "metrics.jsonl")}
    found = {name: [0, 0] for name in sources}
    place = root / "damaged"
    place.mkdir()
    for name, content in sources.items():
        for _ in range(count):
            (place / name).write_bytes(damaged(content, rng))
            try:
                use(place, name)
                found[name][0] += 1
            except InputError as error:
                assert "\n" not in str(error), error
                found[name][1] += 1
        (place / name).unlink()
    return found


def use(place, name):
    if name.endswith(".npz"):
        UNet.load(place / name)
    elif name == "config.json":
        RunFolder.reopen(place, OF_TRAINING)
        training_config(place / "best.npz")
    else:
        schema.read_lines(place / name, schema.RECORD)


def pairs(root, count):
    """In how many of `count` pairs one of two trainings that were started together was refused; both never work."""
    refused = 0
    for number in range(count):
        both = [start(*TRAIN, "--seed", seed, "--out", root / f"pair{number}") for seed in (0, 1)]
        outputs = [process.communicate()[0] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes == [0, 2], (codes, outputs)
        lines = (root / f"pair{number}" / "metrics.jsonl").read_text().splitlines()
        assert sum('"loss"' in line for line in lines) == 60, "two runs wrote one log"
        refused += 1
    return refused


def main():
    parse = argparse.ArgumentParser(description="Kills, damaged files and two runs in one folder.")
    parse.add_argument("--kills", type=int, default=200)
    parse.add_argument("--files", type=int, default=20000, help="of each kind")
    parse.add_argument("--pairs", type=int, default=10)
    parse.add_argument("--seed", type=int, default=0)
    options, began = parse.parse_args(), time.perf_counter()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        done, chains = kills(Path(folder), options.kills, rng)
        report = {"kills": done, "chains with the bits of a run never stopped": chains}
        report |= {"files (used, refused)": files(Path(folder), options.files, rng)}
        report |= {"pairs, of which one was refused": pairs(Path(folder), options.pairs)}
    print(json.dumps(report | {"seconds": round(time.perf_counter() - began)}, indent=1))


if __name__ == "__main__":
    main()
