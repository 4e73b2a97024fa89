"""Faults that axe finds on the built pages, and pages that are wider than the screen.

    python docs/building/accessible.py site --widths 1280 390 --schemes light dark

From files, in a headless Chromium; it takes a second or two a view, and is no part of ``make docs``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["pages_of", "views"]


def views(
    site: Path, pages: Sequence[Path], browser: str, widths: Sequence[int], schemes: Sequence[str]
) -> Iterator[tuple[str, int, str, list[str]]]:
    """Return what is wrong with each page, as it is found: (page, width, scheme, lines).

    Args:
        site: the built site.
        pages: files in it.
        browser: where Chromium is.
        widths: of the window, in CSS pixels.
        schemes: ``"light"``, ``"dark"``, or both.
    """
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width, scheme in itertools.product(widths, schemes):
            window = running.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            for path in pages:
                window.goto(path.resolve().as_uri())
                lines = []
                for fault in Axe().run(window).response["violations"]:
                    nodes = fault["nodes"]
                    lines.append(
                        f"{fault['id']} ({fault['impact']}, {len(nodes)} places): {nodes[0]['html'][:160]}"
                    )
                if (wide := window.evaluate("document.documentElement.scrollWidth")) > width:
                    lines.append(f"wider-than-the-screen: {wide} pixels")
                yield path.resolve().relative_to(site.resolve()).as_posix(), width, scheme, lines
            window.close()
        running.close()


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
    rules: Counter[str] = Counter()
    seen = faulty = 0
    for page, width, scheme, lines in views(chosen.site, pages, browser, chosen.widths, chosen.schemes):
        seen, faulty = seen + 1, faulty + bool(lines)
        rules.update(line.split(" ")[0] for line in lines)
        for line in lines:
            print(f"{page} at {width}, {scheme}: {line}", flush=True)
    print(f"{len(pages)} pages, {seen} views, {faulty} with faults: {dict(rules) or 'none'}")
    return bool(faulty)


def pages_of(site: Path) -> list[Path]:
    """Return the pages that the site's theme made, without what a tutorial saved."""
    return [path for path in sorted(site.rglob("*.html")) if 'class="sidebar-drawer"' in path.read_text("utf-8")]


if __name__ == "__main__":
    sys.exit(main())
