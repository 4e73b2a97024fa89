"""Checks of what a lens returns: shapes, numbers, and that it is a function of its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xlens.api import load
from xlens.contracts import CAPABILITIES
from xlens.contracts.lens import EditingLens, Feature
from xlens.registry.loading import standing_in
from xlens.testing.api import options_survive_json
from xlens.testing.bench import Bench, folder, quiet
from xlens.testing.checking import check, require, same
from xlens.testing.manners import fits_a_lens

_ROLES = ("class", "nuisance", "attribute")


@check(needs=(fits_a_lens,), essential=True)
def shapes_are_right(bench: Bench) -> None:
    """Codes are ``(N, d)`` and decodings ``(N, *S)``, or of the hidden layer's shape, also for one input."""
    width = bench.codes().shape[-1]
    with bench.asking() as lens:
        shape = bench.decoded_shape(lens)
        for n in (1, 2, 5):
            inputs = bench.inputs[:n].clone()
            codes = lens.encode(inputs)
            _has_shape(bench, "encode", codes, (n, width))
            _has_shape(bench, "decode", bench.decoded(lens, codes.clone()), (n, *shape))
            moved = lens.counterfactual(codes.clone(), torch.full((n,), 1), torch.full((n,), 0))
            _has_shape(bench, "counterfactual", moved, (n, width))


@check(needs=(shapes_are_right,))
def everything_is_finite(bench: Bench) -> None:
    """No NaN and no infinity, for every pair of classes."""
    with bench.asking() as lens:
        codes = lens.encode(bench.inputs.clone())
        found = {"encode": codes, "decode": bench.decoded(lens, codes.clone())}
        for target, contrast in itertools.permutations(range(3), 2):
            pair = torch.full((len(codes),), target), torch.full((len(codes),), contrast)
            moved = lens.counterfactual(codes.clone(), *pair)
            found[f"counterfactual from class {target} to {contrast}"] = moved
            found[f"decode of the counterfactual from class {target} to {contrast}"] = bench.decoded(lens, moved)
    for name, values in found.items():
        require(
            bool(values.isfinite().all()),
            f"{bench.backend.name}: {name} is not finite",
            given=f"{int((~values.isfinite()).sum())} of {values.numel()} values",
            do="look for a division by the count or the spread of something that may be empty or constant",
        )


@check(needs=(shapes_are_right,))
def dtypes_are_kept(bench: Bench) -> None:
    """Float32 in gives float32 out, also where the program's default is float64."""
    default = torch.get_default_dtype()
    with bench.asking() as lens:
        torch.set_default_dtype(torch.float64)
        try:
            codes = lens.encode(bench.inputs.clone())
            one, other = torch.ones(len(codes), dtype=torch.long), torch.zeros(len(codes), dtype=torch.long)
            found = {
                "encode": codes,
                "decode": bench.decoded(lens, codes.float()),
                "counterfactual": lens.counterfactual(codes.float(), one, other),
            }
        finally:
            torch.set_default_dtype(default)
    for name, values in found.items():
        require(
            values.dtype == torch.float32,
            f"{bench.backend.name}: {name} changes the dtype where torch's default is float64",
            given=values.dtype,
            allowed="torch.float32, that of the argument",
            do="make tensors like the argument: codes.new_zeros(...), torch.zeros_like(...), dtype=codes.dtype",
        )


@check(needs=(fits_a_lens,))
def tensors_are_registered(bench: Bench) -> None:
    """Every tensor of the lens is a parameter or a buffer, so that it moves to another device with it."""
    loose = [
        f"{type(module).__name__}.{name}"
        for module in bench.base.lens.modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules") and _holds_a_tensor(value)
    ]
    require(
        not loose,
        f"{bench.backend.name}: the lens keeps a tensor that does not move with it",
        given=", ".join(loose[:3]),
        do="self.register_buffer('name', tensor), with persistent=False where build makes it again",
    )


@check(needs=(fits_a_lens,))
def features_name_the_code(bench: Bench) -> None:
    """Features have names of their own, known roles and classes; each dimension of the code is in exactly one."""
    name, width = bench.backend.name, bench.codes().shape[1]
    features = list(bench.base.lens.features)
    require(
        bool(features) and all(isinstance(feature, Feature) for feature in features),
        f"{name}: features are no features",
        given=features,
        allowed="a sequence of xlens.Feature, at least one",
    )
    names = [feature.name for feature in features]
    require(len(set(names)) == len(names), f"{name}: two features have one name", given=", ".join(names))
    dims = [dim for feature in features for dim in feature.dims]
    require(
        sorted(dims) == list(range(width)) and all(feature.dims for feature in features),
        f"{name}: the features do not share out the dimensions of the code",
        given=f"{len(dims)} dimensions, {len(set(dims))} different, in codes of {width}",
        allowed=f"0 to {width - 1}, each in exactly one feature, no feature empty",
        do="name what is left over as well, e.g. Feature('everything else', dims, 'nuisance')",
    )
    wrong = [f for f in features if f.role not in _ROLES or f.class_index not in (None, 0, 1, 2)]
    require(
        not wrong,
        f"{name}: a feature of an unknown role or class",
        given=wrong[:1],
        allowed=f"roles {', '.join(_ROLES)}; classes 0 to 2 or None",
    )
    reference = bench.base.lens.reference_class
    require(
        reference is None or (type(reference) is int and 0 <= reference < 3),
        f"{name}: reference_class is no class",
        given=repr(reference),
        allowed="an int from 0 to 2, or None",
    )


@check(needs=(shapes_are_right,))
def a_row_does_not_depend_on_its_batch(bench: Bench) -> None:
    """A row alone gives what it gives in a batch."""
    n = len(bench.inputs)
    one, other = torch.full((n,), 1), torch.full((n,), 0)
    with bench.asking() as lens:
        codes = lens.encode(bench.inputs.clone())
        moved = lens.counterfactual(codes.clone(), one, other)
        calls: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], Tensor]] = {
            "encode": (lens.encode, (bench.inputs,), codes),
            "counterfactual": (lens.counterfactual, (codes, one, other), moved),
        }
        if not isinstance(lens, EditingLens):
            calls["decode"] = (lens.decode, (codes,), lens.decode(codes.clone()))
        for name, (function, arguments, together) in calls.items():
            alone = torch.cat([function(*(a[i : i + 1].clone() for a in arguments)) for i in range(n)])
            require(
                same(alone, together),
                f"{bench.backend.name}: {name} gives a row another result alone than in its batch",
                given=f"a difference of up to {float((alone - together).abs().max()):.3g}",
                do="no statistics over the batch (batch norm needs eval mode) and no draws from the global "
                "random numbers",
            )


@check(needs=(a_row_does_not_depend_on_its_batch,))
def each_row_has_its_own_classes(bench: Bench) -> None:
    """A batch of several targets and contrasts gives each row what it gets where all rows have its classes."""
    n = len(bench.inputs)
    pairs = list(itertools.permutations(range(3), 2))
    targets, contrasts = (torch.tensor([pairs[i % 6][side] for i in range(n)]) for side in (0, 1))
    with bench.asking() as lens:
        codes = lens.encode(bench.inputs.clone())
        mixed = lens.counterfactual(codes.clone(), targets, contrasts)
        for i in range(n):
            t, c = torch.full((n,), int(targets[i])), torch.full((n,), int(contrasts[i]))
            own = lens.counterfactual(codes.clone(), t, c)[i]
            require(
                same(mixed[i], own),
                f"{bench.backend.name}: counterfactual mixes up the classes of a batch",
                given=f"row {i}, from class {int(targets[i])} to {int(contrasts[i])}, among rows of other classes",
                do="index by row: centres[contrast] with contrast (N,), never contrast[0]",
            )


@check(needs=(fits_a_lens, options_survive_json))
def saved_and_loaded_it_explains_the_same(bench: Bench) -> None:
    """Written to a folder and read again, the lens gives the same explanation, and does the same beyond it."""
    explainer = bench.base.explainer
    with folder() as path, quiet():
        explainer.save(path)
        with standing_in(type(bench.backend)):
            again = load(path, bench.classifier.model)
    require(again.backend == bench.backend, f"{bench.backend.name}: the options come back changed")
    first, second = bench.explain(explainer), bench.explain(again)
    answers = dict(_answers(bench, again, second))
    for name, value in _answers(bench, explainer, first):
        found = answers.get(name)
        right, apart = False, "of another shape"
        if found is not None and found.shape == value.shape:
            right = same(value, found, exactly=True)
            apart = f"a difference of up to {float((value - found).abs().max()):.3g}"
        require(
            right,
            f"{bench.backend.name}: after saving and loading, {name} are others",
            given=apart,
            do="keep everything that fit finds in parameters and buffers; build makes the rest from spec alone",
        )
    for name in ("features", "reference_class", "encodes_directly"):
        value, found = (getattr(one.lens, name) for one in (explainer, again))
        alike = list(value) == list(found) if name == "features" else value == found
        require(
            alike,
            f"{bench.backend.name}: after saving and loading, {name} is another",
            given=None if name == "features" else f"{value!r} became {found!r}",
            do=f"build must give the same {name} as fit, from the options and spec",
        )


def _answers(bench: Bench, explainer: Any, explanation: Any) -> Iterator[tuple[str, Tensor]]:
    for name in ("codes", "reconstruction", "counterfactual", "counterfactual_codes"):
        if (values := getattr(explanation, name)) is not None:
            yield name.replace("_", " "), values
    yield "attributions", explanation.attributions["lig"]
    lens = explainer.lens
    protocols = {name: CAPABILITIES.get(name) for name in bench.backend.capabilities}
    able = {name for name, protocol in protocols.items() if protocol and isinstance(lens, protocol)}
    inputs, draw = bench.inputs[:2], torch.Generator().manual_seed
    with bench.asking():
        if "sample" in able and callable(lens.sample):
            yield "samples", lens.sample(2, 1, draw(0))
        for vary in ("nuisance", "class") if "invariances" in able else ():
            yield f"variants of {vary}", lens.invariances(explanation.codes.clone(), 2, 1.0, draw(0), vary)
        for part in ("nuisance", "class") if "divergence" in able else ():
            yield f"divergences of {part}", lens.divergence(inputs.clone(), inputs.flip(0), part)
        if "invert" in able:
            yield "inversions", lens.invert(inputs.clone(), steps=2, restarts=1, generator=draw(0)).detach()
        if "directions" in able:
            yield from ((f"directions named {name}", value) for name, value in lens.directions.items())


def _has_shape(bench: Bench, method: str, values: Tensor, shape: tuple[int, ...]) -> None:
    require(
        isinstance(values, Tensor) and tuple(values.shape) == shape,
        f"{bench.backend.name}: {method} returns a wrong shape for a batch of {shape[0]}",
        given=tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__,
        allowed=shape,
        do="keep the batch dimension; squeeze() without a dimension drops it for one input",
    )


def _holds_a_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_a_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_a_tensor(item) for item in value.values())
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
