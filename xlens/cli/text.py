"""Text for terminals."""

from __future__ import annotations

__all__ = ["visible", "visible_lines"]


def visible(text: str) -> str:
    """Return text that does nothing to a terminal: what cannot be printed is written as an escape.

    >>> print(visible("a\\x1b[2Jb"))
    a\\x1b[2Jb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """Return several lines, each as :func:`visible` makes it."""
    return "\n".join(visible(line) for line in text.split("\n"))
