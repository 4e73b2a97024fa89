"""What an audit writes: files where the user said, in folders that are there."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlens.errors import OptionError, StorageError
from xlens.files.writing import write_whole

__all__ = ["as_path", "checked_name", "csv_of", "is_path", "write_text"]

#: Characters of a name that a person gives a group: it is a column of tables, and stands on a card.
_LONGEST = 80


def as_path(path: Any, who: str) -> Path:
    """Return what a user passed as a file or folder.

    Raises:
        OptionError: it is no path.
    """
    if not is_path(path):
        raise OptionError(
            f"{who}: that is no path",
            given=repr(path),
            allowed="a str or a pathlib.Path",
            do="name a file or folder; '.' is the folder that the program runs in",
        )
    return Path(path)


def is_path(path: Any) -> bool:
    """Whether it names a file or folder; nothing at all would be the folder that the program runs in.

    >>> from xlens.auditing.writing import is_path
    >>> is_path("audit"), is_path(""), is_path(b"audit")
    (True, False, False)
    """
    if not isinstance(path, str | os.PathLike):
        return False
    name = os.fspath(path)
    return isinstance(name, str) and name != ""


def write_text(path: Any, text: str, who: str) -> None:
    """Write a file into a folder that exists: a mistyped one is not made.

    Raises:
        OptionError: it is no path.
        StorageError: there is no such folder, or the file cannot be written.
    """
    file = as_path(path, who)
    if not file.parent.is_dir():
        raise StorageError(f"{who}: no such folder", given=file.parent, do="make it first, or name another")
    try:
        write_whole(file, text.encode())
    except (OSError, UnicodeError, ValueError) as fault:
        raise StorageError(f"{who}: cannot write", given=fault, do="choose a file that can be written") from None


def csv_of(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return comma-separated values, with their header where there are no rows, too.

    >>> from xlens.auditing.writing import csv_of
    >>> csv_of([], ["group", "name"])
    'group,name\\r\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def checked_name(name: Any, taken: Sequence[str]) -> str:
    """Return a name that a person gives a group, without blanks around it.

    Args:
        name: as given.
        taken: what other groups are called.

    Raises:
        OptionError: no text, nothing but blanks, more than a line or than fits a card, or another group's.

    >>> from xlens.auditing.writing import checked_name
    >>> checked_name(" sticker ", ["group 1"])
    'sticker'
    """
    allowed = f"a line of 1 to {_LONGEST} characters that no other group is called by"
    if not isinstance(name, str):
        raise OptionError(
            "Audit.name: a name is text", given=f"{type(name).__name__} {name!r}"[:_LONGEST], allowed=allowed
        )
    bare = name.strip()
    shown = repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "…")
    if not bare or len(bare) > _LONGEST or not bare.isprintable():
        what = "too long" if len(bare) > _LONGEST else "more than a line of text"
        raise OptionError(f"Audit.name: {what if bare else 'nothing but blanks'}", given=shown, allowed=allowed)
    if bare in taken:
        raise OptionError("Audit.name: another group is called so", given=shown, do="choose another")
    return bare
