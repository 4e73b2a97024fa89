"""Rows of data that a lens keeps: buffers of as many rows as the state that is loaded has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Kept", "nearest_kept", "spread_over_classes"]


class Kept(nn.Module):
    """Buffers whose number of rows is that of the state that is loaded."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            if (stored := state.get(prefix + name)) is not None:
                setattr(self, name, buffer.new_empty(stored.shape))
        super()._load_from_state_dict(state, prefix, *rest)


def spread_over_classes(classes: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return up to `most` positions in which every class of ``(n,)`` has its even share, at random.

    >>> import torch
    >>> found = spread_over_classes(torch.tensor([0, 0, 0, 0, 1]), 2, torch.Generator().manual_seed(0))
    >>> len(found), 4 in found
    (2, True)
    """
    order = torch.randperm(len(classes), generator=generator)
    rank = torch.empty(len(classes), dtype=torch.long)
    for c in classes.unique():
        rows = order[classes[order] == c]
        rank[rows] = torch.arange(len(rows))
    return rank.argsort(stable=True)[:most].sort().values


def nearest_kept(distance: Tensor, before: Tensor | None, logits: Tensor, classes: Tensor | None) -> Tensor:
    """Return positions ``(N,)`` of the kept rows that are nearest to points.

    Args:
        distance: ``(N, B)`` from each point to each kept row.
        before: ``(N, B)`` distances that count first: only the nearest tenth of what is kept is looked at. None
            looks at all.
        logits: ``(B, K)`` what the classifier says of the kept rows.
        classes: ``(N,)`` the class that it must put each in; where there is none, its surest of it. None for any.
    """
    if before is not None:
        within = before.kthvalue(max(1, distance.shape[1] // 10), 1, keepdim=True).values
        distance = distance.masked_fill(before > within, torch.inf)
    if classes is not None:
        right = logits.argmax(1) == classes.unsqueeze(1)
        distance = distance.masked_fill(~right, torch.inf)
        margin = logits - logits.amax(1, keepdim=True)
        none = (~right.any(1)).nonzero()[:, 0]
        distance[none] = -margin[:, classes[none]].T.double()
    return distance.argmin(1)
