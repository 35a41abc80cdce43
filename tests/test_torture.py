"""tests/torture.py, the long hunt for files that make trouble, for a few seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import damage


def test_torture_in_a_few_seconds(tmp_path):
    """The short form of tests/torture.py; docs/reliability.md has the figures of a long one."""
    program = Path(__file__).with_name("torture.py")
    words = "--kills 5 --files 100 --pairs 1 --places 1 --ranks 0 --memory 0.02 --seed 3".split()
    environment = os.environ | {"PYTHONPATH": str(program.parent.parent), "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, program, *words], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    said = {name: value for line in result.stdout.splitlines() for name, value in json.loads(line).items()}
    assert sum(said["kills"][0].values()) == 5 and said["pairs"] == 1
    assert all(sum(of_kind) == 100 for of_kind in said["files"].values())


def test_torture_keeps_the_file_that_made_trouble(tmp_path, monkeypatch):
    """Beside the folder of damaged files, which is removed when the program ends."""
    monkeypatch.setattr(damage.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "damaged").mkdir()
    path = tmp_path / "damaged" / "tiled.tif"
    assert damage.kept(path) == ""
    path.write_bytes(b"trouble")
    words = damage.kept(path)
    shutil.rmtree(path.parent)
    assert words.startswith("; the file is kept as ")
    assert Path(words.removeprefix("; the file is kept as ")).read_bytes() == b"trouble"
