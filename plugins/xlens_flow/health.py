"""Whether a fit went well: the inversion's error, and whether counterfactuals of the fit's own inputs convince."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from xlens import Classifier, Run
from xlens.data import Data
from xlens.errors import XlensWarning
from xlens_flow.lens import FlowLens

__all__ = ["examine", "inversion_errors"]

_EXAMINED = 32
_LEAST_FLIPS, _LEAST_AGREEMENT, _LARGEST_ERROR = 0.5, 0.9, 0.05


@torch.no_grad()
def examine(lens: FlowLens, classifier: Classifier, data: Data, run: Run) -> None:
    """Encode, decode and change some inputs of the fit; keep the inversion's error, and warn of an unfit lens.

    Args:
        lens: the fitted lens, in eval mode.
        classifier: the frozen classifier.
        data: what it was fitted on.
        run: circumstances of the fit.
    """
    batch = next(data.batches(_EXAMINED, generator=torch.Generator().manual_seed(run.seed)))
    inputs = batch.inputs.to(run.device)
    codes = lens.encode(inputs)
    decoded = lens.decode(codes)
    error = inversion_errors(lens, inputs, decoded).mean()
    lens.inversion_error.copy_(error)
    logits = classifier(inputs)
    target, contrast = logits.topk(2).indices.T
    moved = lens.decode(lens.counterfactual(codes, target, contrast))
    agrees = float((classifier(decoded).argmax(1) == target).float().mean())
    flips = float((classifier(moved).argmax(1) == contrast).float().mean())
    problems = []
    if not float(error) ** 0.5 <= _LARGEST_ERROR:
        problems.append(
            f"codes decode to something else than the inputs, {float(error) ** 0.5:.0%} of the range off"
        )
    if not agrees >= _LEAST_AGREEMENT:
        problems.append(f"the classifier sees the same class in {agrees:.0%} of the reconstructions")
    if not flips >= _LEAST_FLIPS:
        problems.append(f"counterfactuals change the classifier's decision in {flips:.0%} of {len(inputs)} inputs")
    if problems:
        warnings.warn(
            f"fit: the lens is not sound: {'; '.join(problems)}. Raise steps, or ode_steps where inversion is off",
            XlensWarning,
            stacklevel=3,
        )


def inversion_errors(lens: FlowLens, inputs: Tensor, decoded: Tensor) -> Tensor:
    """Return the mean squared error of decodings ``(N, *S)`` in squared ranges of the data, ``(N,)``."""
    span = lens.spec.span().to(inputs)
    return ((decoded - inputs) / span).square().flatten(1).mean(1)
