"""JSON from files that anybody may have written: of bounded depth, in text that can be printed."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["is_text", "parse", "said"]

#: Levels of nesting; what xlens writes has seven.
_DEEPEST = 64


def parse(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is no JSON, is nested deeper than anything that xlens writes, or holds half characters, which
            no terminal and no file takes.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    layer = [found]
    for _ in range(_DEEPEST):
        layer = [part for value in layer for part in _parts(value)]
        if not layer:
            return found
    raise ValueError(f"nested deeper than {_DEEPEST} levels")


def is_text(value: str) -> bool:
    r"""Whether this is whole characters, which a file takes; a byte that is no UTF-8 becomes half of one.

    >>> is_text("ü"), is_text("a\udcff")
    (True, False)
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def said(fault: BaseException) -> str:
    """Return the first line of what a fault says, or its name where it says nothing."""
    return next(iter(str(fault).splitlines()), "") or type(fault).__name__


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
