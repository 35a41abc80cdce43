"""Sphinx's configuration of the site; docs/site/build.py puts the pages together and calls Sphinx."""

import re

project = "npunet"
author = "the founders of npunet"
html_title = "npunet"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
mathjax_path = "mathjax/tex-svg.js"  # one file without fonts; build.py copies it out of sphinx-mathjax-offline
html_theme = "furo"
html_static_path = ["_static"]
html_favicon = "_static/u.svg"
html_css_files = ["npunet.css"]
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = False
templates_path = ["_templates"]
LISTING = [
    "sidebar/brand.html",
    "sidebar/search.html",
    "sidebar/scroll-start.html",
    "main_pages.html",
    "sidebar/scroll-end.html",
]
html_sidebars = {"_modules/**": LISTING, "tests/**": LISTING}
html_context = {
    "main_pages": [
        ("lessons/index", "Lessons"),
        ("paper", "The paper, sentence by sentence"),
        ("readme", "README"),
        ("api/index", "Modules"),
        ("benchmarks/index", "Benchmarks"),
        ("docs/index", "Guides"),
    ]
}
html_show_sphinx = False
html_show_copyright = False

viewcode_follow_imported_members = False
nb_execution_mode = "off"  # the notebooks hold what they printed; tests/test_lessons.py runs them
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type", "myst.xref_missing"]
default_role = "code"
highlight_language = "none"  # an indented block of a docstring is a formula or a table

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": False}

BULLET = re.compile(r"\s*([-*]|\d+\.) ")


CODE = re.compile(r"``[^`]+``|`([^`]+)`(\w?)")


def literal_text(match: re.Match) -> str:
    """`name` as reStructuredText has it; a letter may follow, as the plural s after a name."""
    if match.group(1) is None:
        return match.group(0)
    return f"``{match.group(1)}``" + (f"\\ {match.group(2)}" if match.group(2) else "")


def readable(lines: list[str]) -> list[str]:
    """A docstring of npunet as reStructuredText: an indented block is a table or a formula, so it keeps its columns."""
    out, literal, block = [], False, False
    for line in lines:
        indented = line.startswith("  ") and not BULLET.match(line)
        if indented and not literal and (not out or not BULLET.match(out[-1])):
            out += ["", "::", ""]
            literal = True
        elif literal and line.strip() and not indented:
            out.append("")
            literal = False
        if not literal:
            if re.search(r"\S {3,}\S", line):  # columns without an indent: one line of a table
                line = "| " + line.replace("*", r"\*").replace("|", r"\|")
                line = re.sub(r" {3,}", " — ", line)
                out += [""] if not block and out and out[-1] else []
                block = True
            else:
                out += [""] if block and line.strip() else []
                block = False
                line = re.sub(r"(?<!\*)\*(?![*\s])", r"\*", line)
                line = re.sub(r"(\w)_(?=[\s,.;:)]|$)", r"\1\\_", line)
                line = line.replace("|", r"\|")
                line = CODE.sub(literal_text, line)
        out.append("  " + line if literal else line)
    return out


def as_rst(app, what, name, thing, options, lines):
    lines[:] = readable(lines)


def setup(app):
    app.connect("autodoc-process-docstring", as_rst)
