"""Hyper-parameters with their constraint and their help beside them."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from typing import Any, TypeVar

from typing_extensions import dataclass_transform

from xlens.contracts.numbers import plain
from xlens.errors import OptionError, did_you_mean, warn
from xlens.files.plain import is_text

__all__ = ["Constraint", "fits", "make", "options", "param", "to_dict"]

T = TypeVar("T")


@dataclass(frozen=True)
class Constraint:
    """What values an option may take."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    choices: tuple[Any, ...] | None = None

    def describe(self, noun: str) -> str:
        """Return the constraint in words, e.g. ``an int >= 1``; the noun says which type.

        >>> from xlens.contracts.options import Constraint
        >>> Constraint(ge=1).describe("an int")
        'an int >= 1'
        """
        if self.choices is not None:
            return "one of " + ", ".join(map(repr, self.choices))
        bounds = [
            f"{sign} {bound}"
            for sign, bound in ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
            if bound is not None
        ]
        return " ".join([noun, " and ".join(bounds)]).strip()

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type satisfies the bounds and choices; of a tuple, each of its values."""
        if self.choices is not None and value not in self.choices:
            return False
        if isinstance(value, tuple):
            return all(replace(self, choices=None).allows(part) for part in value)
        if value is None or isinstance(value, str):
            return True
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
    formerly: str | None = None,
    values_formerly: Mapping[str, str] | None = None,
) -> Any:
    """Declare one option: its default, a line of help, and what it may be.

    Args:
        default: the default; options are immutable, so a tuple and never a list.
        help: one line for a person.
        ge, gt, le, lt: inclusive and exclusive bounds; of a tuple, for each of its values.
        choices: the only values allowed.
        formerly: its name in an earlier version, which goes on working for one minor version and warns.
        values_formerly: value under the earlier name -> what it is called now, where values were renamed too.

    >>> from xlens.contracts.options import options, param
    >>> @options
    ... class Options:
    ...     rate: float = param(1e-3, gt=0, help="learning rate", formerly="lr")
    >>> Options(rate=0.1).rate
    0.1
    """
    constraint = Constraint(ge, gt, le, lt, tuple(choices) if choices is not None else None)
    facts = {"constraint": constraint, "help": help, "formerly": formerly}
    return dataclasses.field(default=default, metadata={**facts, "values_formerly": dict(values_formerly or {})})


# Without field_specifiers: `param` takes its default by position, and type checkers look for a keyword. To them it
# is then a default like any other.
@dataclass_transform(frozen_default=True, kw_only_default=True)
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass that checks its values on construction.

    >>> from xlens.contracts.options import options, param
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
    checked: Any = dataclass(frozen=True, kw_only=True)(cls)
    missing = [f.name for f in dataclasses.fields(checked) if f.default is MISSING]
    if missing:
        raise TypeError(f"{cls.__name__}: every option needs a default; {missing} have none")
    names = {f.name for f in dataclasses.fields(checked)}
    if taken := sorted(names & _renamed(checked).keys()):
        raise TypeError(f"{cls.__name__}: {taken} are options, and earlier names of others")
    generated_init = checked.__init__

    def __init__(self: Any, *args: Any, **values: Any) -> None:
        values, faults = _current(checked, {name: plain(value) for name, value in values.items()})
        faults += _faults(checked, values)
        if args:
            faults.insert(0, f"options are given by keyword, got {len(args)} positional")
        _raise(checked, faults)
        generated_init(self, **values)

    __init__.__doc__ = generated_init.__doc__
    checked.__init__ = __init__
    checked.__init__.__wrapped__ = generated_init  # inspect.signature shows the options
    if not hasattr(checked, "__getattr__"):
        checked.__getattr__ = _under_an_earlier_name
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
    given = {k: plain(tuple(v) if isinstance(v, list) else v) for k, v in values.items()}
    cleaned, both = _current(cls, given)
    _raise(cls, [*both, *_faults(cls, cleaned, extra), *faults])
    return cls(**cleaned)


def to_dict(instance: Any) -> dict[str, Any]:
    """Return the options of `instance` as plain JSON values."""
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _renamed(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    """Return the options that had another name, by that name."""
    return {f.metadata["formerly"]: f for f in dataclasses.fields(cls) if f.metadata.get("formerly")}


def _current(cls: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return values under today's names, and what is wrong: an option that is given under both."""
    renamed = _renamed(cls)
    current = {name: value for name, value in values.items() if name not in renamed}
    faults = []
    for old in (name for name in values if name in renamed):
        field = renamed[old]
        if field.name in current:
            faults.append(f"{old} is the earlier name of {field.name}, and both are given")
            continue
        _say_renamed(cls, old, field.name)
        known = field.metadata["values_formerly"]
        value = values[old]
        current[field.name] = known.get(value, value) if isinstance(value, str) else value
    return current, faults


def _under_an_earlier_name(instance: Any, name: str) -> Any:
    """Return an option by the name that it had."""
    field = _renamed(type(instance)).get(name)
    if field is None:
        raise AttributeError(f"{type(instance).__name__!r} object has no attribute {name!r}")
    _say_renamed(type(instance), name, field.name)
    return getattr(instance, field.name)


def _say_renamed(cls: type, old: str, new: str) -> None:
    warn(f"{cls.__name__}: the option {old} is now {new}; the old name goes in xlens 0.3", DeprecationWarning)


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
        alternatives = _alternatives(hints[name])
        optional = type(None) in alternatives
        if value is None and optional:
            continue
        if not fits(value, hints[name]) or not constraint.allows(value):
            nouns = dict.fromkeys(_noun(kind) for kind in alternatives if kind is not type(None))
            wording = constraint.describe(" or ".join(nouns)) + (" or None" if optional else "")
            faults.append(f"{name} must be {wording}, got {value!r}")
    return faults


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, its parts included; numbers have to be finite.

    >>> from typing import Literal
    >>> from xlens.contracts.options import fits
    >>> fits((1, 2), tuple[int, ...]), fits((1, "x"), tuple[int, ...]), fits("c", Literal["a", "b"])
    (True, False, False)
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        # True equals 1, and is not what was meant by it.
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(parts) == 2 and parts[1] is Ellipsis:
            return all(fits(part, parts[0]) for part in value)
        return len(value) == len(parts) and all(map(fits, value, parts))
    kind = origin or (type(None) if hint is None else hint)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, str) and not is_text(value):
        # Saved with the lens, it could not be read again.
        return False
    if kind is float:
        return isinstance(value, int | float) and _finite(value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, Mapping) and len(parts) == 2:
        pairs = list(value.items())
        return isinstance(value, kind) and all(fits(key, parts[0]) and fits(item, parts[1]) for key, item in pairs)
    return isinstance(value, kind)


def _finite(value: float) -> bool:
    """Whether a number is finite, also as a float: whole numbers may be larger than any."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return tuple(kind for part in typing.get_args(hint) for kind in _alternatives(part)) if union else (hint,)


def _noun(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return f"a tuple, each value {_noun(parts[0])}"
        return f"a tuple of {', '.join(map(_noun, parts))}" if parts else "an empty tuple"
    nouns = {int: "an int", float: "a number", bool: "True or False", str: "a string", tuple: "a tuple"}
    return nouns.get(hint, "a value")
