"""Where a fault can be planted in the text of a Python file, which of them are drawn, and where one stands after edits.

A mutant changes one place of the text: a comparison, `and`/`or`, a `not`, an operator, a number, True/False, a
condition, a `return`, or a call whose result nobody uses. Texts that a person reads and annotations are left alone.
"""

import ast
import random
import re

LEFT_OUT = "gpu/", "experiments/report_pictures.py", "style/pictures.py"  # need a GPU, or draw for eyes alone
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is", "in": "not in",
    "not in": "in", "+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*", "&": "|", "|": "&",
    ">>": "<<", "<<": ">>", "and": "or", "or": "and", "@": "*",
}  # fmt: skip


class Places(ast.NodeVisitor):
    """Collects (line, start, end, new text) of each mutant of one source file; start and end count its bytes."""

    def __init__(self, source):
        self.source, self.found = source, []
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line.encode()))
        self.bytes = source.encode()
        self.visit(ast.parse(source))

    def span(self, node):
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node):
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def add(self, node, span, new):
        self.found.append((node.lineno, *span, new))

    def between(self, node, left, right):
        """The operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.bytes[start:end].decode()
        operator = re.sub(r"\s+", " ", gap.strip("() \n\\"))
        if operator in SWAPS:
            self.add(left, (start, end), gap.replace(gap.strip("() \n\\"), SWAPS[operator]))

    def visit_JoinedStr(self, node):
        pass  # Python 3.11 does not know where the parts of an f-string stand

    def visit_arg(self, node):
        pass  # an annotation

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_FunctionDef(self, node):
        for part in [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body]:
            self.visit(part)

    def visit_If(self, node):
        if "__name__" not in self.text(node.test):
            self.add(node, self.span(node.test), f"not ({self.text(node.test)})")
            self.generic_visit(node)

    def visit_IfExp(self, node):
        self.add(node.test, self.span(node.test), f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_Compare(self, node):
        for left, right in zip([node.left, *node.comparators], node.comparators):
            self.between(node, left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        for left, right in zip(node.values, node.values[1:]):
            self.between(node, left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if not any(isinstance(side, (ast.JoinedStr, ast.Constant)) and "'" in repr(getattr(side, "value", "'"))
                   for side in (node.left, node.right)):  # fmt: skip
            self.between(node, node.left, node.right)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        start, end = self.span(node.target)[1], self.span(node.value)[0]
        sign = self.bytes[start:end].decode().strip("() \n")[:-1]
        if sign in SWAPS:
            self.add(node, (start, end), f" {SWAPS[sign]}= ")
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, (ast.Not, ast.USub)):
            self.add(node, self.span(node), f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add(node, self.span(node), str(not node.value))
        elif isinstance(node.value, (int, float)):
            self.add(node, self.span(node), str(node.value + 1))

    def visit_Return(self, node):
        if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.add(node, self.span(node.value), "None")
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.add(node, self.span(node), "pass")
        self.generic_visit(node)


def chosen_files(tree, only=()):
    """The modules that faults are planted in, as "ops/relu.py": all, or those that `only` names by file or folder."""
    names = sorted(path.relative_to(tree / "npunet").as_posix() for path in (tree / "npunet").rglob("*.py"))
    wanted = tuple(only) or ("",)
    return [name for name in names if name.startswith(wanted) and not name.startswith(LEFT_OUT)]


def drawn(tree, count, seed, only=()):
    """`count` mutants (file, line, start, end, new text), all places alike, and how many places there are.

    A larger count begins with the same mutants.
    """
    places = []
    for name in chosen_files(tree, only):
        places += [(name, *place) for place in Places((tree / "npunet" / name).read_text("utf-8")).found]
    random.Random(seed).shuffle(places)
    return places[:count], len(places)


def around(source, start, end):
    """The whole lines around a place, and where it begins in them: how `found_again` knows it when lines have moved."""
    first, after = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    return source[first : after if after >= 0 else len(source)].decode(), start - first


def found_again(tree, row):
    """The mutant of a row of an earlier run, in the tree of today; None where its lines of text are gone."""
    path = tree / "npunet" / row["file"]
    source, text = path.read_bytes() if path.exists() else b"", row["text"].encode()
    starts = [place.start() for place in re.finditer(b"^" + re.escape(text) + b"$", source, re.MULTILINE)]
    if not starts:
        return None
    line = {start: source.count(b"\n", 0, start) + 1 for start in starts}
    start = min(starts, key=lambda start: abs(line[start] - row["line"])) + row["column"]
    return row["file"], source.count(b"\n", 0, start) + 1, start, start + len(row["old"].encode()), row["new"]
