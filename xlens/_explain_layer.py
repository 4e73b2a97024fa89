"""Explaining through a lens that decodes to a hidden layer: a curve there, and real inputs to show it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlens._attributions import FEATURE_MAPS, Attribution, Question, Request, attribute
from xlens._explain import FRAMES, finite_or_refuse, problems_of, shared_fields
from xlens.attr.curve import Segment
from xlens.attr.edit import Edit
from xlens.contracts import SupportsRetrieval
from xlens.errors import UnsupportedError
from xlens.explanation import Explanation, Fidelity
from xlens.metrics.fidelity import monotone_share, ssim
from xlens.nn.features import score_margin

if TYPE_CHECKING:
    from xlens.explainer import LensExplainer

__all__ = ["LAYER_ONLY", "explain_layer_batch", "layer_faults", "retrieved", "retrieved_counterfactual"]

_PARTS = 5
#: Attributions that go through decoded inputs, which such a lens has none of.
LAYER_ONLY = ("lig_paper", "latent_shift")


def layer_faults(attributions: dict[str, object], carry: str | None, path: str) -> list[str]:
    """Return, in words, what was asked of a lens on a hidden layer that only one on inputs can do."""
    faults = [
        f"attribution {name!r} needs a lens that decodes to inputs; this one decodes to a hidden layer"
        for name in attributions
        if name in LAYER_ONLY
    ]
    if carry is not None:
        faults.append(f"carry={carry!r} needs a lens that decodes to inputs; leave it out")
    if path not in ("linear", "pixel"):
        faults.append(f"path={path!r} needs a lens that decodes to inputs; 'linear' goes straight through the code")
    return faults


def retrieved(
    explainer: LensExplainer, codes: Tensor, classes: Tensor | None = None, first: Sequence[int] = ()
) -> Tensor:
    """Return the real inputs that the lens keeps nearest to codes ``(N, d)``; as :class:`SupportsRetrieval` says.

    Raises:
        UnsupportedError: the lens keeps none.
    """
    if not isinstance(explainer.lens, SupportsRetrieval):
        raise UnsupportedError(
            f"explain: a {explainer.backend.name!r} lens decodes to a hidden layer and keeps no inputs to show",
            do="its author should declare the capability 'retrieve'",
        )
    return explainer.lens.retrieve(codes, classes, first)


def retrieved_counterfactual(
    explainer: LensExplainer, inputs: Tensor, target: Tensor, contrast: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, codes with the evidence moved, and the real inputs of the contrast class nearest to these."""
    codes = explainer.lens.encode(inputs)
    moved = explainer.lens.counterfactual(codes, target, contrast)
    return codes, moved, retrieved(explainer, moved, contrast)


def explain_layer_batch(
    explainer: LensExplainer, inputs: Tensor, target: Tensor, contrast: Tensor, request: Request
) -> Explanation:
    """Explain one batch ``(N, *S)`` that lies on the lens's device, inside the frozen context.

    With z the code of x and z0 that of a real input x0 of the contrast class, the score is integrated along the
    straight line between them, in the layer: a_j for dimension j of the code, which add up to f_c(x) - f_c(x0). The
    map of a named part of the code is sum_j a_j / (z_j - z0_j) times the integrated gradients of z_j between x0 and
    x, and adds up to that part's a_j.
    """
    classifier, lens, spec = explainer.classifier, explainer.lens, explainer.spec
    codes, moved, start = retrieved_counterfactual(explainer, inputs, target, contrast)
    start_codes = lens.encode(start)
    finite_or_refuse({"code": codes, "counterfactual code": moved, "code of a kept input": start_codes})
    line = Segment(start_codes, codes)
    span = max(spec.maximum) - min(spec.minimum)
    edit = Edit(inputs, codes, start_codes, inputs, start, None, start, inputs, Segment(start, inputs))
    # Errors of the parts add up: each is held to a share of what the sum may miss.
    straight = dataclasses.replace(request, path="pixel", tolerance=request.tolerance / _PARTS)
    question = Question(classifier, lens, edit, target, contrast, straight, span)

    def score(points: Tensor, rows: Tensor) -> Tensor:
        logits = classifier.tail(lens.decode(points), inputs[rows])
        return score_margin(logits, target[rows], contrast[rows])

    per_code, _ = question.integrate(line, score=score, batch=request.code_batch)
    # Against f itself at both ends, and not against its tail: what a lens loses shows.
    difference = question.difference
    code_delta = per_code.double().sum(1) - difference
    found: dict[str, Attribution] = {}
    for name in request.attributions:
        if name in ("lig", FEATURE_MAPS):
            # Each part's map is on the way to their sum.
            found |= _chained(question, per_code, difference)
        else:
            found[name] = attribute(question, name)
    path, path_scores = _frames(explainer, line, start, inputs, score, request.code_batch)
    logits = {
        "inputs": classifier(inputs),
        "reconstruction": classifier.tail(lens.decode(codes), inputs),
        "start": classifier(start),
        "decoded": classifier.tail(lens.decode(moved), inputs),
    }
    margins = {name: score_margin(values, target, contrast) for name, values in logits.items()}
    fidelity = _fidelity(explainer, inputs, codes, logits, margins, path_scores, contrast)
    incomplete = {n: (a.delta.float(), a.total.float().abs()) for n, a in found.items() if a.total is not None}
    incomplete["feature_contributions"] = (code_delta.float(), difference.float().abs())
    already = logits["inputs"].argmax(1) == contrast
    problems = problems_of(fidelity, margins, incomplete, already, request.tolerance)
    return Explanation(
        inputs=inputs,
        reconstruction=None,
        edit=None,
        counterfactual=start,
        mask=None,
        target=target,
        contrast=contrast,
        scores=margins["inputs"],
        reconstruction_scores=margins["reconstruction"],
        counterfactual_scores=margins["start"],
        attributions={name: one.values.detach() for name, one in found.items()},
        convergence_delta={name: one.delta.float() for name, one in found.items() if one.delta is not None},
        path=path,
        path_scores=path_scores,
        codes=codes,
        counterfactual_codes=start_codes,
        fidelity=fidelity,
        **shared_fields(explainer, per_code, problems),
    )


def _chained(question: Question, per_code: Tensor, difference: Tensor) -> dict[str, Attribution]:
    """Return the map of each named part of the code, and under ``"lig"`` their sum."""
    edit, lens = question.edit, question.lens
    change = (edit.codes - edit.counterfactual_codes).double()
    # The mean slope of f along the line, which is all that is left where a dimension does not change.
    slopes = torch.where(change == 0, 0.0, per_code.double() / torch.where(change == 0, 1.0, change))
    line = Segment(edit.start, edit.end)
    found: dict[str, Attribution] = {}
    whole = torch.zeros_like(edit.inputs)
    for feature in lens.features:
        dims = list(feature.dims)

        def part(points: Tensor, rows: Tensor, dims: list[int] = dims) -> Tensor:
            return (slopes[rows][:, dims] * lens.encode(points)[:, dims].double()).sum(1)

        values, _ = question.integrate(line, score=part)
        found[f"lig: {feature.name}"] = Attribution(
            values, values.double().flatten(1).sum(1) - per_code[:, dims].double().sum(1)
        )
        whole = whole + values
    delta = whole.double().flatten(1).sum(1) - difference
    return {"lig": Attribution(whole, delta, difference), **found}


def _frames(explainer, line, start, end, score, batch: int) -> tuple[Tensor, Tensor]:
    """Return the kept inputs nearest to points on the line ``(N, T, *S)``, and f_c of these points ``(N, T)``."""
    n = len(end)
    rows = torch.arange(n, device=end.device).repeat_interleave(FRAMES)
    alphas = torch.linspace(0, 1, FRAMES, device=end.device).repeat(n)
    frames, scores = [], []
    for some, at in zip(rows.split(batch), alphas.split(batch), strict=True):
        points = line(some, at)
        frames.append(retrieved(explainer, points))
        scores.append(score(points, some))
    path = torch.cat(frames).view(n, FRAMES, *end.shape[1:]).clone()
    path[:, 0], path[:, -1] = start, end
    return path, torch.cat(scores).view(n, FRAMES)


def _fidelity(
    explainer: LensExplainer,
    inputs: Tensor,
    codes: Tensor,
    logits: dict[str, Tensor],
    margins: dict[str, Tensor],
    path_scores: Tensor,
    contrast: Tensor,
) -> Fidelity:
    real = explainer.classifier.activations(inputs).to(inputs.device).flatten(1)
    rebuilt = explainer.lens.decode(codes).flatten(1)
    # Each row in its own range, so that it does not depend on its batch.
    span = (real.amax(1, keepdim=True) - real.amin(1, keepdim=True)).clamp_min(1e-12)
    predicted = {name: values.argmax(1) for name, values in logits.items()}
    return Fidelity(
        score_gap=(margins["inputs"] - margins["reconstruction"]).abs(),
        mse=(real - rebuilt).square().mean(1),
        ssim=ssim(rebuilt / span, real / span, 1.0),
        agrees=predicted["reconstruction"] == predicted["inputs"],
        flips=predicted["start"] == contrast,
        decoding_flips=predicted["decoded"] == contrast,
        monotone=monotone_share(path_scores),
        coverage=torch.ones_like(margins["inputs"]),
    )
