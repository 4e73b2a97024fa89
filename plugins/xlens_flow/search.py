"""The search for the least height on a ladder that convinces, by interpolation: each try is a run of the ODE."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["least_height"]

#: Share of the ladder at which the search begins.
_BEGIN = 0.6
#: A try is no nearer to an end of what is still open than this share of it.
_INSIDE = 0.15

#: The line is trusted over so many times the resolution.
_TRUSTED = 4

#: Where not even the top convinces, shares of it that are tried besides: more need not be more convincing.
_ELSEWHERE = (0.8, 0.4, 0.9, 0.2)

#: Maps rows ``(m,)`` and heights ``(m,)`` to by how much each convinces more than it has to, and to what is best
#: where none does, ``(m,)`` each.
Slack = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def least_height(slack: Slack, at_zero: Tensor, top: float, resolution: float, tries: int) -> Tensor:
    """Return the least height found whose slack is 0 or more, ``(n,)``; where there is none, the best tried.

    The slack is taken for a line between the nearest heights below and above, of which the one convinces and the
    other does not. A row is done when these are near each other, and the line says that nothing convinces that is
    more than `resolution` lower.

    Args:
        slack: by how much a height convinces more than it has to, and how good it is where it does not; asked of
            open rows only.
        at_zero: ``(n,)`` the slack at height 0, which is known beforehand; rows that convince there stay there.
        top: largest height.
        resolution: how much larger than need be a height may be.
        tries: at most.

    >>> import torch
    >>> goals = torch.tensor([-1.0, 0.9, 2.0, 9.0])
    >>> least_height(lambda rows, h: (h - goals[rows], h), -goals, 4.0, 0.25, 6)
    tensor([0.0000, 1.0250, 2.0400, 4.0000])
    """
    low, high = torch.zeros_like(at_zero), torch.full_like(at_zero, top)
    below, above = at_zero.clone(), torch.full_like(at_zero, torch.nan)
    best, most = torch.zeros_like(at_zero), torch.full_like(at_zero, -torch.inf)
    rows = (at_zero < 0).nonzero()[:, 0]
    heights = torch.full_like(at_zero, _BEGIN * top)
    for attempt in range(tries):
        if not len(rows):
            break
        tried = heights[rows]
        found, score = slack(rows, tried)
        there = found >= 0
        reached = rows[there]
        high[reached], above[reached], best[reached] = tried[there], found[there], tried[there]
        most[reached] = torch.inf
        missed = rows[~there]
        better = ~there & (score > most[rows])
        best[rows[better]], most[rows[better]] = tried[better], score[better]
        before, old = low.clone(), below.clone()
        low[missed], below[missed] = torch.maximum(low[missed], tried[~there]), found[~there]
        # On the line: between both ends, or on from the last two where nothing convinces yet.
        between = low - below * (high - low) / (above - below)
        on = low - below * (low - before) / (below - old).clamp_min(1e-6)
        guess = torch.where(above.isnan(), on, between)
        room = _INSIDE * (high - low)
        heights = torch.maximum(torch.minimum(guess + resolution / 2, high - room), low + room)
        # Where nothing convinces yet, the top is open too.
        heights = torch.where(above.isnan() & (guess + resolution / 2 > high - room), high, heights)
        # Where not even the top does, elsewhere; what is found there has no bracket.
        elsewhere = top * _ELSEWHERE[attempt % len(_ELSEWHERE)]
        heights = torch.where(above.isnan() & (low >= top), elsewhere, heights)
        reach = torch.where(high - low <= _TRUSTED * resolution, guess, low)
        done = ~above.isnan() & ((high <= low) | (high - reach <= resolution))
        rows = rows[~done[rows]]
    return best
