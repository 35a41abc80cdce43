"""The command that plants faults (tests/mutants.py): what it plants, draws, finds again and counts."""

import json

import mutant_judges
import mutant_places
import mutants
import pytest

SOURCE = """def f(a: int = 3, *, b=True):
    if a < 2 and not b:
        print(-a)
        return a + 1
    return None
"""


def planted(source):
    for _line, start, end, new in mutant_places.Places(source).found:
        yield source[:start] + new + source[end:]


def test_each_place_is_changed_once_and_annotations_are_not():
    changed = {source for source in planted(SOURCE)}
    for old, new in [
        ("int = 3", "int = 4"),
        ("b=True", "b=False"),
        ("a < 2 and not b", "not (a < 2 and not b)"),
        ("a < 2", "a <= 2"),
        (" and ", " or "),
        ("a < 2", "a < 3"),
        ("not b", "(b)"),
        ("print(-a)", "pass"),
        ("-a", "(a)"),
        ("return a + 1", "return None"),
        ("a + 1", "a - 1"),
        ("a + 1", "a + 2"),
    ]:
        changed.remove(SOURCE.replace(old, new, 1))
    assert not changed
    assert list(planted('if __name__ == "__main__":\n    main()\nx: int\nf"{1 + 2}"')) == []


@pytest.fixture
def tree(tmp_path):
    for name, text in {"ops/relu.py": SOURCE, "gpu/cuda.py": SOURCE, "unet.py": "é = 1\nx = 3  # é\ny = 4\n"}.items():
        (tmp_path / "npunet" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "npunet" / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_larger_draw_begins_like_a_smaller_one(tree):
    small, places = mutant_places.drawn(tree, 5, 1)
    large, _ = mutant_places.drawn(tree, 100, 1)
    assert (
        places == len(large) == 15
        and large[:5] == small
        and {mutant[0] for mutant in large} == {"ops/relu.py", "unet.py"}
    )
    assert mutant_places.drawn(tree, 5, 2)[0] != small
    assert [mutant[0] for mutant in mutant_places.drawn(tree, 100, 1, ["unet.py"])[0]] == ["unet.py"] * 3


def test_a_mutant_is_found_again_where_its_line_has_moved(tree):
    path = tree / "npunet" / "unet.py"
    mutant = next(mutant for mutant in mutant_places.drawn(tree, 9, 1, ["unet.py"])[0] if mutant[1] == 2)
    text, column = mutant_places.around(path.read_bytes(), *mutant[2:4])
    row = {"file": "unet.py", "line": 2, "text": text, "column": column, "old": "3", "new": "4"}
    path.write_text("z = 9\n" + path.read_text("utf-8"), encoding="utf-8")
    again = mutant_places.found_again(tree, row)
    assert again == ("unet.py", 3, mutant[2] + 6, mutant[3] + 6, "4")
    path.write_text("nothing = 0\n", encoding="utf-8")
    assert mutant_places.found_again(tree, row) is None


def test_only_what_a_test_killed_counts_and_the_rest_is_planted_again(tree):
    verdicts = ["killed", "killed", "killed", "survived", "out of time", "line is gone"]
    rows = [{"verdict": word} for word in verdicts]
    rows[0]["slow"] = rows[3]["slow"] = True
    assert mutants.summary(rows) == (
        "6 mutants: 3 killed, 1 survived, 1 out of time, 1 line is gone; "
        "40.0 % killed within seconds, 60.0 % with slower tests"
    )
    row = {"file": "unet.py", "line": 2, "text": "x = 3  # é", "column": 4, "old": "3", "new": "4"}
    (tree / "rows.jsonl").write_text("".join(json.dumps(row | {"verdict": word}) + "\n" for word in verdicts))
    options = mutants.parser().parse_args(["--replay", str(tree / "rows.jsonl")])
    assert [mutant[0] for mutant in mutants.planned(tree, options)] == ["unet.py", "unet.py"]


def test_a_survivor_of_the_quick_tests_meets_the_slow_ones(monkeypatch):
    seconds = {"tests/test_a.py::quick": 1, "tests/test_a.py::slow": 20, "tests/test_b.py::slower": 25}
    seconds |= {"tests/test_a.py::near": 2, "tests/test_b.py::other": 3, "tests/test_b.py::fails": 1}
    here = {test for test in seconds if not test.endswith(("near", "other"))}
    known = {"seconds": seconds, "failed": {"tests/test_b.py::fails"}, "lines": {"a.py": {7: here}}}
    quick, slow = mutant_judges.judges(known, "a.py", 7)
    assert list(quick) == ["tests/test_a.py::quick", "tests/test_a.py::near"]
    assert list(slow) == ["tests/test_a.py::slow", "tests/test_b.py::slower"]
    assert list(mutant_judges.judges(known, "a.py", 7, 25)[1]) == ["tests/test_a.py::slow"]

    met = []
    monkeypatch.setattr(mutants, "verdict", lambda tree, mutant, tests: met.append(tests) or {"verdict": mutant})
    assert mutants.judged(None, "killed", quick, slow) == {"verdict": "killed"} and met == [quick]
    assert mutants.judged(None, "survived", quick, slow) == {"verdict": "survived", "slow": True}
    assert met == [quick, quick, slow]
