"""Checks of a backend as a configuration: nothing is fitted here."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import typing
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import CONTRACT_VERSION, Backend, Spec
from xlens.contracts.lens import EditingLens, Lens
from xlens.contracts.options import Constraint, fits, make, to_dict
from xlens.errors import OptionError, XlensError
from xlens.registry.installed import entries
from xlens.testing.bench import Bench, quiet
from xlens.testing.checking import check, require

#: Shapes that a backend either takes or refuses: a vector, tiny, odd, many channels, larger.
_SHAPES = ((20,), (1, 4, 4), (5, 9, 7), (1, 28, 28), (3, 16, 24))


@check()
def name_is_the_entry_point(bench: Bench) -> None:
    """The name is usable as an entry point, and where the backend is installed, it is that."""
    cls = type(bench.backend)
    name = getattr(cls, "name", None)
    require(
        isinstance(name, str) and name.isidentifier() and name == name.lower(),
        f"{cls.__name__}: name is not usable",
        given=repr(name),
        allowed="a lower-case identifier, such as 'pca'",
        do="set name on the class; users write it in xlens.fit(..., backend=name)",
    )
    package = cls.__module__.partition(".")[0]
    points = [p for entry in entries().values() for p in entry.points if p.value.split(":")[0] == cls.__module__]
    own = points or [p for e in entries().values() for p in e.points if _top(p.value) == package]
    # Tests and notebooks define backends that no distribution brings; there is nothing to compare them with.
    require(
        not own or any(point.name == name for point in own),
        f"{cls.__name__}: no entry point has the backend's name",
        given=f"name {name!r}, entry points {', '.join(point.name for point in own)}",
        do=f'write {name} = "{cls.__module__}" under [project.entry-points.xlens] and install again',
    )


@check()
def written_for_this_contract(bench: Bench) -> None:
    """The version of the contract is the installed one."""
    given = bench.backend.contract
    require(
        given == CONTRACT_VERSION,
        f"{bench.backend.name}: written for another version of the contract",
        given=f"contract = {given}",
        allowed=f"{CONTRACT_VERSION}, which xlens has",
        do="see what changed in docs/authors/contract.md, mend the backend, then set contract",
    )


@check()
def options_are_frozen(bench: Bench) -> None:
    """The backend is a frozen dataclass: what it was fitted with cannot change afterwards."""
    backend = bench.backend
    require(
        dataclasses.is_dataclass(backend),
        f"{backend.name}: the backend is no dataclass",
        given=type(backend).__name__,
        do="decorate the class with @xlens.options",
    )
    for name in [field.name for field in dataclasses.fields(backend)] or ["anything"]:
        value = getattr(backend, name, None)
        try:
            setattr(backend, name, value)
        except (dataclasses.FrozenInstanceError, AttributeError):
            continue
        require(
            False,
            f"{backend.name}: {name} can be set after construction",
            do="decorate the class with @xlens.options, and define no __setattr__",
        )


@check()
def options_have_defaults(bench: Bench) -> None:
    """The backend can be made without arguments, as ``xlens.fit(model, data, "name")`` does."""
    cls = type(bench.backend)
    try:
        cls()
    except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
        require(
            False,
            f"{bench.backend.name}: {cls.__name__}() raises",
            given=f"{type(fault).__name__}: {fault}",
            do="give every option a default that works, and refuse in fit or build what cannot be done",
        )


@check()
def options_have_help(bench: Bench) -> None:
    """Each option says in a line what it is."""
    for option in dataclasses.fields(bench.backend):
        text = option.metadata.get("help", "")
        require(
            isinstance(text, str) and len(text.strip()) > 0 and "\n" not in text,
            f"{bench.backend.name}: the option {option.name} has no line of help",
            given=repr(text),
            do=f"{option.name}: ... = xlens.param(..., help='what it does')",
        )


@check()
def options_have_names_of_their_own(bench: Bench) -> None:
    """No option is called like an argument of ``xlens.fit``, where it could not be given."""
    taken = inspect.signature(fit).parameters
    shadowed = [option.name for option in dataclasses.fields(bench.backend) if option.name in taken]
    require(
        not shadowed,
        f"{bench.backend.name}: options are called like arguments of xlens.fit",
        given=", ".join(shadowed),
        do="rename them: xlens.fit(model, data, backend, model=...) means its own model",
    )


@check()
def options_survive_json(bench: Bench) -> None:
    """Written as JSON and read again, the options are the same: this is how a lens is saved."""
    backend = bench.backend
    try:
        again: object = make(type(backend), json.loads(json.dumps(to_dict(backend))))
    except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
        again = fault
    require(
        again == backend,
        f"{backend.name}: the options do not survive JSON",
        given=f"{backend!r} came back as {again!r}",
        allowed="numbers, strings, booleans, None, and tuples of these",
        do="make options of these types, and turn them into what you need in fit and build",
    )


@check()
def constraints_are_enforced(bench: Bench) -> None:
    """A value outside its constraint, of another type, or of an unknown name raises OptionError."""
    cls = type(bench.backend)
    wrong = [(name, value) for name, value in _violations(cls)] + [("no_such_option", 1)]
    for name, value in wrong:
        try:
            cls(**{name: value})
        except OptionError:
            continue
        except Exception as fault:  # noqa: BLE001 - another error is a finding too
            outcome = f"{type(fault).__name__}: {fault}"
        else:
            outcome = "was accepted"
        require(
            False,
            f"{bench.backend.name}: {name}={value!r} does not raise OptionError",
            given=outcome,
            do="decorate the class with @xlens.options, and do not replace its __init__",
        )


@check()
def builds_or_refuses_any_shape(bench: Bench) -> None:
    """``build`` gives a lens of the right shapes, or an XlensError that says what it takes."""
    for shape in (bench.candidate.shape, *_SHAPES):
        inputs = torch.rand(3, *shape)
        model = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 3))
        # The layer is the flat input itself, where the candidate works on one.
        classifier = Classifier(model, layer=None if bench.candidate.layer is None else "0")
        with quiet(), torch.no_grad(), classifier.frozen(seed=0):
            try:
                lens = bench.backend.build(classifier, _spec(shape))
            except XlensError:
                require(
                    shape != bench.candidate.shape,
                    f"{bench.backend.name}: build refuses the toy world's shape {shape}",
                    do="pass a shape that it takes: Candidate(backend, shape=(3, 32, 32))",
                )
                continue
            except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
                found: str | None = f"{type(fault).__name__}: {fault}"
            else:
                found = _shapes_of(lens, inputs)
            require(
                found is None,
                f"{bench.backend.name}: build(classifier, spec) does not work for inputs of shape {shape}",
                given=found,
                allowed="a lens that encodes and decodes, or an XlensError saying which shapes it takes",
                do="raise xlens.errors.UnsupportedError in build for what the lens cannot do",
            )


def _shapes_of(lens: Any, inputs: torch.Tensor) -> str | None:
    if not isinstance(lens, Lens):
        return f"a {type(lens).__name__} and no xlens.Lens"
    try:
        codes = lens.eval().encode(inputs.clone())
        # An editing lens decodes nothing without inputs; what it fills has their shape.
        if isinstance(lens, EditingLens):
            decoded = lens.fill(inputs.clone(), torch.zeros_like(inputs[:, :1]))
        else:
            decoded = lens.decode(codes)
    except Exception as fault:  # noqa: BLE001 - whatever it raises is the finding
        return f"{type(fault).__name__}: {fault}"
    wanted = inputs.shape if lens.decodes_to != "layer" else inputs.flatten(1).shape
    if codes.dim() != 2 or len(codes) != len(inputs) or decoded.shape != wanted:
        return f"codes {tuple(codes.shape)}, decoded {tuple(decoded.shape)}"
    return None


def _spec(shape: tuple[int, ...]) -> Spec:
    channels = shape[0]
    return Spec(
        shape=shape,
        num_classes=3,
        minimum=(0.0,) * channels,
        maximum=(1.0,) * channels,
        mean=(0.5,) * channels,
        std=(0.3,) * channels,
        class_margins=((0.0, 2.0, 2.0), (2.0, 0.0, 2.0), (2.0, 2.0, 0.0)),
    )


class _Strange:
    """What no option is."""

    def __repr__(self) -> str:
        return "an object of a class of its own"


def _violations(cls: type[Backend]) -> Iterator[tuple[str, Any]]:
    """Yield option names with values that their own constraints forbid."""
    hints = typing.get_type_hints(cls)
    for option in dataclasses.fields(cls):
        constraint, hint = option.metadata.get("constraint"), hints[option.name]
        if constraint is not None:
            yield from ((option.name, value) for value in _out_of_bounds(constraint, hint))
            if constraint.choices is not None:
                yield option.name, "no such choice"
        yield from ((option.name, value) for value in _STRANGE if not fits(value, hint))


#: Values of many types, of which no annotation allows all.
_STRANGE: tuple[Any, ...] = (
    _Strange(),
    "no such choice",
    0.5,
    float("nan"),
    True,
    None,
    (1, "two"),
    (None,),
    ({},),
)


def _out_of_bounds(constraint: Constraint, hint: Any) -> Iterator[Any]:
    """Yield values of the annotated type that the bounds forbid; in a tuple, where it is one."""
    below = [bound for bound in (_moved(constraint.ge, -1), constraint.gt) if bound is not None]
    above = [bound for bound in (_moved(constraint.le, 1), constraint.lt) if bound is not None]
    # Whole numbers, away from the bound: an int option takes them too, so that it is the bound that refuses them.
    for whole in [*map(math.floor, below), *map(math.ceil, above)]:
        forms = (whole, float(whole), (whole,), (float(whole),))
        yield from [value for value in forms if fits(value, hint)][:1]


def _moved(bound: float | None, by: int) -> float | None:
    return None if bound is None else bound + by


def _top(value: str) -> str:
    return value.split(":")[0].partition(".")[0].strip()
