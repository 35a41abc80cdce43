"""README.md is true: its program runs, the source that it shows is the package's, its links lead somewhere."""

import inspect
import re
from pathlib import Path

import pytest

from npunet.ops import relu

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


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


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/DESIGN.md"])
def test_links_lead_to_a_file_or_a_heading(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in re.findall("^#.*", text, re.M)
    }
    broken = [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not target.startswith("http")
        and not (target[1:] in headings if target[0] == "#" else (ROOT / page).parent.joinpath(target).exists())
    ]
    assert broken == []
