"""Hyper-parameters with their constraint and their help beside them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from typing_extensions import dataclass_transform

from xlens.errors import OptionError, did_you_mean

__all__ = ["Constraint", "make", "options", "param", "to_dict"]

T = TypeVar("T")


@dataclass(frozen=True)
class Constraint:
    """What values an option may take."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] | None = None

    def describe(self, kind: type | None) -> str:
        """Return the constraint in words, e.g. ``an int >= 1``."""
        if self.choices is not None:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound}"
            for sign, bound in ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
            if bound is not None
        ]
        noun = {int: "an int", float: "a number", bool: "True or False", str: "a string"}.get(kind, "a value")
        return " ".join([noun, " and ".join(bounds)]).strip()

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type satisfies the bounds and choices."""
        if self.choices is not None and value not in self.choices:
            return False
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


def param(
    default: Any,
    *,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Declare one option: its default, a line of help, and what it may be.

    Args:
        default: the default; options are immutable, so a tuple and never a list.
        help: one line for a person.
        ge, gt, le, lt: inclusive and exclusive bounds.
        choices: the only values allowed.

    >>> from xlens.params import options, param
    >>> @options
    ... class Options:
    ...     rate: float = param(1e-3, gt=0, help="learning rate")
    >>> Options(rate=0.1).rate
    0.1
    """
    constraint = Constraint(ge, gt, le, lt, tuple(choices) if choices is not None else None)
    return dataclasses.field(default=default, metadata={"constraint": constraint, "help": help})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(param,))
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass that checks its values on construction.

    >>> from xlens.params import options, param
    >>> @options
    ... class Ridge:
    ...     rank: int = param(16, ge=1, help="number of components")
    >>> Ridge(rank=0)
    Traceback (most recent call last):
    ...
    xlens.errors.OptionError: Ridge: 1 option is wrong: rank must be an int >= 1, got 0.
    >>> Ridge(rnk=3)
    Traceback (most recent call last):
    ...
    xlens.errors.OptionError: Ridge: 1 option is wrong: unknown option 'rnk'. Did you mean 'rank'?...
    """
    checked = dataclass(frozen=True, kw_only=True)(cls)
    missing = [f.name for f in dataclasses.fields(checked) if f.default is MISSING]
    if missing:
        raise TypeError(f"{cls.__name__}: every option needs a default; {missing} have none")
    generated_init = checked.__init__

    def __init__(self: Any, *args: Any, **values: Any) -> None:
        faults = _faults(checked, values)
        if args:
            faults.insert(0, f"options are given by keyword, got {len(args)} positional")
        _raise(checked, faults)
        generated_init(self, **values)

    __init__.__doc__ = generated_init.__doc__
    __init__.__wrapped__ = generated_init  # inspect.signature shows the options
    checked.__init__ = __init__
    return checked


def make(cls: type[T], values: Mapping[str, Any], *, extra: Sequence[str] = (), faults: Sequence[str] = ()) -> T:
    """Build `cls` from a mapping, naming every fault in one error.

    Args:
        cls: a class decorated with :func:`options`.
        values: option names and values; lists stand for tuples, as JSON has no tuples.
        extra: other names that the caller's own arguments take, for spelling suggestions.
        faults: what the caller has found wrong already, to be named in the same error.

    Raises:
        OptionError: an unknown name or a value outside its constraint.
    """
    cleaned = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    _raise(cls, [*_faults(cls, cleaned, extra), *faults])
    return cls(**cleaned)


def to_dict(instance: Any) -> dict[str, Any]:
    """Return the options of `instance` as plain JSON values."""
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _raise(cls: type, faults: list[str]) -> None:
    if faults:
        noun = "1 option is" if len(faults) == 1 else f"{len(faults)} options are"
        raise OptionError(f"{cls.__name__}: {noun} wrong: {'; '.join(faults)}")


def _faults(cls: type, values: Mapping[str, Any], extra: Sequence[str] = ()) -> list[str]:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    faults = []
    for name, value in values.items():
        if name not in fields:
            hint = did_you_mean(name, [*fields, *extra])
            listing = ", ".join(fields) or "no options"
            faults.append(f"unknown option {name!r}.{hint} It takes: {listing}")
            continue
        constraint = fields[name].metadata.get("constraint", Constraint())
        kinds = _kinds(hints[name])
        if value is None and type(None) in kinds:
            continue
        if not _is_a(value, kinds) or not constraint.allows(value):
            kind = next((k for k in kinds if k is not type(None)), None)
            wording = constraint.describe(kind) + (" or None" if type(None) in kinds else "")
            faults.append(f"{name} must be {wording}, got {value!r}")
    return faults


def _kinds(hint: Any) -> tuple[type, ...]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _kinds(part))
    if origin is typing.Literal:
        return tuple({type(choice) for choice in typing.get_args(hint)})
    return (origin or hint,)


def _is_a(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and float in kinds:
        return True
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kinds)
