"""Parts of the report that third parties bring, asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlens.contracts.additions import ReportPart
from xlens.errors import OptionError, PluginError, did_you_mean
from xlens.explanation import Explanation
from xlens.registry.added import additions, load_addition

__all__ = ["Said", "added_parts"]


@dataclass(frozen=True)
class Said:
    """A part of the page: its heading, and what it says of each input, by the input's name."""

    title: str
    said: tuple[tuple[str, tuple[str, ...]], ...]


def added_parts(explanation: Explanation, names: Sequence[str] | None, parts: Sequence[str]) -> list[Said]:
    """Return what third parties' parts say of each input.

    Args:
        explanation: N inputs.
        names: of the inputs, or None.
        parts: names of the parts.

    Raises:
        OptionError: there is no such part.
        PluginError: it says something else than lines of text.
    """
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise OptionError("save_html: parts must be a sequence of names", given=repr(parts))
    known = additions("report_part") if parts else ()
    if wrong := [name for name in parts if name not in known]:
        raise OptionError(
            f"save_html: there is no part {wrong[0]!r}.{did_you_mean(str(wrong[0]), known)}",
            allowed=", ".join(known) or "none is installed",
        )
    called = names or [f"input {i}" for i in range(len(explanation))]
    return [_said(load_addition(ReportPart, name)(), explanation, called) for name in parts]


def _said(part: ReportPart, explanation: Explanation, names: Sequence[str]) -> Said:
    said = []
    for name, one in zip(names, explanation, strict=True):
        lines = part.lines(one)
        if isinstance(lines, str) or not all(isinstance(line, str) for line in lines):
            raise PluginError(
                f"part {part.name!r} of the report does not return lines of text", given=repr(lines)[:80]
            )
        said.append((name, tuple(lines)))
    return Said(part.title, tuple(said))
