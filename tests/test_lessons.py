"""The lessons: every notebook runs from a clean kernel, shows what it showed when it was stored, and keeps the
conventions of lesson_style.py; no picture, print or printed source is older than the code it came from. The exercises
have tests of their own, test_exercises.py.
"""

import importlib
import itertools
import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read with nbformat; pip install nbformat")
for module in ("nbclient", "IPython"):
    pytest.importorskip(module, reason=f"notebooks need {module}; pip install '.[test]'")

ROOT = Path(__file__).parents[1]
LESSONS = ROOT / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))
EXERCISES = sorted(path.stem for path in (LESSONS / "exercises").glob("[0-9]*.py"))
MACHINE_PATH = re.compile(r"/(home|root|work|tmp|Users|usr)/|site-packages|[A-Z]:\\\\?Users")
LARGEST = 1_050_000  # bytes of a notebook

sys.path[:0] = [str(LESSONS), str(ROOT / "docs" / "site")]
import lesson_output  # noqa: E402
import lesson_page  # noqa: E402
import lesson_pictures  # noqa: E402
import lesson_ranks  # noqa: E402
import lite  # noqa: E402
import run as lesson_run  # noqa: E402

from npunet.parallel.ring import all_reduce  # noqa: E402

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, key=None):
    """All outputs; with `key` only those whose metadata have it."""
    found = [output for cell in code_cells(notebook) for output in cell.outputs]
    return found if key is None else [output for output in found if key in output.get("metadata", {})]


def texts(cell):
    """What can be read in a cell: its source and its outputs, without the pictures."""
    yield cell.source
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield from (str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))
        yield from output.get("traceback", [])


def prints(notebook):
    """What each cell prints, its numbers left out: they are timings, or differ in the last digit between machines.

    A cell tagged "varies" says something about the machine, such as whether it has a GPU.
    """
    cells = [cell for cell in code_cells(notebook) if "varies" not in cell.metadata.get("tags", [])]
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    return [re.sub(r"\s+", " ", re.sub(r"-?\b(\d[\d.,]*(e[-+]?\d+)?|inf|nan)\b", "#", text)) for text in printed]


def kinds(summary):
    """What kind of picture it is; how many ticks an axis has may depend on a timing."""
    return [" ".join(dict.fromkeys(kind.split())) for kind in summary["kinds"]]


def shorten(notebook):
    """Fewer steps for trainings that only print and draw what differs between machines: words are compared, no numbers.

    Their cells say so themselves: "shorter_in_tests" in the metadata is [what the cell says, what runs here instead].
    """
    for cell in code_cells(notebook):
        if "shorter_in_tests" in cell.metadata:
            long, short = cell.metadata.shorter_in_tests
            assert cell.source.count(long) == 1, f"the cell says no longer: {long}"
            cell.source = cell.source.replace(long, short)


@pytest.mark.filterwarnings("default")  # Jupyter's own; those of a lesson end up in its outputs
@each_notebook
def test_shows_when_it_runs_again_what_is_stored(path, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # no start-up file or history of the person who runs the tests
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # matrices are small here: on a busy machine threads wait for each other
    stored, again = read(path), read(path)
    shorten(again)
    lesson_run.execute(again)  # raises CellExecutionError, with the cell and its traceback
    noise = [output.text for output in outputs(again) if output.get("name") == "stderr"]
    assert not noise, f"{path.name} writes warnings: {noise[0][:500]}"
    advice = f"read it again, then: python -m lessons.run {path.name[:2]}"
    for before, now in zip(prints(stored), prints(again), strict=True):
        assert now == before, f"{path.name} prints something else than is stored; {advice}"
    pictures = zip(outputs(stored, "drawn"), outputs(again, "drawn"), strict=True)
    for before, now in ((old.metadata.drawn, new.metadata.drawn) for old, new in pictures):
        assert kinds(now) == kinds(before), f"{path.name} draws another picture than is stored; {advice}"
        if "numbers" in before:
            np.testing.assert_allclose(  # what is below 1e-5 is rounding
                now["numbers"], before["numbers"], rtol=0.03, atol=1e-5, err_msg=f"{path.name}: {advice}"
            )


@each_notebook
def test_is_stored_as_it_ran(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < LARGEST
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run from top to bottom, then store"
    assert not [
        output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert not [cell for cell in notebook.cells if "execution" in cell.metadata], "no timestamps of single cells"
    assert not stale(notebook), f"{path.name}: code was changed and not run; python -m lessons.run {path.name[:2]}"
    for cell in notebook.cells:
        for text in texts(cell):
            found = MACHINE_PATH.search(text)
            assert not found and str(ROOT) not in text, (
                f"a path of a machine, {found and found.group()}, in: {text[:200]}"
            )


def stale(notebook):
    """Numbers of the code cells with pictures that were drawn by other code than stands there now.

    A picture remembers a hash of all code that had run before it; so it also vouches for what was printed on the way.
    """
    sources = [cell.source for cell in code_cells(notebook)]
    return [
        number
        for number, cell in enumerate(code_cells(notebook), start=1)
        for output in cell.outputs
        if "code" in output.get("metadata", {}) and output.metadata.code != lesson_output.code_hash(sources[:number])
    ]


def test_a_stale_picture_is_seen():
    """As in a former lesson 11: a row of a table was added in one cell, and the picture below not drawn again."""
    cells = [
        nbformat.v4.new_code_cell(source) for source in ("rows = [1, 2, 3]", "style.show(draw(rows), 'alt', 'caption')")
    ]
    picture = nbformat.v4.new_output("display_data", {"image/png": ""})
    picture.metadata.code = lesson_output.code_hash([cell.source for cell in cells])
    cells[1].outputs = [picture]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert not stale(notebook)
    cells[0].source = "rows = [1, 2, 3, 4]"
    assert stale(notebook) == [2]
    cells[0].source, cells[1].source = "rows = [1, 2, 3]", "style.show(draw(rows, wide=True), 'alt', 'caption')"
    assert stale(notebook) == [2]


def test_another_picture_has_another_summary():
    import matplotlib.pyplot as plt

    def bars(values, title="scores"):
        fig, axes = plt.subplots()
        axes.bar(range(len(values)), values)
        axes.set_title(title)
        summary = lesson_output.drawn(fig)
        plt.close(fig)
        return summary

    assert bars([1, 2, 3]) == bars([1, 2, 3])
    assert bars([1, 2, 3])["kinds"] != bars([1, 2, 3, 4])["kinds"], "a bar more"
    assert bars([1, 2, 3])["numbers"] != bars([1, 2, 3.5])["numbers"], "a longer bar"
    assert bars([1, 2, 3])["kinds"] != bars([1, 2, 3], "errors")["kinds"], "another title"
    assert bars([1, 2, 3], "best 0.71") == bars([1, 2, 3], "best 0.72"), "numbers in titles may differ"


@each_notebook
def test_the_sources_that_it_prints_are_todays(path):
    for output in outputs(read(path), "source"):
        today = lesson_output.source_text(output.metadata.source, output.metadata.docstring)
        assert output.data["text/markdown"] == today, (
            f"{path.name} shows {output.metadata.source}, which has changed since: "
            f"read what is said about it, then: python -m lessons.run {path.name[:2]}"
        )


def test_sources_are_found_where_npunet_is_installed(tmp_path, monkeypatch):
    """In a browser the lessons lie in a folder of their own."""
    shutil.copy(LESSONS / "lesson_output.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lesson_output")
    elsewhere = importlib.import_module("lesson_output")
    assert Path(elsewhere.__file__).parent == tmp_path
    for name in ("npunet/gpu/bias_relu.cu:bias_relu", "npunet.ops.relu:relu"):
        assert elsewhere.source_text(name) == lesson_output.source_text(name)
    assert elsewhere.source_text("npunet.ops.relu:relu").startswith("`npunet/ops/relu.py`")


@each_notebook
def test_keeps_the_conventions(path):
    """See lessons/lesson_style.py."""
    notebook = read(path)
    cells, number = notebook.cells, int(path.stem[:2])
    first, prose = cells[0], [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {number}. ")
    quotation = " ".join(line for line in first.source.splitlines() if line.startswith(">"))
    assert re.search(r"[\"“].{40,}[\"”].*§", quotation), "opens with a sentence of the paper and its section"
    for what in ("**You need**", "**Afterwards you can**", "(glossary.md)"):
        assert what in first.source, f"the first cell says {what}"
    assert any(text.startswith("## Notation") and "|---" in text.replace(" ", "") for text in prose)
    exercise = next(text for text in prose if text.startswith("## Exercise"))
    named = re.findall(r"exercises/(\d\d_\w+)\.py", exercise)
    assert set(named) <= set(EXERCISES) and (named or number == 0), f"the exercise names {named}; there are {EXERCISES}"
    questions = next(text for text in prose if text.startswith("## Questions"))
    assert questions.count("<details>") == questions.count("</details>") == questions.count("</summary>") >= 4
    sources = next(text for text in prose if text.startswith("## Sources"))
    assert len(re.findall(r"\]\(https?://", sources)) >= 2
    assert cells[-1].source.startswith("## Summary")
    for neighbour in (number - 1, number + 1):
        names = [other.name for other in NOTEBOOKS if other.name.startswith(f"{neighbour:02}_")]
        assert all(f"({name})" in cells[-1].source for name in names), f"links to {names}"
    code = [cell.source for cell in code_cells(notebook)]
    assert any(re.search(r"^assert ", source, re.MULTILINE) for source in code), "a check of known magnitude"
    assert any(re.search(r"^(import npunet|from npunet)", source, re.MULTILINE) for source in code)
    assert 2 <= len(outputs(notebook, "source")) <= 8, "reads some of npunet's own functions"


@each_notebook
def test_links_lead_somewhere(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(((?!https?:)[^)#\s]+)", cell.source):
                assert (LESSONS / target).exists(), f"{path.name} links to {target}"


@each_notebook
def test_every_picture_has_a_description_and_a_caption(path):
    pictures = 0
    for cell in code_cells(read(path)):
        for place, output in enumerate(cell.outputs):
            if "image/png" in output.get("data", {}):
                pictures += 1
                assert len(output.metadata["image/png"].get("alt", "")) > 40, f"an alt text in: {cell.source[:80]}"
                caption = cell.outputs[place + 1].data.get("text/markdown", "")
                assert len(caption) > 25 and caption.startswith("*"), f"a caption in: {cell.source[:80]}"
    assert pictures >= 4


# Machado, Oliveira and Fernandes 2009 (https://doi.org/10.1109/TVCG.2009.113), full deuteranopia and protanopia, on
# linear RGB; CIELAB under D65.
BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour, matrix):
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(matrix @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLIND)
def test_colours_can_be_told_apart_by_red_green_blind_readers(kind):
    seen = {colour: lab(colour, np.array(BLIND[kind])) for colour in lesson_pictures.COLOURS}
    for one, two in itertools.combinations(seen, 2):
        distance = np.linalg.norm(seen[one] - seen[two])
        assert distance >= 20, f"{one} and {two} are {distance:.0f} apart"
    pink, grey = lab("#CC79A7", np.array(BLIND[kind])), lab("#8C8C8C", np.array(BLIND[kind]))
    assert np.linalg.norm(pink - grey) < 20, "two colours of Okabe and Ito's that are too near: so the test can fail"


def test_the_trained_network_is_small_and_works():
    from npunet import UNet, datasets, metrics, tiling

    path = LESSONS / "networks" / "sections.npz"
    assert path.stat().st_size < 300_000
    sample = datasets.synthetic(n_sections=1, size=200, seed=99).samples[0]
    probability = tiling.predict(UNet.load(path), sample.image, 220)[..., 1]
    assert metrics.v_rand(probability, sample.instances)[0] > 0.8


def test_make_networks_writes_what_unet_loads(tmp_path):
    import make_networks

    from npunet import UNet

    net = UNet(base_channels=2, depth=1, seed=3, input_mean=0.25)
    make_networks.save_half(net, tmp_path / "half.npz")
    loaded = UNet.load(tmp_path / "half.npz")
    assert loaded.config == net.config
    for name, parameter in net.parameters.items():
        assert loaded.parameters[name].value.dtype == np.float32
        np.testing.assert_allclose(loaded.parameters[name].value, parameter.value, rtol=1e-3)


def test_a_page_counts_what_is_done(monkeypatch):
    """Where Python has threads nothing is shown; in a browser one line, which changes."""
    shown = []
    line = types.SimpleNamespace(update=lambda text: shown.append(text.data))
    monkeypatch.setattr(lesson_page, "display", lambda text, display_id: shown.append(text.data) or line)
    assert list(lesson_page.counted("ab")) == ["a", "b"] and not shown
    monkeypatch.setattr(lesson_page, "can_start_threads", lambda: False)
    assert list(lesson_page.counted("ab")) == ["a", "b"]
    assert re.fullmatch(r"0 of 2\n1 of 2, \d s\n2 of 2, \d s", "\n".join(shown))


@each_notebook
def test_a_page_says_before_a_cell_that_it_takes_long(path):
    """Cells whose "seconds_in_a_page" were measured; and the first cell says how long the lesson takes."""
    book = json.loads(path.read_text(encoding="utf-8"))
    long = {"".join(c["source"]): c["metadata"]["seconds_in_a_page"] for c in book["cells"]
            if "seconds_in_a_page" in c["metadata"]}  # fmt: skip
    first, *cells = (cell for cell in lite.to_be_run(book, path.stem)["cells"] if cell["cell_type"] == "code")
    assert re.match(
        r"# In a browser this lesson takes about (a minute|\d+ (seconds|minutes))\.\n%pip install", first["source"]
    )
    assert sum(long.values()) <= lite.SECONDS[int(path.stem[:2])]
    for source, seconds in long.items():
        says = f"# In a browser this cell takes about {lite.in_words(seconds)}.\n"
        assert [cell["source"] for cell in cells].count(says + source) == 1
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


def test_seconds_in_words():
    assert [lite.in_words(seconds) for seconds in (8, 44, 54, 56, 89, 91, 160)] == [
        "10 seconds", "40 seconds", "50 seconds", "a minute", "a minute", "2 minutes", "3 minutes"]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 5])
def test_ranks_that_run_by_turns_hold_what_threads_hold(n, monkeypatch, capsys):
    """Lesson 16 in a browser, where Python has no threads."""
    arrays = [np.random.default_rng(r).standard_normal(13) for r in range(n)]

    def rank(r, send, receive):
        array = arrays[r].copy()
        all_reduce(array, r, n, lambda piece: send(piece.copy()), receive)
        return array

    together = lesson_ranks.run_ranks(rank, n)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(lesson_ranks, "can_start_threads", lambda: False)
    by_turns = lesson_ranks.run_ranks(rank, n)
    assert all(np.array_equal(array, together[0]) for array in (*together, *by_turns))
    np.testing.assert_allclose(together[0], np.sum(arrays, axis=0), rtol=1e-14)


def test_ranks_that_all_wait_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(lesson_ranks, "can_start_threads", lambda: False)
    with pytest.raises(RuntimeError, match="each rank waits for another one"):
        lesson_ranks.run_ranks(lambda r, send, receive: send(receive()), 3)
