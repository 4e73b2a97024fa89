"""Files of the repository that are pages of the site too, and links that lead out of ``docs/``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["copied", "pages", "relinked", "setup", "write"]

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def copied() -> dict[str, str]:
    """Return path in the repository -> name of its page."""
    found = {
        "CHANGELOG.md": "changelog",
        "CONTRIBUTING.md": "contributing",
        "benchmarks/README.md": "benchmark-commands",
        "examples/xlens_latentshift/README.md": "example-latentshift",
    }
    scripts = [*(_ROOT / "examples").glob("*.py"), *(_ROOT / "examples" / "integrations").glob("*.py")]
    return found | {path.relative_to(_ROOT).as_posix(): f"example-{path.stem}" for path in sorted(scripts)}


def relinked(text: str, folder: Path, home: Path) -> str:
    """Return a page's Markdown with its links as they have to be on the site.

    Args:
        text: of the page.
        folder: from which its links are meant.
        home: folder of the page on the site.

    Returns:
        links to files that are pages lead to these; a document that is no page is named, and no link.
    """
    pages = copied()

    def mended(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = Path(os.path.normpath(folder / target))
        if path.is_dir():
            path = path / "README.md"
        name = os.path.relpath(path, _ROOT)
        if name in pages:
            path = _ROOT / "docs" / "api" / f"{pages[name]}.md"
        elif path.is_relative_to(_ROOT / "docs"):
            return match[0] if folder == home else f"[{words}]({os.path.relpath(path, home)}{anchor})"
        elif path.suffix == ".md" or not path.exists():
            return match[0] if not path.exists() and path.suffix != ".md" else words
        return f"[{words}]({os.path.relpath(path, home)}{anchor})"

    return _LINK.sub(mended, text)


def pages() -> dict[str, str]:
    """Return name of each page that is a file of the repository -> its Markdown."""
    home = _ROOT / "docs" / "api"
    found = {}
    for path, name in copied().items():
        text = (_ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".md"):
            found[name] = relinked(text, (_ROOT / path).parent, home)
        else:
            shown = f"```{{literalinclude}} {os.path.relpath(_ROOT / path, home)}\n:language: python\n```"
            found[name] = f"# `{path}`\n\n{shown}\n"
        if name not in ("changelog", "contributing"):
            found[name] = f"---\norphan: true\n---\n{found[name]}"
    return found


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    home = (Path(app.srcdir) / name).parent
    content[0] = relinked(content[0], home, home)


def write(folder: Path, written: dict[str, str]) -> None:
    """Write pages into a folder; one that is as it was is left alone, so that it is not read again."""
    folder.mkdir(exist_ok=True)
    for name, text in written.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages that are files of the repository, and mend links before pages are read."""
    write(Path(app.srcdir) / "api", pages())
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
