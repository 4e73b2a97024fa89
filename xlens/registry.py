"""Installed backends: listed without importing them, loaded one at a time."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pluggy

from xlens import hookspecs
from xlens.contracts import CAPABILITIES, CONTRACT_VERSION, Backend
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError, did_you_mean

__all__ = ["Entry", "backends", "entries", "load_backend", "offering", "standing_in"]

GROUP = "xlens"

#: Classes that stand in for an installed plugin, by name; see :func:`standing_in`.
_standing_in: dict[str, type[Backend]] = {}


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
        """First line of the plugin module's docstring, read without importing it."""
        if len(self.points) > 1:
            return f"conflict: claimed by {' and '.join(self.distributions)}"
        return _summary(self.points[0])


def entries() -> Mapping[str, Entry]:
    """Return every registered backend by name, without importing any of them."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        # One distribution may be visible twice, as an editable install and in its source folder.
        found.setdefault(point.name, {})[_source(point)[0]] = point
    return {name: Entry(name, tuple(sorted(p.values(), key=_distribution))) for name, p in found.items()}


def backends() -> dict[str, str]:
    """Return the installed backends as ``{name: summary}`` without importing any of them.

    >>> import xlens
    >>> "medxgan" in xlens.backends()
    True
    """
    return {name: entry.summary for name, entry in entries().items()}


def load_backend(name: str) -> type[Backend]:
    """Import the plugin of that name and return its backend class.

    Raises:
        BackendNotFoundError: no installed distribution brings it.
        BackendConflictError: two distributions claim the name.
        PluginError: the plugin cannot be imported or breaks the contract.
    """
    if name in _standing_in:
        return _standing_in[name]
    known = entries()
    if name not in known:
        raise BackendNotFoundError(
            f"fit: no backend {name!r} is installed.{did_you_mean(name, known)}",
            allowed=", ".join(known) or "none is installed",
            do="check the spelling, or install the distribution that brings it",
        )
    entry = known[name]
    if len(entry.points) > 1:
        raise BackendConflictError(
            f"fit: the backend name {name!r} is claimed by two distributions",
            given=" and ".join(entry.distributions),
            do="uninstall one of them",
        )
    return _load(entry)


@contextmanager
def standing_in(backend: type[Backend]) -> Iterator[None]:
    """Within this context a class is found by its name as if it were installed, for the tests of its author.

    >>> import xlens
    >>> from xlens.registry import load_backend, standing_in
    >>> class Mine(xlens.Backend):
    ...     name = "mine"
    >>> with standing_in(Mine):
    ...     load_backend("mine").__name__
    'Mine'
    """
    previous = dict(_standing_in)
    _standing_in[backend.name] = backend
    try:
        yield
    finally:
        _standing_in.clear()
        _standing_in.update(previous)


def offering(capability: str) -> tuple[str, ...]:
    """Return the names of the installed backends whose lenses have a capability.

    Args:
        capability: a key of ``xlens.contracts.CAPABILITIES``, such as ``"sample"``.
    """
    names = []
    for name, entry in entries().items():
        if len(entry.points) > 1:
            continue
        try:
            backend = _load(entry)
        except PluginError:
            continue  # A broken plugin breaks only itself; loading it by name says why.
        if capability in getattr(backend, "capabilities", ()):
            names.append(name)
    return tuple(names)


def _load(entry: Entry) -> type[Backend]:
    (point,), (source,) = entry.points, entry.distributions
    try:
        plugin = point.load()
    except (Exception, SystemExit) as fault:
        raise PluginError(
            f"plugin {entry.name!r} of {source} cannot be imported",
            given=f"{type(fault).__name__}: {fault}",
            do=f"repair or uninstall {source}; the other backends are not affected",
        ) from fault
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=entry.name)
        manager.check_pending()
        found = manager.hook.xlens_backend()
    except Exception as fault:
        raise PluginError(
            f"plugin {entry.name!r} of {source} does not implement the hook as specified",
            given=f"{type(fault).__name__}: {fault}",
            allowed="xlens_backend() -> type[Backend], marked with @xlens.hookimpl",
            do=f"repair or uninstall {source}",
        ) from fault
    return _checked(entry.name, source, found)


def _checked(name: str, source: str, found: list[object]) -> type[Backend]:
    if len(found) != 1 or not (isinstance(found[0], type) and issubclass(found[0], Backend)):
        raise PluginError(
            f"plugin {name!r} of {source} brings no backend",
            given=repr(found[0]) if len(found) == 1 else f"{len(found)} implementations of the hook",
            allowed="one subclass of xlens.Backend",
            do="name a module in the entry point, and return the class from its @xlens.hookimpl xlens_backend()",
        )
    backend = found[0]
    if getattr(backend, "name", None) != name:
        raise PluginError(
            f"plugin {name!r} of {source} brings a backend of another name",
            given=repr(getattr(backend, "name", None)),
            allowed=repr(name),
            do="make the entry-point name and Backend.name equal",
        )
    # Before anything else of the contract: an older plugin breaks today's in ways that would only mislead.
    version = getattr(backend, "contract", None)
    if version != CONTRACT_VERSION:
        older = isinstance(version, int) and version < CONTRACT_VERSION
        raise PluginError(
            f"plugin {name!r} of {source} is written for another version of xlens's contract",
            given=f"contract {version!r}",
            allowed=f"contract {CONTRACT_VERSION}",
            do=f"upgrade {source if older else 'xlens'}, or install a version of the other that fits",
        )
    if inspect.isabstract(backend):
        raise PluginError(
            f"plugin {name!r} of {source} brings an abstract backend",
            given=f"{backend.__name__} without {', '.join(sorted(backend.__abstractmethods__))}",
            do="implement every method of xlens.Backend",
        )
    if not is_dataclass(backend):
        raise PluginError(
            f"plugin {name!r} of {source} brings a backend without options",
            given=backend.__name__,
            allowed="a class decorated with @xlens.options, also where it has none",
        )
    unknown = set(getattr(backend, "capabilities", ())) - set(CAPABILITIES)
    if unknown:
        raise PluginError(
            f"plugin {name!r} of {source} declares unknown capabilities",
            given=", ".join(sorted(unknown)),
            allowed=", ".join(CAPABILITIES),
        )
    return backend


def _source(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "an unknown distribution", ""
    # Metadata that were damaged have neither.
    return point.dist.name or "an unknown distribution", point.dist.version or ""


def _distribution(point: EntryPoint) -> str:
    return " ".join(part for part in _source(point) if part)


def _summary(point: EntryPoint) -> str:
    # A submodule's spec would import its parent package, so only the top package is looked at.
    try:
        spec = importlib.util.find_spec(point.value.partition(":")[0].partition(".")[0].strip())
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return f"{_distribution(point)} (no summary)"
    try:
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    except (OSError, SyntaxError, UnicodeDecodeError):
        docstring = None
    return docstring.splitlines()[0] if docstring else f"{_distribution(point)} (no summary)"
