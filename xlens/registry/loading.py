"""Loading one backend, checked against the contract."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass

import pluggy

from xlens import hookspecs
from xlens.contracts import CAPABILITIES
from xlens.contracts.backend import CONTRACT_VERSION, Backend
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError, did_you_mean
from xlens.registry.installed import GROUP, Entry, _claims, entries

__all__ = ["found_by_hook", "load_backend", "offering", "standing_in"]

#: Classes that stand in for an installed plugin, by name; see :func:`standing_in`.
_standing_in: dict[str, type[Backend]] = {}


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
    >>> from xlens.registry.loading import load_backend, standing_in
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
    (source,) = entry.distributions
    return _checked(entry.name, source, found_by_hook(entry, "xlens_backend", "type[Backend]"))


def found_by_hook(entry: Entry, hook: str, returns: str) -> list[object]:
    """Import the module of an entry point, and return what its implementations of one hook return.

    Raises:
        PluginError: it cannot be imported, or does not implement the hook as specified.
    """
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
        found: list[object] = getattr(manager.hook, hook)()
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        raise PluginError(
            f"plugin {entry.name!r} of {source} does not implement the hook as specified",
            given=f"{type(fault).__name__}: {fault}",
            allowed=f"{hook}() -> {returns}, marked with @xlens.hookimpl",
            do=f"repair or uninstall {source}",
        ) from fault
    return found


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
