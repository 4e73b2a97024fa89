"""What a person wrote on a report, read back from the file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from xlens.errors import StorageError

__all__ = ["read_notes"]

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.S)


def read_notes(path: str | Path) -> dict[str, str]:
    """Notes of a report that was saved with them: name of each input with a note -> what was written.

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
        notes = None if items is None else {str(one["name"]): str(one["note"]) for one in items if one.get("note")}
    except (OSError, UnicodeError, ValueError, LookupError, TypeError, AttributeError) as fault:
        raise StorageError("read_notes: cannot be read", given=fault, allowed="a report of xlens") from None
    if notes is None:
        raise StorageError("read_notes: this is no report", given=path, allowed="a page that save_html wrote")
    return notes
