"""A map for each named part of a code that is read off a hidden layer, all of them on one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlens.attr.curve import Segment
from xlens.attr.evaluate import Score
from xlens.classifier.margins import score_margin
from xlens.explaining.attributions import Attribution, Question
from xlens.explaining.credit import credited

__all__ = ["layer_maps", "through_layer"]

#: A segment is halved at most this many times.
_DEEPEST = 4


def layer_maps(question: Question, per_code: Tensor) -> dict[str, Attribution]:
    """Return the map of each named part of the code, and under ``"lig"`` their sum.

    With a_j what dimension j contributes, and the code z between x0 and x, a part's map is the integrated gradient
    of s(x) = sum_j a_j / (z_j - z0_j) z_j(x) over its dimensions. Each segment contributes its chord c times the
    gradient g at its middle. What c g misses of the change of s there is shared out over the inputs in proportion
    to |c g|, which makes every part complete; where it is more than the tolerance, relative to the sum of |c g|
    that the whole way would have if it went on as there, the segment is halved first. All parts are read off the
    same passes of the classifier.

    So the maps are complete by construction, and the verdict "complete" certifies their sum, not the quadrature: by
    how much a map would change with more segments is not seen in it. On one leaf at 224 pixels 16 segments missed
    up to 16.5% of the score difference before it was shared out, and the maps differ by 3% of the sum of absolute
    values from those of 192 segments (docs/benchmarks/size.md).

    Args:
        question: one batch with all that is asked of it.
        per_code: ``(N, d)`` what each dimension of the code contributes.
    """
    change = (question.edit.codes - question.edit.counterfactual_codes).double()
    # The mean slope of the classifier along the line, which is all that is left where a dimension does not change.
    slopes = _mean_slopes(per_code, change)
    # Nobody has taught the lens what a part without dimensions means.
    named = [(name, list(dims)) for name, dims in credited(question.lens.features) if dims]

    def scores(points: Tensor, rows: Tensor) -> Tensor:
        weighed = slopes[rows] * question.lens.encode(points).double()
        return torch.stack([weighed[:, dims].sum(1) for _, dims in named], 1)

    maps = _maps(question, scores, len(named))
    found: dict[str, Attribution] = {}
    for (name, dims), values in zip(named, maps.unbind(1), strict=True):
        told = values.to(question.edit.inputs.dtype)
        found[f"lig: {name}"] = Attribution(told, _sum(told) - per_code[:, dims].double().sum(1))
    return {"lig": _whole(question, maps), **found}


def through_layer(question: Question) -> dict[str, Attribution]:
    """Return one map for all parts of the code, under ``"lig"``: through the activations, and not through codes."""
    edit, classifier = question.edit, question.classifier
    ends = [classifier.activations(end).to(end.device) for end in (edit.start, edit.end)]

    def score(points: Tensor, rows: Tensor) -> Tensor:
        logits = classifier.tail(points, edit.inputs[rows])
        return score_margin(logits, question.target[rows], question.contrast[rows])

    values, _ = question.integrate(Segment(*ends), score=score)
    slopes = _mean_slopes(values, (ends[1] - ends[0]).double())

    def chained(points: Tensor, rows: Tensor) -> Tensor:
        weighed = slopes[rows] * classifier.activations(points).to(points.device).double()
        return weighed.flatten(1).sum(1, keepdim=True)

    return {"lig": _whole(question, _maps(question, chained, 1))}


def _mean_slopes(contributions: Tensor, change: Tensor) -> Tensor:
    return torch.where(change == 0, 0.0, contributions.double() / torch.where(change == 0, 1.0, change))


def _whole(question: Question, maps: Tensor) -> Attribution:
    whole = maps.sum(1).to(question.edit.inputs.dtype)
    return Attribution(whole, _sum(whole) - question.difference, question.difference)


def _maps(question: Question, scores: Score, parts: int) -> Tensor:
    """Return the maps ``(N, P, *S)`` of P parts whose scores ``(M, P)`` are those of points, in float64."""
    edit, request = question.edit, question.request
    way = _Way(edit.start, edit.end, scores)
    n, device = len(edit.end), edit.end.device
    maps = torch.zeros(n, parts, *edit.end.shape[1:], dtype=torch.float64, device=device)
    rows = torch.arange(n, device=device).repeat_interleave(request.n_steps)
    low = torch.arange(request.n_steps, device=device).repeat(n).double() / request.n_steps
    length = 1 / request.n_steps
    for depth in range(_DEEPEST + 1):
        again = []
        for some, at in zip(rows.split(request.batch), low.split(request.batch), strict=True):
            values, inexact = way.contributions(some, at, length, request.tolerance)
            refined = inexact & (depth < _DEEPEST)
            for row, value in zip(some[~refined].tolist(), values[~refined], strict=True):
                maps[row] += value
            again.append(refined)
        chosen = torch.cat(again)
        if not bool(chosen.any()):
            break
        length /= 2
        rows, low = rows[chosen].repeat_interleave(2), low[chosen].repeat_interleave(2)
        low[1::2] += length
    return maps


class _Way:
    """The straight line from the counterfactual to the input, with the score of each part along it."""

    def __init__(self, start: Tensor, end: Tensor, scores: Score) -> None:
        self._start, self._end, self.scores = start, end, scores

    def contributions(self, rows: Tensor, low: Tensor, length: float, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return what segments contribute to each part ``(M, P, *S)``, and where they should be halved ``(M,)``."""
        before, after = self._ends(rows, low, length)
        middle = self._at(rows, low + length / 2).requires_grad_()
        with torch.enable_grad():
            scores = self.scores(middle, rows)
            last = scores.shape[1] - 1
            gradients = [
                torch.autograd.grad(scores[:, p].sum(), middle, retain_graph=p < last)[0] for p in range(last + 1)
            ]
        chord = length * (self._end[rows].double() - self._start[rows].double()).unsqueeze(1)
        values = chord * torch.stack(gradients, 1)
        size = values.flatten(2).abs().sum(2)
        missed = after - before - values.flatten(2).sum(2)
        # Where no gradient says anything, what changes is all that can be told apart.
        share = torch.where(_wide(size, values) > 0, values.abs(), chord.abs())
        total = share.flatten(2).sum(2).clamp_min(torch.finfo(torch.float64).tiny)
        values = values + _wide(missed / total, values) * share
        return values, (missed.abs() > tolerance * size / length).any(1)

    @torch.no_grad()
    def _ends(self, rows: Tensor, low: Tensor, length: float) -> tuple[Tensor, Tensor]:
        """Return the scores ``(M, P)`` where segments begin and end; where they touch, they share that point."""
        places = torch.stack([rows.repeat(2).double(), torch.cat([low, low + length])], 1)
        known, where = places.unique(dim=0, return_inverse=True)
        at = known[:, 0].long()
        pairs = zip(at.split(len(rows)), known[:, 1].split(len(rows)), strict=True)
        scores = [self.scores(self._at(r, a), r) for r, a in pairs]
        before, after = torch.cat(scores)[where].chunk(2)
        return before, after

    def _at(self, rows: Tensor, alphas: Tensor) -> Tensor:
        start, end = self._start[rows], self._end[rows]
        return torch.lerp(start, end, alphas.to(start.dtype).view(-1, *([1] * (start.dim() - 1))))


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(*values.shape, *([1] * (like.dim() - 2)))


def _sum(values: Tensor) -> Any:
    return values.double().flatten(1).sum(1)
