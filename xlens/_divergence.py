"""Which pixels make a variant differ from an input, in one part of a lens's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xlens.attr.captum_methods import captum_attribution, captum_names, check_captum, promises_completeness
from xlens.contracts import Lens
from xlens.data import as_inputs
from xlens.errors import DataError, OptionError, did_you_mean
from xlens.invariances import DivergenceAttributions

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = ["attribute_divergence"]

#: Variants attributed at once.
_BATCH = 64


class _Divergence(nn.Module):
    """d(x, x~) as a function of x~; a module, because some methods look for layers inside it."""

    def __init__(self, lens: Lens, part: str) -> None:
        super().__init__()
        self.lens, self.part = lens, part

    def forward(self, variants: Tensor, inputs: Tensor) -> Tensor:
        """Return ``(N,)``."""
        return self.lens.divergence(inputs, variants, self.part)


def attribute_divergence(
    explainer: LensExplainer, inputs: Any, variants: Any, part: str, method: str, options: Mapping[str, Any] | None
) -> DivergenceAttributions:
    """Attribute; arguments as for ``explainer.divergence_attributions``, inside its frozen context."""
    _check(part, method, options or {})
    source = as_inputs(inputs, explainer.spec.shape)
    shape, device = explainer.spec.shape, explainer.device
    values = torch.as_tensor(variants)
    if values.dim() <= len(shape):
        values = values.unsqueeze(0)
    draws = values.shape[1 : values.dim() - len(shape)]
    if len(values) != len(source) or tuple(values.shape[values.dim() - len(shape) :]) != shape:
        raise DataError(
            "divergence_attributions: the variants do not fit the inputs",
            given=tuple(values.shape),
            allowed=f"({len(source)}, *S) or ({len(source)}, n, *S) with S = {shape}",
            do="pass explainer.invariances(inputs, n).variants, or one variant per input",
        )
    flat = as_inputs(values.reshape(-1, *shape), shape).to(device)
    own = source.to(device).repeat_interleave(draws.numel(), 0)
    function = _Divergence(explainer.lens, part)
    with torch.enable_grad():
        found = captum_attribution(method, function, flat, own, (own,), options=options, batch=_BATCH)
    pairs = zip(flat.split(_BATCH), own.split(_BATCH), strict=True)
    divergence = torch.cat([function(variant, one) for variant, one in pairs])
    delta = found.double().flatten(1).sum(1) - divergence.double()
    return DivergenceAttributions(
        attributions=found.to(source).view(len(source), *draws, *shape),
        divergence=divergence.to(source).view(len(source), *draws),
        convergence_delta=delta.to(source).view(len(source), *draws),
        complete=promises_completeness(method),
    )


def _check(part: str, method: str, options: Mapping[str, Any]) -> None:
    faults = [] if part in ("class", "nuisance") else [f"part must be 'class' or 'nuisance', got {part!r}"]
    if wrong := check_captum(method, options):
        hint = did_you_mean(str(method), captum_names())
        faults += [f"{fault}.{hint} Known: {', '.join(captum_names())}" for fault in wrong]
    if faults:
        raise OptionError("divergence_attributions: " + "; ".join(faults))
