"""The reader's files: how they are made, kept through an update, and loaded without anything borrowed.

They are a package `my_unet`, in lessons/my_unet/, which git does not see. `start` copies the forms there that are not
there yet; no line that the reader has written is ever changed. What a form was like when it was copied is kept in
my_unet/.forms, so that a newer form can be shown as a difference.

`load` reads the package with two guards. Its imports are looked at before anything runs: NumPy and a few modules of the
standard library are allowed, npunet, SciPy and PyTorch are not, because the function would be theirs then. And while
it runs, its `import` knows the same list, and `open`, `eval` and `exec` are missing.
"""

import ast
import builtins
import difflib
import importlib.abc
import importlib.util
import sys
from pathlib import Path

from lessons.compare import Wrong, report

FORMS = Path(__file__).parent / "forms"
ALLOWED = {"numpy", "math", "itertools", "functools", "collections", "typing", "dataclasses", "time", "pdb", "my_unet"}
MISSING = {"eval", "exec", "compile", "open", "__import__", "input", "globals", "vars"}
FOREIGN = ("npunet", "scipy", "torch", "cupy", "skimage", "tensorflow", "jax", "cv2", "numba", "lessons")


def start(folder):
    """Makes what is missing in `folder`; returns lines that say what was done."""
    kept, said = folder / ".forms", []
    kept.mkdir(parents=True, exist_ok=True)
    for form in sorted(FORMS.glob("*.py")):
        mine, old, new = folder / form.name, kept / form.name, form.read_text(encoding="utf-8")
        if not mine.exists():
            mine.write_text(new, encoding="utf-8")
            said.append(f"made {form.name}")
        elif not old.exists() or old.read_text(encoding="utf-8") != new:
            said += updated(mine, old.read_text(encoding="utf-8") if old.exists() else "", new)
        old.write_text(new, encoding="utf-8")
    return said


def updated(mine, old, new):
    """A form is newer than the one that the reader began with."""
    text = mine.read_text(encoding="utf-8")
    if text == old:
        mine.write_text(new, encoding="utf-8")
        return [f"{mine.name} had nothing of yours in it; it is the newer form now"]
    said = [f"the form of {mine.name} has changed; yours stays as it is. What changed in the form:"]
    if old:
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "the form before", "the form now", lineterm="")
        said += [f"    {line}" for line in lines]
    stubs = [stub for name, stub in functions(new).items() if name not in functions(text)]
    if stubs:
        mine.write_text(text.rstrip("\n") + "\n" + "".join(f"\n\n{stub}\n" for stub in stubs), encoding="utf-8")
        said.append(f"added at the end of {mine.name}: {len(stubs)} new function(s) to write")
    return said


def functions(text):
    """{name: source} of the functions of a file; {} if it cannot be read."""
    try:
        nodes = ast.parse(text).body
    except SyntaxError:
        return {}
    return {node.name: ast.get_source_segment(text, node) for node in nodes if isinstance(node, ast.FunctionDef)}


class Package(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds my_unet and its files in `sources`: {file name without .py: text}."""

    def __init__(self, sources, folder):
        self.sources, self.folder = sources, folder

    def find_spec(self, name, path=None, target=None):
        package, _, file = name.partition(".")
        if package != "my_unet" or (file and file not in self.sources):
            return None
        return importlib.util.spec_from_loader(name, self, is_package=not file)

    def exec_module(self, module):
        file = module.__name__.partition(".")[2]
        if not file:
            return
        path = f"{self.folder}/{file}.py"
        text = self.sources[file]
        tree = parsed(text, path)
        refuse_borrowed(tree, path)
        module.__file__ = path
        module.__builtins__ = guarded_builtins()
        exec(compile(tree, path, "exec"), module.__dict__)


def load(folder, sources=None):
    """get(file, function) -> the reader's function; raises Wrong if the file cannot be read or borrows something.

    sources: {file: text} in place of the folder's files, for tests.
    """
    if sources is None:
        sources = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.py"))}
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_unet"]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Package)]
    sys.meta_path.insert(0, Package(sources, folder))

    def get(file, function):
        if file not in sources:
            raise NotImplementedError(f"{file}.py is missing")
        try:
            module = importlib.import_module(f"my_unet.{file}")
        except (Wrong, NotImplementedError):
            raise
        except Exception as error:
            first = f"{file}.py cannot be read: {type(error).__name__}: {error}"
            raise Wrong(report([first], "the file itself stops with an error, before any function is called")) from None
        if not callable(getattr(module, function, None)):
            raise Wrong(report([f"{file}.py has no function {function}"], "is its name misspelt, or its def removed?"))
        return getattr(module, function)

    return get


def parsed(text, path):
    try:
        return ast.parse(text, path)
    except SyntaxError as error:
        first = f"{Path(path).name}, line {error.lineno}: {error.msg}"
        lines = [first, f"  there        {(error.text or '').strip()}"]
        raise Wrong(report(lines, "Python cannot read the file: brackets, colons, indentation?")) from None


def refuse_borrowed(tree, path):
    """Raises Wrong for an import that is not allowed, or for a way around it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if not node.level else ["my_unet" if node.level == 1 else "another folder"]
        elif isinstance(node, ast.Name) and node.id in MISSING | {"__builtins__", "__loader__", "__spec__"}:
            names = [node.id]
        elif isinstance(node, ast.Attribute) and (node.attr in ("modules", "ctypeslib") or dunder(node.attr)):
            names = [node.attr]
        else:
            continue
        for name in names:
            if name.partition(".")[0] not in ALLOWED:
                raise borrowed(name, f"{Path(path).name}, line {node.lineno}")


def dunder(name):
    return name.startswith("__") and name not in ("__len__", "__init__", "__name__", "__doc__", "__getitem__")


def borrowed(name, where):
    package = name.partition(".")[0]
    if package in FOREIGN:
        why = (
            f"here {package} is not to be had: the function is to be yours, so that at the end the network is. "
            "NumPy alone is enough for it, and the other files of my_unet; the formula stands in the docstring"
        )
    else:
        why = f"my_unet gets along with {', '.join(sorted(ALLOWED - {'my_unet', 'pdb'}))} and its own files"
    return Wrong(report([f"{where} uses {name}"], why))


def guarded_builtins():
    """The builtins of the reader's files: without what reads other files, with an `import` that knows the list."""
    found = {name: value for name, value in vars(builtins).items() if name not in MISSING}

    def guarded_import(name, variables=None, local=None, fromlist=(), level=0):
        if not level and name.partition(".")[0] not in ALLOWED:
            raise borrowed(name, "an import while it runs")
        return builtins.__import__(name, variables, local, fromlist, level)

    return found | {"__import__": guarded_import}


def shut_out():
    """In this process nobody can import the packages from which a function could be borrowed."""
    for name in FOREIGN:
        if name != "lessons":
            for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
                del sys.modules[loaded]
            sys.modules[name] = None
