"""The lessons: every notebook runs from a clean kernel, is stored as it ran, and keeps the conventions of
lesson_style.py. The exercises have tests of their own, test_exercises.py."""

import asyncio
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read with nbformat; pip install nbformat")

ROOT = Path(__file__).parents[1]
LESSONS = ROOT / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))
EXERCISES = sorted(path.stem for path in (LESSONS / "exercises").glob("[0-9]*.py"))
TIMEOUT = 300  # seconds for a cell; on two idle cores a whole lesson takes below 60
MACHINE_PATH = re.compile(r"/(home|root|work|tmp|Users|usr)/|site-packages|[A-Z]:\\\\?Users")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def texts(cell):
    """What can be read in a cell: its source and its outputs, without the pictures."""
    yield cell.source
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield from (str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))
        yield from output.get("traceback", [])


@pytest.mark.filterwarnings("default")  # Jupyter's own; those of a lesson end up in its outputs
@each_notebook
def test_runs_from_a_clean_kernel(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # no start-up file or history of the person who runs the tests
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # matrices are small here: on a busy machine threads wait for each other
    notebook = read(path)
    stored = printed_sources(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(LESSONS)}}
    )
    asyncio.run(client.async_execute())  # raises CellExecutionError, with the cell and its traceback
    noise = [
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert not noise, f"{path.name} writes warnings: {noise[0][:500]}"
    assert printed_sources(notebook) == stored, (
        f"{path.name} shows a program that has changed since: read it again, run it, store it"
    )


def printed_sources(notebook):
    """What the cells print that show functions of npunet."""
    return [
        "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if "inspect.getsource" in cell.source and cell.cell_type == "code"
    ]


@each_notebook
def test_is_stored_as_it_ran(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 600_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), (
        "run from top to bottom, then store"
    )
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "a lesson has pictures"
    for cell in notebook.cells:
        for text in texts(cell):
            found = MACHINE_PATH.search(text)
            assert not found and str(ROOT) not in text, (
                f"a path of a machine, {found and found.group()}, in: {text[:200]}"
            )


@each_notebook
def test_keeps_the_conventions(path):
    """See lessons/lesson_style.py."""
    cells = read(path).cells
    number = int(path.stem[:2])
    first, prose = cells[0], [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {number}. ")
    quotation = " ".join(line for line in first.source.splitlines() if line.startswith(">"))
    assert re.search(r"[\"“].{40,}[\"”].*§", quotation), "opens with a sentence of the paper and its section"
    assert any(text.startswith("## Notation") and "|---" in text.replace(" ", "") for text in prose)
    exercise = next(text for text in prose if text.startswith("## Exercise"))
    named = re.findall(r"exercises/(\d\d_\w+)\.py", exercise)
    assert named and set(named) <= set(EXERCISES), f"the exercise names {named}; there are {EXERCISES}"
    assert cells[-1].source.startswith("## Summary")
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert any(re.search(r"^assert ", source, re.MULTILINE) for source in code), "a check of known magnitude"
    assert any(re.search(r"^(import npunet|from npunet)", source, re.MULTILINE) for source in code)
