"""The papers' own maps: what a lens changes, what changes along its path, and what makes the codes differ."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from xlens.attr.captum_methods import captum_attribution, promises_completeness
from xlens.attr.curve import Curve, Decoded, Polyline
from xlens.attr.evaluate import widest_float
from xlens.contracts.capabilities import SupportsDivergence
from xlens.counterfactual.carry import PartsCurve
from xlens.explaining.divergences import Divergence
from xlens.explaining.questions import Attribution, Question, positions

__all__ = ["accumulated", "difference", "divergence"]


def difference(question: Question) -> Attribution:
    """Return |G(z) - G(z0)|, ``(N, *S)``: the difference map of medXGAN (Dravid et al. 2022, section 4.1)."""
    edit = question.edit
    return Attribution((edit.reconstruction - edit.decoded).abs())


def accumulated(question: Question) -> Attribution:
    """Return the sum of |G(z(a_k+1)) - G(z(a_k))| over the path, ``(N, *S)`` (figure 5 of the same paper).

    Where a pixel changes one way along the path it is the difference map; where it goes and comes back it is more.
    """
    n, steps = len(question.target), question.request.n_steps
    curve, device = _decodings(question), question.target.device
    heat = []
    # Every frame of a row at once, and as many rows as fit.
    for rows in torch.arange(n, device=device).split(max(1, question.request.code_batch // (steps + 1))):
        at = torch.linspace(0, 1, steps + 1, device=device).repeat(len(rows))
        with torch.no_grad():
            frames = curve(rows.repeat_interleave(steps + 1), at)
        heat.append(frames.view(len(rows), steps + 1, *frames.shape[1:]).diff(dim=1).abs().sum(1))
    return Attribution(torch.cat(heat))


def divergence(question: Question, part: str) -> Attribution:
    """Return what makes the counterfactual's code differ from the input's in one part, ``(N, *S)``.

    The divergence of equation 9 of the SVAE paper, d(x, x~) = KL[q(z_k|x) || q(z_k|x~)], as a function of x~ with x
    as baseline, where x~ is the counterfactual. A complete method's map sums to d.

    Args:
        question: the batch.
        part: ``"class"`` (k = 1, what matters) or ``"nuisance"`` (k = 2, what does not).
    """
    options = dict(question.request.attributions[f"divergence_{part}"])
    method = options.pop("method", "gradient_shap")
    function = Divergence(cast(SupportsDivergence, question.lens), part)
    own, variants = question.edit.inputs, question.edit.start
    batch = question.request.code_batch
    with torch.enable_grad():
        values = captum_attribution(method, function, variants, own, (own,), options=options, batch=batch)
    if not promises_completeness(method):
        return Attribution(values)
    pairs = zip(variants.split(batch), own.split(batch), strict=True)
    with torch.no_grad():
        whole = torch.cat([function(variant, one) for variant, one in pairs])
    wide = values.to(widest_float(values.device))
    return Attribution(values, wide.flatten(1).sum(1) - whole)


def _decodings(question: Question) -> Curve:
    """Return what the lens makes of the codes along the path; of a lens that edits, its edits."""
    if isinstance(question.edit.curve, PartsCurve):
        return question.curve
    if question.waypoints is not None:
        return Polyline(question.waypoints.decoded, positions(question.waypoints))

    def decode(codes: Tensor) -> Tensor:
        return question.lens.decode(codes)

    return Decoded(question.codes, decode)
