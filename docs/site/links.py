"""Checks the built site: python docs/site/links.py build/site. Every link, picture, script and anchor leads somewhere.

It also sees that nothing on a page is fetched from another server (links may lead out, pictures and scripts may not),
and that the site and its home page are not too large.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}
IN_PAGE = ("lite/",)  # JupyterLite makes its own pages when it runs
SITE_MB, HOME_MB = 40, 1


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


def sizes(site: Path) -> dict[str, float]:
    """Megabytes of the whole site, and of the home page with all that it fetches before anything is run."""
    home = site / "index.html"
    fetched = {home}
    for tag, name, target in Page(home.read_text(encoding="utf-8")).references:
        loaded = tag != "link" or target.partition("?")[0].endswith((".css", ".svg"))  # not the next page, the index ..
        if (tag, name) in FETCHED and loaded and not urlsplit(target).scheme:
            fetched.add((site / unquote(urlsplit(target).path)).resolve())
    files = [path for path in site.rglob("*") if path.is_file()]
    return {
        "site": sum(path.stat().st_size for path in files) / 1e6,
        "home page": sum(path.stat().st_size for path in fetched if path.is_file()) / 1e6,
    }


def too_large(site: Path) -> list[str]:
    """One line for the site, and for the home page, if it is larger than it may be."""
    found, allowed = sizes(site), {"site": SITE_MB, "home page": HOME_MB}
    return [f"{name}: {found[name]:.1f} MB, at most {most}" for name, most in allowed.items() if found[name] > most]


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve()
    wrong = problems(site) + too_large(site)
    print("\n".join(wrong[:60]))
    print(f"{len(wrong)} things are wrong" if wrong else "all links, pictures and scripts are there")
    print(", ".join(f"{name} {size:.2f} MB" for name, size in sizes(site).items()))
    sys.exit(bool(wrong))
