"""Dead links of the built site, and what it would fetch from elsewhere: ``python docs/building/links.py site``."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["faults"]


class _Page(HTMLParser):
    """Where a page links to, what it loads, and which anchors it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        given = dict(attrs)
        if name := given.get("id") or (given.get("name") if tag == "a" else None):
            self.anchors.add(name)
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        elif tag == "link" and given.get("rel") != "canonical" and given.get("href"):
            self.loaded.append(str(given["href"]))
        elif tag in ("img", "script", "iframe", "source") and given.get("src"):
            self.loaded.append(str(given["src"]))


def faults(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing that is loaded from elsewhere."""
    pages: dict[Path, _Page] = {}
    site = site.resolve()
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    said = []
    for path, page in pages.items():
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme in ("data", "mailto", "blob"):
                continue
            if parts.scheme or parts.netloc:
                if target in page.loaded:
                    said.append(f"{path.relative_to(site)}: loads {target}")
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            there = pages.get(aim)
            if not aim.exists():
                said.append(f"{path.relative_to(site)}: {target} is not there")
            elif parts.fragment and there and unquote(parts.fragment) not in there.anchors:
                said.append(f"{path.relative_to(site)}: {target} has no such place")
    return sorted(set(said))


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print("\n".join(wrong) or "No dead link, and nothing that is fetched.")
    sys.exit(bool(wrong))
