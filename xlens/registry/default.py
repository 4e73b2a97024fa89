"""The backend that the installation names for whoever names none."""

from __future__ import annotations

from importlib.metadata import entry_points

from xlens.registry.installed import entries

__all__ = ["DEFAULT_GROUP", "registered_default"]

#: The group of entry points in which a distribution names its module, under ``default``.
DEFAULT_GROUP = "xlens.demo"


def registered_default() -> str | None:
    """Return the name of that backend, or None where no installed distribution names one.

    >>> from xlens.registry.default import registered_default
    >>> registered_default()
    'medxgan'
    """
    modules = [point.value for point in entry_points(group=DEFAULT_GROUP) if point.name == "default"]
    return next((n for n, entry in entries().items() if any(p.value in modules for p in entry.points)), None)
