"""npunet COMMAND ...: every command under one name; the same as python -m npunet.COMMAND ..."""

import ast
import runpy
import sys
from pathlib import Path

import npunet
from npunet import commands as commands_of_npunet

USAGE = "usage: npunet COMMAND ...    (npunet COMMAND --help for its options; the same as python -m npunet.COMMAND ...)"


def commands() -> dict[str, str]:
    """{name: what it does}, from the first lines of the files: a command's begin with "python -m npunet.NAME"."""
    here, found = Path(__file__).parent, {}
    for path in sorted([*here.glob("*.py"), *here.glob("*/__main__.py")]):
        name = path.parent.name if path.name == "__main__.py" else path.stem
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        opening, _, purpose = " ".join(text.partition("\n\n")[0].split()).partition(": ")
        if opening.startswith(f"python -m npunet.{name}"):
            found[name] = purpose
    return dict(sorted(found.items()))


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Leaves the process as the command does: 0, 2 after bad input, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        width = max(map(len, commands()))
        print(USAGE, *(f"  {name:{width}}  {purpose}" for name, purpose in commands().items()), sep="\n")
    elif name == "--version":
        print(npunet.__version__)
    elif name in commands():
        started, sys.argv = sys.argv[0], [f"npunet {name}", *rest]
        if Path(started).stem == "npunet":  # the installed command; else python -m npunet
            commands_of_npunet.started_as = "npunet "
        runpy.run_module(f"npunet.{name}", run_name="__main__", alter_sys=True)
    else:
        print(f"error: {name!r} is not a command; expected one of {', '.join(commands())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
