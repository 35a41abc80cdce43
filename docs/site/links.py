"""Checks the built site: python docs/site/links.py build/site. Every link, picture, script and anchor leads somewhere.

It also sees that nothing on a page is fetched from another server: links may lead out, pictures and scripts may not.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
IN_PAGE = ("lite/",)  # JupyterLite makes its own pages when it runs


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, text: str):
        super().__init__()
        self.references: list[tuple[str, str, str]] = []
        self.anchors: set[str] = set()
        self.without_alt: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        for name in ("href", "src"):
            if found.get(name):
                self.references.append((tag, name, found[name]))
        if tag == "img" and not found.get("alt"):
            self.without_alt.append(found.get("src", "")[:80])


def problems(site: Path) -> list[str]:
    """One line for each link that leads nowhere, fetch from elsewhere, and picture without a text."""
    files = [path for path in site.rglob("*.html") if not str(path.relative_to(site)).startswith(IN_PAGE)]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        here = path.relative_to(site)
        found += [f"{here}: a picture without alternative text: {src}" for src in page.without_alt]
        for tag, name, target in page.references:
            parts = urlsplit(target)
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                if (tag, name) in FETCHED:
                    found.append(f"{here}: fetches {target}")
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            if not goal.exists():
                found.append(f"{here}: {target} leads nowhere")
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in pages[goal].anchors:
                found.append(f"{here}: {target} names an anchor that is not there")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]).resolve())
    print("\n".join(wrong[:60]))
    print(f"{len(wrong)} links or pictures are wrong" if wrong else "all links, pictures and scripts are there")
    sys.exit(bool(wrong))
