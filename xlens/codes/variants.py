"""Variants of inputs: drawn, or along one or two features; decoded, carried and judged by the classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, overload

import torch
from torch import Tensor

from xlens.codes.moves import directions_of, find_feature, path_values, traversed
from xlens.contracts.lens import Lens
from xlens.contracts.numbers import is_count
from xlens.counterfactual.carry import carried, carry_faults, clamped
from xlens.errors import OptionError
from xlens.explaining.asking import Asks, Show, asks
from xlens.explaining.on_layer import OnLayer
from xlens.fitted import Fitted
from xlens.invariances import Invariances

__all__ = ["VariantCarry", "invariances", "traverse"]

VariantCarry = Literal["none", "residual"]
_CARRIES = ("none", "residual")
#: Two features to cross.
Pair = tuple[str | int, str | int]

#: Variants decoded, or shown to the classifier, at once.
_BATCH = 64


def invariances(
    fitted: Fitted,
    inputs: Any,
    n: int,
    scale: float,
    vary: str,
    carry: VariantCarry,
    seed: int,
    show: Show | None = None,
) -> Invariances:
    """Draw `n` variants of each input; arguments as for ``explainer.invariances``."""
    lens = fitted.require("invariances")
    kind = asks(fitted, show, "invariances")
    faults = carry_faults(carry, False, _CARRIES)
    if carry == "residual":
        kind.require_decoder("invariances(carry='residual')")
    if vary not in ("nuisance", "class"):
        faults.append(f"vary must be 'nuisance' or 'class', got {vary!r}")
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 <= scale < float("inf"):
        faults.append(f"scale must be a number >= 0, got {scale!r}")
    if not is_count(n):
        faults.append(f"n must be an int >= 1, got {n!r}")
    if faults:
        raise OptionError("invariances: " + "; ".join(faults))
    generator = fitted.generator(seed)
    with fitted.asking():
        source = fitted.inputs(inputs)
        codes = fitted.encode(source, _BATCH)
        varied = lens.invariances(codes, int(n), float(scale), generator, vary)
        if isinstance(kind, OnLayer):
            return _judge_in_layer(kind, source, varied)
        return _judge(fitted, source, codes, varied, carry)


@overload
def traverse(
    fitted: Fitted,
    inputs: Any,
    feature: str | int,
    values: Any,
    relative: bool | None,
    carry: VariantCarry,
    show: Show | None = None,
) -> Tensor: ...


@overload
def traverse(
    fitted: Fitted,
    inputs: Any,
    feature: Pair,
    values: Any,
    relative: bool | None,
    carry: VariantCarry,
    show: Show | None = None,
) -> Invariances: ...


def traverse(
    fitted: Fitted,
    inputs: Any,
    feature: Any,
    values: Any,
    relative: bool | None,
    carry: VariantCarry,
    show: Show | None = None,
) -> Tensor | Invariances:
    """Move one feature, or cross two; arguments as for ``explainer.traverse``."""
    two = not isinstance(feature, str) and isinstance(feature, Sequence)
    faults = carry_faults(carry, False, _CARRIES)
    if relative not in (None, True, False):
        faults.append(f"relative must be True, False or None, got {relative!r}")
    if two and (len(feature) != 2 or not all(isinstance(one, str | Integral) for one in feature)):
        faults.append(f"two features are two names or positions, got {feature!r}")
    if faults:
        raise OptionError("traverse: " + "; ".join(faults))
    points = path_values(values, fitted.device)
    return (
        _crossed(fitted, inputs, feature, points, relative is not False, carry)
        if two
        else _along(asks(fitted, show, "traverse"), inputs, feature, points, bool(relative), carry)
    )


def _along(
    lens: Asks, inputs: Any, feature: str | int, values: Tensor, relative: bool, carry: VariantCarry
) -> Tensor:
    """Return inputs in which one feature has each value, ``(N, T, *S)``, on the caller's device."""
    fitted = lens.fitted
    if carry == "residual":
        lens.require_decoder("traverse(carry='residual')")
    with fitted.asking():
        source = fitted.inputs(inputs)
        moved_to = source.to(fitted.device)
        codes = fitted.lens.encode(moved_to)
        moved = traversed(fitted.lens, codes, feature, values, relative=relative)
        first = _set(fitted.lens, feature)
        show = lens.shower(moved_to)
        owners = torch.arange(len(source), device=moved.device).repeat_interleave(len(values))
        rows = zip(moved.flatten(0, 1).split(_BATCH), owners.split(_BATCH), strict=True)
        frames = torch.cat([show(part, owner, first) for part, owner in rows])
        frames = frames.view(len(source), len(values), *fitted.spec.shape)
        if carry == "residual":
            own, rebuilt = (part.unsqueeze(1) for part in (moved_to, fitted.lens.decode(codes)))
            limits = (limit.unsqueeze(1) for limit in fitted.limits(moved_to))
            frames = clamped(carried(carry, own, rebuilt, frames), own, *limits)
    return frames.to(source.device)


def _set(lens: Lens, feature: str | int) -> Sequence[int]:
    """Return the dimensions that a traversal sets; none of them where it goes along a direction."""
    return () if feature in directions_of(lens) else find_feature(lens.features, feature).dims


def _crossed(
    fitted: Fitted, inputs: Any, features: Sequence[str | int], values: Tensor, relative: bool, carry: VariantCarry
) -> Invariances:
    """Return inputs in which two features have each pair of values, and the classifier's verdict on each."""
    asks(fitted).require_decoder("traverse")
    lens, size = fitted.lens, len(values)
    if _overlap(lens, features):
        raise OptionError("traverse: the two features share dimensions of the code", given=repr(features))
    with fitted.asking():
        source = fitted.inputs(inputs)
        codes = fitted.encode(source, _BATCH)
        rows = traversed(lens, codes, features[0], values, relative=relative).flatten(0, 1)
        both = traversed(lens, rows, features[1], values, relative=relative)
        return _judge(fitted, source, codes, both.view(len(codes), size, size, -1), carry)


def _overlap(lens: Lens, features: Sequence[str | int]) -> bool:
    """Whether setting the second would change the first: directions may lean on each other, features may not."""
    named = directions_of(lens)
    if any(feature in named for feature in features):
        return features[0] == features[1]
    first, second = (find_feature(lens.features, feature, "traverse") for feature in features)
    return bool(set(first.dims) & set(second.dims))


def _judge(fitted: Fitted, source: Tensor, codes: Tensor, varied: Tensor, carry: VariantCarry) -> Invariances:
    """Decode varied codes, carry them where asked, and ask the classifier about each.

    Args:
        fitted: brings lens and classifier.
        source: ``(N, *S)`` the inputs, on the caller's device.
        codes: ``(N, d)`` their codes.
        varied: ``(N, *M, d)``.
        carry: ``"none"`` for the decodings, ``"residual"`` for their change carried onto the inputs.
    """
    lens, spec, classifier = fitted.lens, fitted.spec, fitted.classifier
    draws = varied.shape[1:-1]
    flat = varied.flatten(0, -2)
    reconstructions = _in_batches(lens.decode, codes, fitted.device) if carry == "residual" else None
    owners = torch.arange(len(source)).repeat_interleave(draws.numel())
    variants, again = [], []
    # Batch by batch to the caller's device: of many variants only a few are on the explainer's at a time.
    for part, owner in zip(flat.split(_BATCH), owners.split(_BATCH), strict=True):
        found = lens.decode(part)
        if reconstructions is not None:
            own = source[owner.to(source.device)].to(fitted.device)
            rebuilt = reconstructions[owner.to(fitted.device)]
            found = clamped(carried("residual", own, rebuilt, found), own, *fitted.limits(own))
        again.append(classifier(found).argmax(1).to(source.device))
        variants.append(found.to(source.device))
    predicted = _in_batches(lambda part: classifier(part).argmax(1), source, fitted.device).to(source.device)
    seen = torch.cat(again).view(len(source), draws.numel())
    return Invariances(
        inputs=source,
        variants=torch.cat(variants).view(len(source), *draws, *spec.shape),
        kept=(seen == predicted[:, None]).view(len(source), *draws),
        predicted=predicted,
        class_names=fitted.class_names,
        data_range=(min(spec.minimum), max(spec.maximum)),
    )


def _judge_in_layer(kind: OnLayer, source: Tensor, varied: Tensor) -> Invariances:
    """Ask the classifier's tail about varied codes ``(N, n, d)``, and show each by what stands for it."""
    fitted, n = kind.fitted, varied.shape[1]
    owners = torch.arange(len(source)).repeat_interleave(n)
    show = kind.shower(source.to(fitted.device))
    variants, again = [], []
    for part, owner in zip(varied.flatten(0, 1).split(_BATCH), owners.split(_BATCH), strict=True):
        own = source[owner.to(source.device)].to(fitted.device)
        again.append(kind.decode(part, own).argmax(1).to(source.device))
        variants.append(show(part, owner.to(fitted.device), ()).to(source.device))
    predicted = _in_batches(lambda part: fitted.classifier(part).argmax(1), source, fitted.device).to(source.device)
    return Invariances(
        inputs=source,
        variants=torch.cat(variants).view(len(source), n, *fitted.spec.shape),
        kept=(torch.cat(again).view(len(source), n) == predicted[:, None]),
        predicted=predicted,
        class_names=fitted.class_names,
        data_range=(min(fitted.spec.minimum), max(fitted.spec.maximum)),
        shown=kind.said,
    )


def _in_batches(function: Callable[[Tensor], Tensor], values: Tensor, device: torch.device) -> Tensor:
    return torch.cat([function(part.to(device)) for part in values.split(_BATCH)])
