"""Names of earlier versions: they go on working for one minor version, and say what to write instead."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = ["METHODS", "forwarded", "forwarded_module", "renamed", "renamed_fields"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Method of an explainer -> the dotted name that does it now: of a function that takes the explainer first, or of a
#: method behind an attribute of the explainer.
METHODS = {
    "as_quantus": "xlens.integrations.quantus:as_quantus",
    "divergence_attributions": "xlens.evaluation:divergence_attributions",
    "grid": "xlens.deprecated:grid",
    "leakage": "xlens.evaluation:leakage",
    "plot_invariances": "xlens.plot:invariances",
    "plot_traversal": "xlens.plot:traversal",
    "query": ".teaching.query",
    "refit_mask": ".teaching.refit_mask",
    "report": "xlens.report:save_report",
    "steps": "xlens.evaluation:flip_distance",
    "teach": ".teaching.teach",
}


def say(old: str, new: str, stacklevel: int) -> None:
    """Warn that a name has moved."""
    warnings.warn(
        f"{old} is now {new}; the old name goes in xlens 0.3", DeprecationWarning, stacklevel=stacklevel + 1
    )


def forwarded(explainer: Any, name: str) -> Any:
    """Return what an earlier method of an explainer is now.

    Raises:
        AttributeError: there never was one of that name.
    """
    if name not in METHODS:
        raise AttributeError(f"{type(explainer).__name__!r} object has no attribute {name!r}")
    home = METHODS[name]
    if home.startswith("."):
        say(f"explainer.{name}", f"explainer{home}", 3)
        return functools.reduce(getattr, home.strip(".").split("."), explainer)
    module, function = home.split(":")
    new = "explainer.traverse with two features" if name == "grid" else f"{module}.{function}(explainer, ...)"
    say(f"explainer.{name}", new, 3)
    return functools.partial(getattr(importlib.import_module(module), function), explainer)


def grid(explainer: Any, inputs: Any, features: Any, steps: Any, **options: Any) -> Any:
    """Cross two features, as ``explainer.grid`` did."""
    return explainer.traverse(inputs, tuple(features), steps, **options)


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Function decorator: keyword arguments of earlier names, each with a DeprecationWarning.

    >>> @renamed(steps="values")
    ... def total(values):
    ...     return sum(values)
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     total(steps=[1, 2]), seen[0].category.__name__
    (3, 'DeprecationWarning')
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old in kwargs and new not in kwargs:
                    say(f"{function.__name__}({old}=...)", f"{function.__name__}({new}=...)", 2)
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def renamed_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: fields of earlier names, in the constructor and as attributes, with a DeprecationWarning.

    >>> from dataclasses import dataclass
    >>> @renamed_fields(steps="values")
    ... @dataclass
    ... class Path:
    ...     values: list
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     Path(steps=[1, 2]).steps, [str(one.message).partition(" is")[0] for one in seen]
    ([1, 2], ['Path(steps=...)', 'Path.steps'])
    """

    def decorate(cls: type[T]) -> type[T]:
        generated: Callable[..., None] = cls.__init__

        @functools.wraps(generated)
        def init(self: T, *args: Any, **kwargs: Any) -> None:
            for old, new in names.items():
                if old in kwargs and new not in kwargs:
                    say(f"{cls.__name__}({old}=...)", f"{cls.__name__}({new}=...)", 2)
                    kwargs[new] = kwargs.pop(old)
            generated(self, *args, **kwargs)

        cls.__init__ = init  # type: ignore[assignment]
        for old, new in names.items():
            setattr(cls, old, property(_field(cls, old, new)))
        return cls

    return decorate


def _field(cls: type, old: str, new: str) -> Callable[[Any], Any]:
    def read(self: Any) -> Any:
        say(f"{cls.__name__}.{old}", f"{cls.__name__}.{new}", 2)
        return getattr(self, new)

    return read


def forwarded_module(
    old: str, new: str, only: tuple[str, ...] | None = None, elsewhere: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose names have moved.

    Args:
        old, new: dotted names of modules.
        only: the names that have moved; None for all.
        elsewhere: name -> module of those that have moved to another one; ``module:name`` where they are called
            otherwise.
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or (only is not None and name not in only):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        home, _, given = (elsewhere or {}).get(name, new).partition(":")
        now = given or name
        found: Any = importlib.import_module(home)
        for part in now.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        say(f"{old}.{name}", f"{home}.{now}", 2)
        return found

    return __getattr__
