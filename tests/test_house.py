"""The contract of the house (docs/DESIGN.md): rooms and floors, sizes, devices, the paper's words, commands."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "npunet"

# These ask for the option --device of a whole run, and not where an array lies: who draws the tiles, and how much
# memory a run on that device needs.
ASK_FOR_THE_OPTION = {"npunet.style.memory_needs", "npunet.training"}


@functools.cache
def modules():
    """{"npunet.ops.relu": its path} for every Python file of the package."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


@functools.cache
def tree(module):
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@functools.cache
def imports(module):
    """The modules of npunet that one imports, inside functions too."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name in modules()}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports name their module in full"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found |= {whole if whole in modules() else node.module} & modules().keys()
    return found - {module, "npunet"}


def room(module):
    """The file or folder of the top level, such as "unet" or "ops"; a folder's __main__ is a command."""
    return "__main__" if module.endswith(".__main__") else module.split(".")[1]


def drawn_floors():
    """{room: number of its floor, the ground floor is 0} as docs/DESIGN.md draws them."""
    text = (ROOT / "docs/DESIGN.md").read_text(encoding="utf-8")
    drawing = re.search(r"## The floors.*?`\n(.*?)`", text, re.DOTALL).group(1)
    floors = [line.split("#")[0].replace("/", "").split() for line in drawing.splitlines()]
    return {name: number for number, names in enumerate(reversed(floors)) for name in names}


# Rooms and floors


def test_the_top_level_holds_at_most_24_files():
    files = sorted(path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix == ".py")
    assert len(files) <= 24, files


def test_every_room_is_drawn():
    rooms = {room(module) for module in modules() if module != "npunet"}
    assert rooms == set(drawn_floors()), "docs/DESIGN.md, 'The floors', draws every file and folder of npunet/"


def test_imports_go_down_only():
    floors, upward = drawn_floors(), set()
    for module in modules().keys() - {"npunet"}:
        for other in imports(module):
            here, there = room(module), room(other)
            if floors[there] > floors[here]:
                upward.add((here, there))
    assert not upward, "imports go to the same floor or a lower one (docs/DESIGN.md, 'The floors')"


def test_commands_are_no_libraries():
    """What several commands need has a place in commands/; only the experiments run commands."""
    commands = {"train", "predict", "evaluate", "profile", "stylize"}
    arrows = {(room(module), room(other)) for module in modules() if module != "npunet" for other in imports(module)}
    wrong = {(here, there) for here, there in arrows if there in commands and here not in (there, "experiments")}
    assert wrong == set()


def test_no_imports_go_round_in_a_circle():
    circles = [circle for circle in strongly_connected(imports, modules()) if len(circle) > 1]
    assert circles == []


def test_a_circle_is_seen():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert {frozenset(circle) for circle in strongly_connected(arrows.get, arrows)} == {
        frozenset("a"),
        frozenset("bc"),
        frozenset("d"),
    }


def strongly_connected(targets, nodes):
    """Sets of nodes that reach each other: those reached from a node, and that reach it."""

    def reached(start):
        found, waiting = {start}, [start]
        while waiting:
            new = targets(waiting.pop()) - found
            found |= new
            waiting += new
        return found

    reach = {node: reached(node) for node in nodes}
    return {frozenset(other for other in reach[node] if node in reach[other]) for node in nodes}


def test_imports_stand_at_the_top():
    """Of npunet's own modules: an import inside a function hides an arrow of the drawing."""
    hidden = []
    for module in modules():
        for function in ast.walk(tree(module)):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "npunet":
                        hidden.append(f"{module}.{function.name}")
    assert hidden == []


def test_operations_need_numpy_scipy_and_threadpoolctl_alone():
    script = """
import sys
import tomllib
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in {"numpy", "scipy", "threadpoolctl", "npunet"} | sys.stdlib_module_names:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocked())
import npunet.ops, npunet.loss, npunet.layers, npunet.plain
print("ops work")
try:
    import PIL
except ImportError:
    print("and nothing else is there")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (run.stdout.splitlines(), run.stderr) == (["ops work", "and nothing else is there"], "")


@pytest.mark.parametrize("name", ["UNet", "InputError", "ops", "loss", "metrics", "checkpoint", "weight_map", "style"])
def test_names_of_the_package_are_found_when_they_are_asked_for(name):
    import npunet

    assert name in npunet.__all__ and name in dir(npunet)
    assert getattr(npunet, name) is not None


def test_every_name_of_the_package_is_there():
    import npunet

    for name in npunet.__all__:
        getattr(npunet, name)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        npunet.no_such_name


# Sizes


def test_no_module_is_longer_than_300_lines():
    long = {name for name, path in modules().items() if len(path.read_text(encoding="utf-8").splitlines()) > 300}
    assert long == set()


def test_no_function_is_longer_than_50_lines():
    long = set()
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 50:
                long.add(f"{module}.{node.name}")
    assert long == set()


# Devices

DEVICE_QUESTION = re.compile(
    r"\b(on_gpu|is_cupy|is_device_array|device_of)\(|cuda\.usable\(|\bdevice\s*[=!]=|isinstance\([^)]*ndarray"
    r"|(\bxp|array_module\([^)]*\))\s+is\s+(not\s+)?(np|numpy)\b"
)
# Files and metrics ask whether they were given an array or a list; cli has the option --device.
MAY_ASK = "npunet.gpu", "npunet.machine", "npunet.files", "npunet.metrics", "npunet.commands.cli"


def test_the_mathematics_does_not_ask_for_the_device():
    asking = set()
    for module, path in modules().items():
        if (
            module != "npunet.ops"
            and not module.startswith(MAY_ASK)
            and DEVICE_QUESTION.search(path.read_text("utf-8"))
        ):
            asking.add(module)
    assert asking <= ASK_FOR_THE_OPTION, "only gpu/, machine/ and the switchboard ops/__init__.py ask for the device"


# The paper's words: each stands exactly once in npunet/, at the file that does it, with its section behind it.

SENTENCES = {
    "augmentation.py": [
        "shift and rotation invariance as well as robustness to deformations and gray value variations",
        "random displacement vectors on a coarse 3 by 3 grid",
        "sampled from a Gaussian distribution with 10 pixels standard deviation",
        "Per-pixel displacements are then computed using bicubic interpolation",
    ],
    "geometry.py": [
        "select the input tile size such that all 2x2 max-pooling operations are applied to a layer with an even x-",
    ],
    "initialization.py": [
        "each feature map in the network has approximately unit variance",
        "drawing the initial weights from a Gaussian distribution with a standard deviation of",
    ],
    "loss.py": [
        "a pixel-wise soft-max over the final feature map combined with the cross entropy loss function",
    ],
    "metrics/__init__.py": [
        "thresholding the map at 10 different levels",
    ],
    "ops/convolution.py": [
        "only uses the valid part of each convolution",
    ],
    "ops/crop_concat.py": [
        "a concatenation with the correspondingly cropped feature map from the contracting path",
        "The cropping is necessary due to the loss of border pixels in every convolution",
    ],
    "ops/max_pooling.py": [
        "a 2x2 max pooling operation with stride 2 for downsampling",
    ],
    "ops/up_convolution.py": [
        "an upsampling of the feature map followed by a 2x2 convolution",
        "halves the number of feature channels",
    ],
    "optimizers.py": [
        "we use a high momentum (0.99) such that a large number of the previously seen training samples determine",
    ],
    "tiling.py": [
        "allows the seamless segmentation of arbitrarily large images by an overlap-tile strategy",
        "the missing context is extrapolated by mirroring the input image",
        "averaged over 7 rotated versions of the input data",
    ],
    "training.py": [
        "we favor large input tiles over a large batch size and hence reduce the batch to a single image",
    ],
    "unet.py": [
        "two 3x3 convolutions (unpadded convolutions), each followed by a rectified linear unit (ReLU)",
        "At each downsampling step we double the number of feature channels",
        "a 1x1 convolution is used to map each 64-component feature vector to the desired number of classes",
        "In total the network has 23 convolutional layers",
        "Drop-out layers at the end of the contracting path perform further implicit data augmentation",
    ],
    "weight_map.py": [
        "the small separation borders that we introduce between touching cells",
        "We pre-compute the weight map for each ground truth segmentation",
        "The separation border is computed using morphological operations",
        "we set w0 = 10 and σ ≈ 5 pixels",
        "to compensate the different frequency of pixels from a certain class in the training data set",
    ],
}
SENTENCES = [(path, sentence) for path, sentences in SENTENCES.items() for sentence in sentences]


@functools.cache
def sources():
    """{"ops/relu.py": its text with lines joined, so that a sentence is found across them}."""
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.cu")]
    return {file.relative_to(PACKAGE).as_posix(): re.sub(r"[\s#*]+", " ", file.read_text("utf-8")) for file in files}


@pytest.mark.parametrize("path, sentence", SENTENCES)
def test_the_papers_words_stand_once_at_the_line_that_does_them(path, sentence):
    found = [
        (file, text[match.end() :])
        for file, text in sources().items()
        for match in re.finditer(re.escape(sentence), text)
    ]
    assert [where for where, _ in found] == [path]
    quotation_ends = re.match(r'[^"]*"[^"]{0,20}? \(§[1-4]', found[0][1])  # a formula may stand between
    assert quotation_ends, 'the section stands behind the quotation: "..." (§3)'


@pytest.mark.parametrize("path", sorted({path for path, _ in SENTENCES}))
def test_the_table_of_the_paper_leads_to_the_file(path):
    table = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| §")]
    assert any(f"npunet/{path})" in row for row in rows), f"docs/paper.md has a row that links to npunet/{path}"


def test_sections_of_the_paper_are_spelled_one_way():
    """A search for §2 finds everything about it."""
    other = re.compile(r"paper,? §|\b[Ss]ection [1-4]\b|\b[Ss]ec\. ?[1-4]\b|§ \d")
    assert [file for file, text in sources().items() if other.search(text)] == []


# Commands


def test_every_command_is_a_subcommand_of_npunet(capsys):
    from npunet import __main__ as door

    runnable = {
        path.parent.name if path.name == "__main__.py" else path.stem
        for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__main__.py")]
        if "if __name__ ==" in path.read_text(encoding="utf-8")
    } - {"npunet"}
    assert set(door.commands()) == runnable, 'the first line of a command is """python -m npunet.NAME: what it does."""'
    door.main(["--help"])
    shown = capsys.readouterr().out
    for name, purpose in door.commands().items():
        assert f"  {name} " in shown and purpose in shown and purpose.endswith("."), name


def test_a_subcommand_does_what_its_module_does():
    arguments = ["summary", "--base-channels", "2", "--depth", "1", "--tile", "44"]
    runs = [
        subprocess.run([sys.executable, "-m", *start], capture_output=True, text=True, cwd=ROOT)
        for start in (["npunet", *arguments], ["npunet.summary", *arguments[1:]], ["npunet", "nonsense"])
    ]
    assert runs[0].stdout == runs[1].stdout and "conv 3x3" in runs[0].stdout
    assert [run.returncode for run in runs] == [0, 0, 2]
    assert runs[2].stderr.startswith("error: 'nonsense' is not a command; expected one of ")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # other tests have imported it
@pytest.mark.parametrize("name", ["train", "summary", "inspect"])
@pytest.mark.parametrize(
    "start, usage", [("/usr/bin/npunet", "npunet "), ("npunet/__main__.py", "python -m npunet.")], ids=["npunet", "-m"]
)
def test_usage_names_the_command_as_it_was_started(name, start, usage, monkeypatch, capsys):
    from npunet import __main__ as door
    from npunet import commands

    monkeypatch.setattr(commands, "started_as", commands.started_as)
    monkeypatch.setattr(sys, "argv", [start, name, "--help"])
    with pytest.raises(SystemExit) as ended:
        door.main()
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: {usage}{name} ")


def test_every_file_of_the_package_is_packed():
    """Kernels and headers travel with the Python files (package-data in pyproject.toml)."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    packed = {path for pattern in patterns["npunet"] for path in PACKAGE.glob(pattern)}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.name for path in files - packed if path.suffix != ".py"} == set()
