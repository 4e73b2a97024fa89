"""Faults that axe finds on the built pages, and pages that are wider than the screen.

    python docs/building/accessible.py site --widths 1280 390 --schemes light dark

From files, in a headless Chromium; it takes a second or two a view, and is no part of ``make docs``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["faults", "pages_of"]


def faults(
    site: Path,
    pages: Iterable[Path],
    browser: str,
    widths: Sequence[int] = (1280, 390),
    schemes: Sequence[str] = ("light",),
) -> dict[tuple[str, int, str], list[str]]:
    """Return what is wrong with each page that has a fault: (page, width, scheme) -> a line for each.

    Args:
        site: the built site.
        pages: files in it.
        browser: where Chromium is.
        widths: of the window, in CSS pixels.
        schemes: ``"light"``, ``"dark"``, or both.
    """
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    found: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width in widths:
            for scheme in schemes:
                window = running.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                for path in pages:
                    window.goto(path.resolve().as_uri())
                    key = (path.resolve().relative_to(site.resolve()).as_posix(), width, scheme)
                    for fault in Axe().run(window).response["violations"]:
                        nodes = fault["nodes"]
                        where = nodes[0]["html"][:160]
                        found[key].append(f"{fault['id']} ({fault['impact']}, {len(nodes)} places): {where}")
                    if (wide := window.evaluate("document.documentElement.scrollWidth")) > width:
                        found[key].append(f"wider-than-the-screen (serious, 1 places): {wide} pixels")
                window.close()
        running.close()
    return dict(found)


def main() -> int:
    """Print every fault, and how many pages have which."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="folder of the built site")
    parser.add_argument("--widths", type=int, nargs="+", default=[1280, 390], help="of the window, in CSS pixels")
    parser.add_argument("--schemes", nargs="+", default=["light"], choices=["light", "dark"])
    parser.add_argument("--only", nargs="+", help="pages by name, such as index.html; all without it")
    chosen = parser.parse_args()
    # Beside this file, which is run as a script.
    from words import chromium

    if (browser := chromium()) is None:
        print("Nothing was looked at: no Chromium is installed")
        return 0
    pages = [chosen.site / name for name in chosen.only or ()] or pages_of(chosen.site)
    found = faults(chosen.site, pages, browser, chosen.widths, chosen.schemes)
    for (page, width, scheme), lines in found.items():
        for line in lines:
            print(f"{page} at {width}, {scheme}: {line}")
    asked = len(pages) * len(chosen.widths) * len(chosen.schemes)
    rules = Counter(rule for lines in found.values() for rule in {line.split(" ")[0] for line in lines})
    print(f"{len(pages)} pages, {asked} views: {len(found)} with faults. {dict(rules)}")
    return bool(found)


def pages_of(site: Path) -> list[Path]:
    """Return the pages that the site's theme made, without what a tutorial saved."""
    return [path for path in sorted(site.rglob("*.html")) if 'class="sidebar-drawer"' in path.read_text("utf-8")]


if __name__ == "__main__":
    sys.exit(main())
