"""The line integral of a gradient by chords and midpoints, refined until it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from xlens.attr.evaluate import Evaluation

__all__ = ["chord_integral", "decision_edges", "uniform_edges"]

#: A segment is halved at most this many times, which bounds the work at kinks of the classifier.
_DEEPEST = 8
#: Share of the steps that decision placement spreads evenly, so that no part of a curve is skipped.
_EVEN = 0.25


def uniform_edges(evaluation: Evaluation, n_steps: int) -> Tensor:
    """Return ``(G, n_steps + 1)`` positions at equal distances."""
    edges = torch.linspace(0, 1, n_steps + 1, device=evaluation.device, dtype=evaluation.wide)
    return edges.expand(len(evaluation.members), -1)


def decision_edges(evaluation: Evaluation, n_steps: int) -> Tensor:
    """Return ``(G, n_steps + 1)`` positions between which the score changes by about equal amounts.

    A survey of the scores at `n_steps` positions decides, as in Integrated Decision Gradients (Walker et al. 2023).
    """
    even = uniform_edges(evaluation, n_steps)
    n = len(evaluation.members)
    local = torch.arange(n, device=evaluation.device).repeat_interleave(n_steps + 1)
    change = evaluation.scores(local, even.reshape(-1)).view(n, -1).diff(dim=1).abs()
    share = change / change.sum(1, keepdim=True).clamp_min(torch.finfo(change.dtype).tiny)
    share = (1 - _EVEN) * share + _EVEN / n_steps
    # Where the score does not change at all, the shares sum to less than one and even steps are right.
    share = torch.where(change.sum(1, keepdim=True) > 0, share, torch.full_like(share, 1 / n_steps))
    reached = torch.nn.functional.pad(share.cumsum(1), (1, 0))
    wanted = even * reached[:, -1:]
    index = torch.searchsorted(reached, wanted.contiguous(), right=True).clamp(1, n_steps)
    low, high = reached.gather(1, index - 1), reached.gather(1, index)
    inside = (wanted - low) / (high - low)
    edges = (even.gather(1, index - 1) + inside / n_steps).clamp(0, 1)
    edges[:, 0], edges[:, -1] = 0, 1
    return edges


def chord_integral(evaluation: Evaluation, edges: Tensor, difference: Tensor, tolerance: float | None) -> Tensor:
    """Sum chord times gradient at the middle over segments of G curves, ``(G, *S)``.

    A_k = (x_{k+1} - x_k) * grad f(x(a_k + h/2)). The first pass costs one gradient a segment and no score of
    its own: only on curves whose sum misses `difference` by more than the tolerance are segments judged one
    by one, and those whose own error exceeds their share are halved, up to eight times.

    Args:
        evaluation: score and curves.
        edges: ``(G, n + 1)`` positions to begin with.
        difference: ``(G,)`` f(x(1)) - f(x(0)).
        tolerance: largest error relative to `difference`, or None for one pass.
    """
    g, steps = edges.shape[0], edges.shape[1] - 1
    local = torch.arange(g, device=edges.device)
    segments = _Segments(local.repeat_interleave(steps), edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1))
    sums, totals, middles = _sum_of(evaluation, segments, g)
    if tolerance is None:
        return sums
    # A curve along which the score hardly changes is held to an absolute error.
    allowed = tolerance * difference.abs().clamp_min(1e-3)
    missed = (_total(sums) - difference).abs() > allowed
    if not bool(missed.any()):
        return sums
    at_edges = torch.zeros_like(edges)
    rows = local[missed].repeat_interleave(steps + 1)
    at_edges[missed] = evaluation.scores(rows, edges[missed].reshape(-1)).view(-1, steps + 1)
    scored = _Scored(segments, at_edges[:, :-1].reshape(-1), at_edges[:, 1:].reshape(-1), middles)
    inexact = scored.part(missed[segments.rows] & scored.inexact(totals, allowed))
    sums -= _sum_of(evaluation, inexact.segments, g, like=sums)[0]
    return _refined(evaluation, inexact, sums, difference, allowed)


def _refined(evaluation: Evaluation, inexact: _Scored, sums: Tensor, difference: Tensor, allowed: Tensor) -> Tensor:
    """Halve what is inexact, and its halves, until each curve's sum is within what is allowed."""
    for depth in range(_DEEPEST):
        if not len(inexact.segments.rows):
            break
        halves = inexact.halved()
        pending = torch.zeros_like(sums)
        refused: list[Tensor] = []
        middles: list[Tensor] = []
        for part, values, at in _contributions(evaluation, halves.segments):
            start = sum(map(len, refused))
            bad = halves.part(slice(start, start + len(at))).inexact(_total(values), allowed)
            sums.index_add_(0, part.rows[~bad], values[~bad])
            pending.index_add_(0, part.rows[bad], values[bad])
            refused.append(bad)
            middles.append(at)
        # A curve is done when its errors cancel, even where single segments are inexact.
        done = (_total(sums) + _total(pending) - difference).abs() <= allowed
        if depth == _DEEPEST - 1:
            done = torch.ones_like(done)
        sums[done] += pending[done]
        halves = _Scored(halves.segments, halves.at_low, halves.at_high, torch.cat(middles))
        inexact = halves.part(torch.cat(refused) & ~done[halves.segments.rows])
    return sums


@dataclass(frozen=True)
class _Segments:
    """Pieces of curves: ``(M,)`` local rows, and where each piece begins and ends."""

    rows: Tensor
    low: Tensor
    high: Tensor

    def part(self, chosen: slice | Tensor) -> _Segments:
        return _Segments(self.rows[chosen], self.low[chosen], self.high[chosen])


@dataclass(frozen=True)
class _Scored:
    """Segments with the score at their beginning, end and middle, each ``(M,)``."""

    segments: _Segments
    at_low: Tensor
    at_high: Tensor
    at_middle: Tensor

    def inexact(self, totals: Tensor, allowed: Tensor) -> Tensor:
        """Where a segment's own error exceeds its share of what its curve is allowed."""
        length = self.segments.high - self.segments.low
        return (totals - (self.at_high - self.at_low)).abs() > allowed[self.segments.rows] * length

    def part(self, chosen: slice | Tensor) -> _Scored:
        return _Scored(
            self.segments.part(chosen), self.at_low[chosen], self.at_high[chosen], self.at_middle[chosen]
        )

    def halved(self) -> _Scored:
        """Return the halves; their middles are not known yet, and stand as NaN."""
        s = self.segments
        middle = (s.low + s.high) / 2
        halves = _Segments(s.rows.repeat_interleave(2), _interleaved(s.low, middle), _interleaved(middle, s.high))
        at_low = _interleaved(self.at_low, self.at_middle)
        at_high = _interleaved(self.at_middle, self.at_high)
        return _Scored(halves, at_low, at_high, torch.full_like(at_low, torch.nan))


def _sum_of(
    evaluation: Evaluation, segments: _Segments, g: int, like: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what segments contribute to their curves ``(G, *S)``, and per segment its total and middle score."""
    sums = None if like is None else torch.zeros_like(like)
    totals, middles = [segments.low.new_empty(0)], [segments.low.new_empty(0)]
    for part, values, at in _contributions(evaluation, segments):
        if sums is None:
            sums = values.new_zeros(g, *values.shape[1:])
        sums.index_add_(0, part.rows, values)
        totals.append(_total(values))
        middles.append(at)
    return cast(Tensor, sums), torch.cat(totals), torch.cat(middles)


def _contributions(evaluation: Evaluation, segments: _Segments) -> Iterator[tuple[_Segments, Tensor, Tensor]]:
    """Yield, batch by batch: segments, what each contributes ``(M, *S)``, and its score in the middle."""
    for start in range(0, len(segments.rows), evaluation.batch):
        part = segments.part(slice(start, start + evaluation.batch))
        middle = evaluation.points(part.rows, (part.low + part.high) / 2)
        at, gradient = evaluation.gradients(part.rows, middle)
        del middle
        chords = _chords(evaluation, part)
        yield part, chords.mul_(gradient), at


def _chords(evaluation: Evaluation, part: _Segments) -> Tensor:
    # A segment that begins where the one before it ends shares that point.
    fresh = torch.ones_like(part.rows, dtype=torch.bool)
    fresh[1:] = (part.rows[1:] != part.rows[:-1]) | (part.low[1:] != part.high[:-1])
    end = torch.arange(len(fresh), device=fresh.device) + fresh.cumsum(0)
    rows, edges = part.rows.new_empty(int(end[-1]) + 1), part.low.new_empty(int(end[-1]) + 1)
    rows[end], edges[end] = part.rows, part.high
    rows[end - 1], edges[end - 1] = part.rows, part.low
    points = evaluation.points(rows, edges)
    # The difference of two rounded points is exact in the wide dtype, so that chords add up to the whole way.
    return points[end].to(evaluation.wide).sub_(points[end - 1])


def _interleaved(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], 1).reshape(-1)


def _total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
