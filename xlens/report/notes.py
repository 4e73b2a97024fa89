"""What a person wrote on a report, read back from the file."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from xlens.errors import StorageError

__all__ = ["read_notes"]

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)


def read_notes(path: str | Path) -> dict[str, str]:
    """Notes of a report that was saved with them: name of each input with a note -> what was written.

    Inputs of one name are told apart by a number: ``leaf.png``, ``leaf.png (2)``.

    Args:
        path: the HTML file that the page's own button saved.

    Raises:
        StorageError: it cannot be read, or is no report.

    >>> import tempfile
    >>> from xlens.report import read_notes, save_html
    >>> file = tempfile.mkdtemp() + "/why.html"
    >>> save_html(explainer.explain(images[:2]), file)
    >>> read_notes(file)
    {}
    """
    try:
        found = _DATA.search(Path(path).read_text(encoding="utf-8"))
        items = json.loads(found.group(1))["items"] if found else None
        notes = None if items is None else _named(items)
    except (OSError, UnicodeError, ValueError, LookupError, TypeError, AttributeError) as fault:
        raise StorageError("read_notes: cannot be read", given=fault, allowed="a report of xlens") from None
    if notes is None:
        raise StorageError("read_notes: this is no report", given=path, allowed="a page that save_html wrote")
    return notes


def _named(items: list[dict[str, Any]]) -> dict[str, str]:
    """Return the notes by names of which each is there once."""
    seen: Counter[str] = Counter()
    notes = {}
    for one in items:
        name = str(one["name"])
        seen[name] += 1
        if one.get("note"):
            notes[name if seen[name] == 1 else f"{name} ({seen[name]})"] = str(one["note"])
    return notes
