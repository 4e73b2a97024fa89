"""Installed backends, listed without importing any of them."""

from __future__ import annotations

import ast
import functools
import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path

from xlens.errors import XlensWarning

__all__ = ["GROUP", "Entry", "backends", "entries", "entry_points"]

GROUP = "xlens"


_NAMELESS = "an unknown distribution"


@dataclass(frozen=True)
class Entry:
    """One registered backend name.

    Args:
        name: the backend's name.
        points: the entry points that claim it; more than one is a conflict.
    """

    name: str
    points: tuple[EntryPoint, ...]

    @property
    def distributions(self) -> tuple[str, ...]:
        """The distributions that bring it, with their versions."""
        return tuple(_distribution(point) for point in self.points)

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """The distributions that bring it, each as its name and its version."""
        return tuple(_source(point) for point in self.points)

    @property
    def summary(self) -> str:
        """First line of the docstring of the module that the entry point names, read without importing it."""
        if len(self.points) > 1:
            return f"conflict: claimed by {_claims(self)}"
        return _summary(self.points[0])


def entries(group: str = GROUP) -> Mapping[str, Entry]:
    """Return every registered backend by name, without importing any of them.

    Args:
        group: of the entry points; that of another kind of thing lists that.

    Warns:
        XlensWarning: the entry points of a distribution cannot be read.
    """
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    points = (point for point in entry_points() if point.group == group)
    for point in sorted(points, key=lambda point: point.name):
        # One distribution may be visible twice, as an editable install and in its source folder. Without a name
        # it is known by its place.
        who = _source(point)[0] if _read(point.dist, "name") else str(getattr(point.dist, "_path", id(point.dist)))
        found.setdefault(point.name, {}).setdefault((who, point.value), point)
    order = lambda point: (_distribution(point), point.value)  # noqa: E731
    return {name: Entry(name, tuple(sorted(points.values(), key=order))) for name, points in found.items()}


def entry_points() -> list[EntryPoint]:
    """Return the entry points of xlens's groups, distribution by distribution: a damaged one costs no other.

    Warns:
        XlensWarning: those of a distribution cannot be read.
    """
    found = []
    for distribution in distributions():
        try:
            found += [point for point in distribution.entry_points if point.group.split(".")[0] == GROUP]
        except Exception as fault:  # noqa: BLE001 - whatever reading damaged files raises
            name = _read(distribution, "name") or getattr(distribution, "_path", _NAMELESS)
            warnings.warn(
                f"xlens: the entry points of {name} cannot be read ({type(fault).__name__}); if it brings a "
                f"backend, that is not listed. What to do: install it again",
                XlensWarning,
                stacklevel=2,
            )
    return found


def backends() -> dict[str, str]:
    """Installed backends as ``{name: summary}``; none of them is imported.

    >>> import xlens
    >>> "medxgan" in xlens.backends()
    True
    """
    return {name: entry.summary for name, entry in entries().items()}


def _source(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return _NAMELESS, ""
    # Metadata that were damaged have neither.
    return _read(point.dist, "name") or _NAMELESS, _read(point.dist, "version")


# A distribution's metadata are parsed anew each time, and its entry points ask for them again and again. The object
# is made anew whenever entry points are looked for, so that what is installed meanwhile is seen.
@functools.lru_cache(maxsize=64)
def _read(distribution: Distribution | None, what: str) -> str:
    try:
        return getattr(distribution, what, None) or ""
    except Exception:  # noqa: BLE001 - whatever reading damaged metadata raises
        return ""


def _claims(entry: Entry) -> str:
    """Return who claims the name, with the module where the name of the distribution is not enough."""
    named = entry.distributions
    twice = len(set(named)) < len(named)
    return " and ".join(
        f"{name} ({point.value})" if twice else name for name, point in zip(named, entry.points, strict=True)
    )


def _distribution(point: EntryPoint) -> str:
    return " ".join(part for part in _source(point) if part)


def _summary(point: EntryPoint) -> str:
    try:
        file = _file_of(point.value.partition(":")[0].strip())
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file else None
    except (ImportError, OSError, SyntaxError, ValueError):
        docstring = None
    return docstring.splitlines()[0] if docstring else f"{_distribution(point)} (no summary)"


def _file_of(module: str) -> Path | None:
    """Return the source of a module. A submodule's own spec would import its parent, so its file is looked for."""
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not below:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *below)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None
