"""What plugins add beside backends, by kind and name: listed without importing, loaded one at a time, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import TypeVar, cast

from xlens.contracts.additions import ADDITIONS, Addition
from xlens.contracts.backend import CONTRACT_VERSION
from xlens.errors import BackendConflictError, BackendNotFoundError, PluginError, did_you_mean
from xlens.registry.installed import GROUP, entries
from xlens.registry.loading import found_by_hook

__all__ = ["adding", "additions", "checked", "kind_of", "load_addition"]

A = TypeVar("A", bound=Addition)

#: Classes that stand in for installed ones, by kind and name; see :func:`adding`.
_standing_in: dict[tuple[str, str], type[Addition]] = {}


def additions(kind: str) -> tuple[str, ...]:
    """Return the names of what is added of one kind, without importing any of it.

    Args:
        kind: a key of ``xlens.contracts.ADDITIONS``, such as ``"attribution"``.

    >>> from xlens.registry.added import additions
    >>> "no_such_metric" in additions("metric")
    False
    """
    standing = {name for of, name in _standing_in if of == kind}
    return tuple(sorted(standing | set(entries(f"{GROUP}.{kind}"))))


def load_addition(base: Callable[..., A], name: str) -> type[A]:
    """Import the plugin of that name and return what it adds.

    Args:
        base: the kind, such as ``xlens.contracts.AttributionMethod``.
        name: of the entry point.

    Raises:
        BackendNotFoundError: no installed distribution brings it.
        BackendConflictError: it is claimed twice.
        PluginError: the plugin cannot be imported or breaks the contract.
    """
    # A type checker takes no abstract class for a type[A].
    base = cast(type[A], base)
    kind = kind_of(base)
    found: object = _standing_in.get((kind, name))
    if found is None:
        known = entries(f"{GROUP}.{kind}")
        if name not in known:
            raise BackendNotFoundError(
                f"no {_said(kind)} {name!r} is installed.{did_you_mean(name, known)}",
                allowed=", ".join(known) or "none is installed",
                do="check the spelling, or install the distribution that brings it",
            )
        entry = known[name]
        if len(entry.points) > 1:
            raise BackendConflictError(
                f"the {_said(kind)} {name!r} is claimed twice",
                given=" and ".join(entry.distributions),
                do="uninstall or repair one of them",
            )
        several = found_by_hook(entry, f"xlens_{kind}", f"type[{base.__name__}]")
        found = several[0] if len(several) == 1 else f"{len(several)} implementations of the hook"
    return checked(base, name, found)


@contextmanager
def adding(*classes: type[Addition]) -> Iterator[None]:
    """Within this context classes are found by their names as if installed, for the tests of their author.

    >>> import torch, xlens
    >>> from xlens.contracts import AttributionMethod
    >>> from xlens.registry import adding
    >>> @xlens.options
    ... class Change(AttributionMethod):
    ...     name = "change"
    ...     def attribute(self, asked):
    ...         return asked.inputs - asked.counterfactuals
    >>> with adding(Change):
    ...     explanation = explainer.explain(images[:2], attributions=("change",))
    >>> bool((explanation.attributions["change"] == -explanation.edit).all())
    True
    """
    previous = dict(_standing_in)
    for one in classes:
        kind = next(
            (kind for kind, base in ADDITIONS.items() if isinstance(one, type) and issubclass(one, base)), ""
        )
        _standing_in[kind, getattr(one, "name", "")] = one
    try:
        yield
    finally:
        _standing_in.clear()
        _standing_in.update(previous)


def kind_of(base: type[Addition]) -> str:
    """Return the kind that a class is of, or a subclass of it."""
    return next(kind for kind, one in ADDITIONS.items() if issubclass(base, one))


def checked(base: type[A], name: str, found: object) -> type[A]:
    """Return what a plugin brings, if it is what its kind asks for.

    Raises:
        PluginError: it breaks the contract.
    """
    who = f"plugin {name!r}"
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PluginError(
            f"{who} brings no {_said(kind_of(base))}",
            given=repr(found),
            allowed=f"one subclass of xlens.contracts.{base.__name__}",
            do=f"return the class from its @xlens.hookimpl xlens_{kind_of(base)}()",
        )
    if getattr(found, "name", None) != name:
        raise PluginError(
            f"{who} brings something of another name",
            given=repr(getattr(found, "name", None)),
            allowed=repr(name),
            do="make the entry-point name and the class's name equal",
        )
    if found.contract != CONTRACT_VERSION:
        raise PluginError(
            f"{who} is written for another version of xlens's contract",
            given=f"contract {found.contract!r}",
            allowed=f"contract {CONTRACT_VERSION}",
            do="install a version that fits",
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise PluginError(f"{who} brings an abstract class", given=f"{found.__name__} without {missing}")
    if not is_dataclass(found):
        raise PluginError(
            f"{who} brings a class without options",
            given=found.__name__,
            allowed="a class decorated with @xlens.options, also where it has none",
        )
    return found


def _said(kind: str) -> str:
    return {"metric": "metric of maps", "path": "path between codes", "report_part": "part of the report"}.get(
        kind, kind
    )
