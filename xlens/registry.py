"""Installed backends: listed without importing them, loaded one at a time."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path

import pluggy

from xlens import hookspecs
from xlens.contracts import CAPABILITIES, CONTRACT_VERSION, Backend
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError, XlensWarning, did_you_mean

__all__ = ["Entry", "backends", "entries", "load_backend", "offering", "standing_in"]

GROUP = "xlens"
_NAMELESS = "an unknown distribution"

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
        """First line of the docstring of the module that the entry point names, read without importing it."""
        if len(self.points) > 1:
            return f"conflict: claimed by {_claims(self)}"
        return _summary(self.points[0])


def entries() -> Mapping[str, Entry]:
    """Return every registered backend by name, without importing any of them.

    Warns:
        XlensWarning: the entry points of a distribution cannot be read.
    """
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in sorted(entry_points(), key=lambda point: point.name):
        # One distribution may be visible twice, as an editable install and in its source folder. Without a name
        # it is known by its place.
        who = _source(point)[0] if _read(point.dist, "name") else str(getattr(point.dist, "_path", id(point.dist)))
        found.setdefault(point.name, {}).setdefault((who, point.value), point)
    order = lambda point: (_distribution(point), point.value)  # noqa: E731
    return {name: Entry(name, tuple(sorted(points.values(), key=order))) for name, points in found.items()}


def entry_points() -> list[EntryPoint]:
    """Return the entry points of the group, distribution by distribution, so that a damaged one costs no other.

    Warns:
        XlensWarning: those of a distribution cannot be read.
    """
    found = []
    for distribution in distributions():
        try:
            found += [point for point in distribution.entry_points if point.group == GROUP]
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
        several = len(set(entry.distributions)) > 1
        raise BackendConflictError(
            f"fit: the backend name {name!r} is claimed {'by two distributions' if several else 'twice'}",
            given=_claims(entry),
            do="uninstall one of them" if several else f"repair or uninstall {entry.distributions[0]}",
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
    except KeyboardInterrupt:
        raise
    # Extension modules raise what is no Exception, and a plugin may try to end the program.
    except BaseException as fault:
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
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
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
    declared = getattr(backend, "capabilities", ())
    if not isinstance(declared, tuple) or not all(isinstance(capability, str) for capability in declared):
        raise PluginError(
            f"plugin {name!r} of {source} declares its capabilities wrongly",
            given=repr(declared),
            allowed="a tuple of strings, such as ('sample',)",
        )
    unknown = set(declared) - set(CAPABILITIES)
    if unknown:
        raise PluginError(
            f"plugin {name!r} of {source} declares unknown capabilities",
            given=", ".join(sorted(unknown)),
            allowed=", ".join(CAPABILITIES),
        )
    return backend


def _source(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return _NAMELESS, ""
    # Metadata that were damaged have neither.
    return _read(point.dist, "name") or _NAMELESS, _read(point.dist, "version")


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
