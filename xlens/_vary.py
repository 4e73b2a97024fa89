"""Variants of inputs, drawn or on a grid, decoded, carried and judged by f."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from xlens._arguments import check_count, find_feature, path_values
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
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < float("inf"):
        faults.append(f"scale must be a number >= 0, got {scale!r}")
    if faults:
        raise OptionError("invariances: " + "; ".join(faults))
    check_count("invariances", n)
    source = as_inputs(inputs, explainer.spec.shape)
    codes = explainer.lens.encode(source.to(explainer.device))
    varied = explainer.lens.invariances(codes, n, scale, generator, vary)
    return _judge(explainer, source, codes, varied, carry)


def grid_variants(
    explainer: LensExplainer, inputs: Any, features: Any, steps: Any, relative: bool, carry: str
) -> Invariances:
    """Cross two features; arguments as for ``explainer.grid``, inside its frozen context."""
    if faults := _carry_faults(carry):
        raise OptionError("grid: " + "; ".join(faults))
    values = path_values(steps, explainer.device, "grid")
    if isinstance(features, str) or not isinstance(features, Sequence) or len(features) != 2:
        raise OptionError("grid: features must be two names or positions", given=repr(features))
    lens, size = explainer.lens, len(values)
    if _overlap(lens, features):
        raise OptionError("grid: the two features share dimensions of the code", given=repr(features))
    source = as_inputs(inputs, explainer.spec.shape)
    codes = lens.encode(source.to(explainer.device))
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
    inputs = source.to(explainer.device)
    draws = varied.shape[1:-1]
    each = draws.numel()
    variants = _in_batches(explainer.lens.decode, varied.flatten(0, -2))
    if carry == "residual":
        low, high = (explainer.spec.per_channel(name).to(inputs) for name in ("minimum", "maximum"))
        change = variants - _in_batches(explainer.lens.decode, codes).repeat_interleave(each, 0)
        own = inputs.repeat_interleave(each, 0)
        variants = clamped(own + change, own, low, high)
    predicted = _in_batches(explainer.classifier, inputs).argmax(1)
    again = _in_batches(explainer.classifier, variants).argmax(1)
    kept = again.view(len(inputs), each) == predicted[:, None]
    spec = explainer.spec
    return Invariances(
        inputs=source,
        variants=variants.view(len(inputs), *draws, *spec.shape).to(source.device),
        kept=kept.view(len(inputs), *draws).to(source.device),
        predicted=predicted.to(source.device),
        class_names=explainer.class_names,
        data_range=(min(spec.minimum), max(spec.maximum)),
    )


def _in_batches(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    return torch.cat([function(part) for part in values.split(_BATCH)])


def _carry_faults(carry: Any) -> list[str]:
    return [] if carry in ("none", "residual") else [f"carry must be 'none' or 'residual', got {carry!r}"]
