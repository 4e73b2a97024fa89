"""Variants of inputs, drawn or on a grid, decoded, carried and judged by f."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from xlens._arguments import find_feature, is_count, path_values
from xlens._edit import directions_of, traversed
from xlens.contracts import Lens
from xlens.data import as_inputs
from xlens.errors import OptionError
from xlens.invariances import Invariances
from xlens.nn.mask import clamped

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = ["VariantCarry", "draw_variants", "grid_variants"]

VariantCarry = Literal["none", "residual"]

#: Variants decoded, or shown to f, at once.
_BATCH = 64


def draw_variants(
    explainer: LensExplainer, inputs: Any, n: int, scale: float, vary: str, carry: str, generator: torch.Generator
) -> Invariances:
    """Draw `n` variants of each input; arguments as for ``explainer.invariances``, inside its frozen context."""
    faults = _carry_faults(carry)
    if vary not in ("nuisance", "class"):
        faults.append(f"vary must be 'nuisance' or 'class', got {vary!r}")
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 <= scale < float("inf"):
        faults.append(f"scale must be a number >= 0, got {scale!r}")
    if not is_count(n):
        faults.append(f"n must be an int >= 1, got {n!r}")
    if faults:
        raise OptionError("invariances: " + "; ".join(faults))
    source = as_inputs(inputs, explainer.spec.shape)
    codes = _in_batches(explainer.lens.encode, source, explainer.device)
    varied = explainer.lens.invariances(codes, n, scale, generator, vary)
    return _judge(explainer, source, codes, varied, carry)


def grid_variants(
    explainer: LensExplainer, inputs: Any, features: Any, steps: Any, relative: bool, carry: str
) -> Invariances:
    """Cross two features; arguments as for ``explainer.grid``, inside its frozen context."""
    faults = _carry_faults(carry)
    if not isinstance(relative, bool):
        faults.append(f"relative must be True or False, got {relative!r}")
    if isinstance(features, str) or not isinstance(features, Sequence) or len(features) != 2:
        faults.append(f"features must be two names or positions, got {features!r}")
    elif not all(isinstance(feature, str | Integral) for feature in features):
        faults.append(f"each feature must be a name or a position, got {features!r}")
    if faults:
        raise OptionError("grid: " + "; ".join(faults))
    values = path_values(steps, explainer.device, "grid")
    lens, size = explainer.lens, len(values)
    if _overlap(lens, features):
        raise OptionError("grid: the two features share dimensions of the code", given=repr(features))
    source = as_inputs(inputs, explainer.spec.shape)
    codes = _in_batches(lens.encode, source, explainer.device)
    rows = traversed(lens, codes, features[0], values, relative=relative, method="grid").flatten(0, 1)
    both = traversed(lens, rows, features[1], values, relative=relative, method="grid")
    return _judge(explainer, source, codes, both.view(len(codes), size, size, -1), carry)


def _overlap(lens: Lens, features: Sequence[str | int]) -> bool:
    """Whether setting the second would change the first: directions may lean on each other, features may not."""
    named = directions_of(lens)
    if any(feature in named for feature in features):
        return features[0] == features[1]
    first, second = (find_feature(lens.features, feature, "grid") for feature in features)
    return bool(set(first.dims) & set(second.dims))


def _judge(explainer: LensExplainer, source: Tensor, codes: Tensor, varied: Tensor, carry: str) -> Invariances:
    """Decode varied codes, carry them where asked, and ask f about each.

    Args:
        explainer: brings lens and classifier.
        source: ``(N, *S)`` the inputs, on the caller's device.
        codes: ``(N, d)`` their codes.
        varied: ``(N, *M, d)``.
        carry: ``"none"`` for the decodings, ``"residual"`` for their change carried onto the inputs.
    """
    lens, spec, classifier = explainer.lens, explainer.spec, explainer.classifier
    draws = varied.shape[1:-1]
    low, high = (spec.per_channel(name).to(explainer.device) for name in ("minimum", "maximum"))
    flat = varied.flatten(0, -2)
    reconstructions = _in_batches(lens.decode, codes, explainer.device) if carry == "residual" else None
    owners = torch.arange(len(source)).repeat_interleave(draws.numel())
    variants, again = [], []
    # Batch by batch to the caller's device: of many variants only a few are on the explainer's at a time.
    for part, owner in zip(flat.split(_BATCH), owners.split(_BATCH), strict=True):
        found = lens.decode(part)
        if reconstructions is not None:
            own = source[owner.to(source.device)].to(explainer.device)
            found = clamped(own + (found - reconstructions[owner.to(explainer.device)]), own, low, high)
        again.append(classifier(found).argmax(1).to(source.device))
        variants.append(found.to(source.device))
    predicted = _in_batches(lambda part: classifier(part).argmax(1), source, explainer.device).to(source.device)
    seen = torch.cat(again).view(len(source), draws.numel())
    return Invariances(
        inputs=source,
        variants=torch.cat(variants).view(len(source), *draws, *spec.shape),
        kept=(seen == predicted[:, None]).view(len(source), *draws),
        predicted=predicted,
        class_names=explainer.class_names,
        data_range=(min(spec.minimum), max(spec.maximum)),
    )


def _in_batches(function: Callable[[Tensor], Tensor], values: Tensor, device: torch.device) -> Tensor:
    return torch.cat([function(part.to(device)) for part in values.split(_BATCH)])


def _carry_faults(carry: Any) -> list[str]:
    return [] if carry in ("none", "residual") else [f"carry must be 'none' or 'residual', got {carry!r}"]
