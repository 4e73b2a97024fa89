"""Which pixels make a variant differ from an input, in one part of a lens's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from xlens.attr.captum_methods import captum_attribution, promises_completeness, towards_its_sum
from xlens.contracts.capabilities import SupportsDivergence
from xlens.contracts.explainer import Explainer
from xlens.data.numbers import as_tensor
from xlens.errors import DataError, OptionError, XlensWarning, warn
from xlens.explaining.divergences import Divergence, method_faults
from xlens.fitted import Fitted, as_fitted
from xlens.invariances import DivergenceAttributions

__all__ = ["divergence_attributions"]

#: Variants attributed at once.
_BATCH = 64
#: A method that promises the sum, and misses it by more than this share, is said to.
_TOLERANCE = 0.05


def divergence_attributions(
    explainer: Explainer | Fitted,
    inputs: Any,
    variants: Any,
    part: Literal["class", "nuisance"] = "class",
    method: str = "gradient_shap",
    options: Mapping[str, Any] | None = None,
) -> DivergenceAttributions:
    """Divergence attributions ``(N, *S)``: pixels that make a variant differ from its input, in one part.

    What is attributed is d(x, x~), how far the lens's code of the variant x~ is from that of the input x, as a
    function of x~ with x as baseline.

    Args:
        explainer: its lens can say how far two inputs are apart.
        inputs: ``(N, *S)`` x.
        variants: ``(N, *S)`` or ``(N, n, *S)``, x~: from ``explainer.invariances``, counterfactuals, or others.
        part: ``"class"`` shows what matters to the classifier, ``"nuisance"`` what does not.
        method: any Captum method in snake case. The sum is the divergence where the method is complete.
        options: the method's own, under Captum's names, such as ``{"n_samples": 50}``.

    Raises:
        UnsupportedError: this lens cannot.
        OptionError: an unknown part, method or option; methods without rules for a divergence (DeepLift's).
        DataError: the variants do not fit the inputs, or are so far from the data that a number is not finite.
        ModelError: Captum cannot do this for the lens, with its own words.

    Warns:
        XlensWarning: a method that promises the sum misses it by more than 5%.
    """
    fitted = as_fitted(explainer, "divergence_attributions", "explainer", inputs)
    lens = fitted.require("divergence")
    _check(part, method, {} if options is None else options)
    with fitted.asking():
        return _attributed(fitted, lens, inputs, variants, part, method, options)


def _attributed(
    fitted: Fitted,
    lens: SupportsDivergence,
    inputs: Any,
    variants: Any,
    part: str,
    method: str,
    options: Mapping[str, Any] | None,
) -> DivergenceAttributions:
    source, shape = fitted.inputs(inputs), fitted.spec.shape
    values = _tensor(variants)
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
    flat = fitted.inputs(values.reshape(-1, *shape)).to(fitted.device)
    own = source.to(fitted.device).repeat_interleave(draws.numel(), 0)
    function = Divergence(lens, part)
    with torch.enable_grad():
        found = captum_attribution(method, function, flat, own, (own,), options=options, batch=_BATCH)
    pairs = zip(flat.split(_BATCH), own.split(_BATCH), strict=True)
    divergence = torch.cat([function(variant, one) for variant, one in pairs])
    delta = found.double().flatten(1).sum(1) - divergence.double()
    complete = promises_completeness(method)
    missed = delta.abs() > _TOLERANCE * divergence.double().abs().clamp_min(1e-3)
    if complete and bool(missed.any()):
        warn(
            f"divergence_attributions: {int(missed.sum())} of {len(delta)} attributions by {method!r} miss their "
            f"sum by more than {_TOLERANCE:.0%}; see convergence_delta, and {towards_its_sum(method)}",
            XlensWarning,
        )
    return DivergenceAttributions(
        attributions=found.to(source).view(len(source), *draws, *shape),
        divergence=divergence.to(source).view(len(source), *draws),
        convergence_delta=delta.to(source).view(len(source), *draws),
        complete=complete,
    )


def _tensor(variants: Any) -> Tensor:
    try:
        return as_tensor(variants)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(
            "divergence_attributions: the variants are no tensor or array",
            given=type(variants).__name__,
            do="pass explainer.invariances(inputs, n).variants, or one variant per input",
        ) from fault


def _check(part: str, method: str, options: Any) -> None:
    faults = [] if part in ("class", "nuisance") else [f"part must be 'class' or 'nuisance', got {part!r}"]
    faults += method_faults(method, options)
    if faults:
        raise OptionError("divergence_attributions: " + "; ".join(faults))
