"""The attributions that an explanation can carry: xlens's own, and Captum's by name."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xlens.attr.captum_methods import captum_attribution, captum_names, promises_completeness
from xlens.attr.curve import Segment
from xlens.attr.evaluate import widest_float
from xlens.attr.integral import Integrator
from xlens.attr.paths import guided
from xlens.attr.shift import latent_shift
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import score_margin
from xlens.contracts.additions import AskedMap
from xlens.contracts.capabilities import Waypoints
from xlens.explaining import papers
from xlens.explaining.added import added_map
from xlens.explaining.questions import Attribution, Question, positions
from xlens.explaining.request import _OPTIONS, DIVERGENCES, FRAMES, OWN, References

__all__ = ["Attribution", "Margin", "Question", "attribute", "frames_along", "positions", "shared_out"]

#: Whose sum is the score difference, or the explanation does not hold.
_COMPLETE = ("lig", "ig_counterfactual", "idgi", "guided_ig", "ig_ensemble")


class Margin(nn.Module):
    """f_c as a module that holds the model, as Captum's methods of layers and hooks want it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model
        self._classifier = [classifier]

    def forward(self, points: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Return the score ``(N,)``."""
        (classifier,) = self._classifier
        return score_margin(classifier(points), target, contrast)


def attribute(question: Question, name: str) -> Attribution:
    """Attribute the score difference of one batch to its pixels."""
    edit = question.edit
    straight = Segment(edit.start, edit.end)
    if name == "ig_ensemble":
        return _ensemble(question, straight)
    if name == "latent_shift":
        return _shifted(question)
    if name == "guided_ig":
        return _guided(question)
    if name == "difference":
        return papers.difference(question)
    if name == "accumulated":
        return papers.accumulated(question)
    if name in DIVERGENCES:
        return papers.divergence(question, DIVERGENCES[name])
    if name == "ig_counterfactual":
        found = question.integrate(straight)
    elif name == "lig":
        found = question.line_integral
    elif name in OWN:
        found = question.integrate(question.curve, cast(Integrator, name))
    elif name in captum_names():
        return _captum(question, name)
    else:
        return _added(question, name)
    return _summed(*found, name in _COMPLETE)


def shared_out(question: Question, waypoints: Waypoints) -> tuple[Tensor, Tensor]:
    """Return what each dimension of the code contributes ``(N, d)``, by waypoints, and what that misses ``(N,)``.

    The dimensions that change from one point to the next share what the score changes by, in proportion to how far
    they move.
    """
    batch, rows = question.request.batch, torch.arange(len(question.target), device=question.target.device)

    def scores(points: Tensor) -> Tensor:
        pairs = zip(points.split(batch), rows.split(batch), strict=True)
        return torch.cat([question.score(part, some) for part, some in pairs])

    codes = waypoints.codes
    values = torch.zeros_like(codes[:, 0])
    with torch.no_grad():
        found = torch.stack([scores(points) for points in waypoints.decoded.unbind(1)], 1)
        for piece in range(codes.shape[1] - 1):
            moves = (codes[:, piece + 1] - codes[:, piece]).abs()
            change = found[:, piece + 1] - found[:, piece]
            values += moves / moves.sum(1, keepdim=True).clamp_min(1e-12) * change.unsqueeze(1)
    return values, values.double().sum(1) - (found[:, -1] - found[:, 0]).double()


def frames_along(question: Question) -> tuple[Tensor, Tensor]:
    """Return frames along the curve ``(N, T, *S)`` and the score on each ``(N, T)``."""
    inputs, batch = question.edit.inputs, question.request.batch
    n = len(inputs)
    rows = torch.arange(n, device=inputs.device).repeat_interleave(FRAMES)
    alphas = torch.linspace(0, 1, FRAMES, device=inputs.device).repeat(n)
    pairs = zip(rows.split(batch), alphas.split(batch), strict=True)
    frames = torch.cat([question.curve(r, a) for r, a in pairs])
    pairs = zip(frames.split(batch), rows.split(batch), strict=True)
    scores = torch.cat([question.score(points, r) for points, r in pairs])
    return frames.view(n, FRAMES, *inputs.shape[1:]), scores.view(n, FRAMES)


def _summed(values: Tensor, delta: Tensor, promised: bool = True) -> Attribution:
    total = values.flatten(1).to(delta.dtype).sum(1) - delta
    return Attribution(values, delta, total if promised else None)


def _guided(question: Question) -> Attribution:
    """Integrate along pixel paths, a few inputs at a time, because each keeps every point of its path."""
    rows = torch.arange(len(question.target), device=question.target.device)
    request, edit, parts = question.request, question.edit, []
    for few in rows.split(max(1, request.batch // 8)):

        def score(points: Tensor, local: Tensor, few: Tensor = few) -> Tensor:
            return question.score(points, few[local])

        start, end = edit.start[few], edit.end[few]
        line = guided(start, end, score, n_steps=request.n_steps, batch=request.batch)
        parts.append(question.integrate(line, score=score, n=len(few), batch=request.batch))
    values, deltas = (torch.cat(column) for column in zip(*parts, strict=True))
    return _summed(values, deltas)


def _ensemble(question: Question, straight: Segment) -> Attribution:
    """Return the mean of integrals from several counterfactuals, as expected gradients take it over baselines."""
    references = question.request.references
    k = question.request.attributions["ig_ensemble"].get("k", _OPTIONS["ig_ensemble"]["k"])
    # Nearest to what the lens makes of the input: nearest to the input itself are the classifier's borderline
    # cases.
    real = cast(References, references).nearest(question.edit.decoded, question.contrast, k).unbind(1)
    starts = (straight.start, *real)
    parts = [question.integrate(Segment(start, straight.end)) for start in starts]
    values, deltas = (torch.stack(column).mean(0) for column in zip(*parts, strict=True))
    return _summed(values, deltas)


def _shifted(question: Question) -> Attribution:
    rows = torch.arange(len(question.target), device=question.target.device)
    heat = []
    # Each walk keeps its frames.
    for part in rows.split(max(1, question.request.code_batch // 8)):

        def score(points: Tensor, part: Tensor = part) -> Tensor:
            return question.score(points, part)

        shift = latent_shift(
            score,
            question.lens.decode,
            question.edit.codes[part],
            span=question.span,
        )
        heat.append(shift.heatmap)
    return Attribution(torch.cat(heat))


def _added(question: Question, name: str) -> Attribution:
    """Return a third party's map; its delta where it promises the sum."""
    edit = question.edit
    asked = AskedMap(
        inputs=edit.end,
        counterfactuals=edit.start,
        codes=edit.codes,
        counterfactual_codes=edit.counterfactual_codes,
        target=question.target,
        contrast=question.contrast,
        score=question.score,
        curve=question.curve,
        n_steps=question.request.n_steps,
    )
    values, complete = added_map(name, question.request.attributions[name], asked)
    if not complete:
        return Attribution(values)
    wide = values.to(widest_float(values.device))
    return Attribution(values, wide.flatten(1).sum(1) - question.difference)


def _captum(question: Question, name: str) -> Attribution:
    values = captum_attribution(
        name,
        Margin(question.classifier),
        question.edit.end,
        question.edit.start,
        (question.target, question.contrast),
        options=question.request.attributions[name],
        batch=question.request.batch,
    )
    if not promises_completeness(name) or "baselines" in question.request.attributions[name]:
        return Attribution(values)
    wide = values.to(widest_float(values.device))
    return Attribution(values, wide.flatten(1).sum(1) - question.difference)
