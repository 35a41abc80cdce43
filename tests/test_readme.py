"""README.md is true: its program runs, the source that it shows is the package's, its links lead somewhere."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from npunet import UNet, instances, write_labels
from npunet.files.images import read_labels
from npunet.ops import relu

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"`python\n(.*?)`", README, re.DOTALL)


def test_the_source_that_it_shows_is_the_live_one():
    module = inspect.getmodule(relu)
    shown = PROGRAMS[0].split("\n\n\n")
    assert [part.strip() for part in shown] == [
        inspect.getsource(function).strip() for function in (module.relu, module.relu_backward)
    ]


def test_its_program_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(PROGRAMS[1], "README.md", "exec"), names)
    height, width, _ = names["image"].shape
    assert names["probabilities"].shape == (height, width, 2)
    assert (tmp_path / "mine.npz").exists() and names["energy"] > 0


def test_its_program_for_cells_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = UNet(base_channels=1, depth=1)
    net.output.bias.value[...] = 0, 0.1  # all is one cell
    net.output.weight.value[...] = 0
    net.cutting = instances.Cutting(min_size=2).as_dict()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    net.save("runs/mine/best.npz")
    write_labels("field.tif", np.arange(600, dtype=np.int32).reshape(20, 30))
    names = {}
    exec(compile(PROGRAMS[2], "README.md", "exec"), names)
    assert names["probabilities"].shape == (20, 30, 2) and names["cells"].min() == 1 == len(names["rows"])
    assert read_labels("cells.tif")[0].all() and (tmp_path / "cells.csv").read_text().count("\n") == 2


def headings(path):
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall("^#.*", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines}


def leads_somewhere(page, target):
    """A link such as "#start", "docs/formats.md" or "docs/formats.md#cells"."""
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    return path.exists() and (not anchor or anchor in headings(path))


DOCS = [f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS])
def test_links_lead_to_a_file_or_a_heading(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    broken = [
        target for target in targets if not target.startswith("http") and not leads_somewhere(ROOT / page, target)
    ]
    assert broken == []
