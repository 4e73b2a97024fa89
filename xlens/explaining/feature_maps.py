"""A map for each named part of the code: the pixels through which it contributes its share of the score."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from xlens.counterfactual.edit import Edit
from xlens.explaining.attributions import Attribution, Question
from xlens.explaining.credit import credited

__all__ = ["LEFT_OUT", "feature_maps"]

#: The map of what the curve does beside the code: of what the lens leaves out of the input.
LEFT_OUT = "lig: not in the code"
#: Segments are doubled at most this often.
_DOUBLINGS = 5


def feature_maps(question: Question) -> dict[str, Attribution]:
    """Return the line integral along the carried curve, shared out over the named parts of the code.

    On a segment from z to z + dz with its middle at x, part j moves its own dimensions alone, and its map gets
    grad f_c(x) times [x(z_m + dz_j / 2) - x(z_m - dz_j / 2)], where z_m is the code in the middle. What is left of
    the segment's chord is no part's: with ``carry="masked"`` what the lens leaves out of the input, which the mask
    takes away too. All maps together are the line integral, and sum to the score difference.
    """
    lens, n = question.lens, len(question.target)
    named = credited(lens.features)
    parts = [dims for _, dims in named]
    rows = torch.arange(n, device=question.target.device)
    difference = question.difference.double()
    allowed = question.request.tolerance * difference.abs().clamp_min(1e-3)
    steps = question.request.n_steps
    maps = _integrated(question, parts, rows, steps)
    for doubling in range(_DOUBLINGS + 1):
        if doubling:
            maps[rows] = _integrated(question, parts, rows, steps)
        delta = maps.flatten(1).sum(1) - difference
        rows = (delta.abs() > allowed).nonzero()[:, 0]
        if not len(rows):
            break
        steps *= 2
    names = [f"lig: {name}" for name, _ in named]
    shares = maps.to(question.edit.inputs.dtype).unbind(1)
    found = {name: Attribution(values) for name, values in zip(names, shares[:-1], strict=True)}
    # What the maps miss together is said of the last, which makes them complete.
    return found | {LEFT_OUT: Attribution(shares[-1], delta, difference)}


def _integrated(question: Question, parts: list[list[int]], rows: Tensor, steps: int) -> Tensor:
    """Return maps ``(M, P + 1, *S)`` of these rows, in float64; the last of what is no part's."""
    edit = question.edit
    maps = torch.zeros(len(rows), len(parts) + 1, *edit.inputs.shape[1:], dtype=torch.float64, device=rows.device)
    for local, before, after in _segments(len(rows), steps, question.request.code_batch, rows.device):
        own, middle = rows[local], (before + after) / 2
        slope = _gradient(question, question.curve(own, middle), own)
        left = question.curve(own, after) - question.curve(own, before)
        code, change = question.codes(own, middle), question.codes(own, after) - question.codes(own, before)
        for p, dims in enumerate(parts):
            half = torch.zeros_like(change)
            half[:, dims] = change[:, dims] / 2
            if not bool(half.any()):
                continue
            moved = _carried(edit, code + half, own, middle) - _carried(edit, code - half, own, middle)
            maps[:, p].index_add_(0, local, (slope * moved).double())
            left = left - moved
        maps[:, -1].index_add_(0, local, (slope * left).double())
    return maps


def _segments(n: int, steps: int, batch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield which of n curves, and where segments begin and end on it, as many at once as fit."""
    local = torch.arange(n, device=device).repeat_interleave(steps)
    index = torch.arange(steps, device=device).repeat(n)
    for some, at in zip(local.split(batch), index.split(batch), strict=True):
        yield some, at / steps, (at + 1) / steps


def _carried(edit: Edit, codes: Tensor, rows: Tensor, alphas: Tensor) -> Tensor:
    return edit.along(lambda _rows, _alphas: codes)(rows, alphas)


def _gradient(question: Question, points: Tensor, rows: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(question.score(points, rows).sum(), points)[0]
