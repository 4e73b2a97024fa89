"""p(s|z*): what is read off the assigned dimensions of the code, by simple functions of one or a few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens_ilvm.columns import BERNOULLI, GAUSSIAN, KINDS, PLACES, Column

__all__ = ["Readout"]

_LEAST_NOISE = -4.0
#: Values on a line begin evenly spread up to here, on both sides of zero.
_FARTHEST = 1.5


class Readout(nn.Module):
    """A linear model for each reading, of the dimension that it is assigned, or of the few.

    Yes or no is logistic, a number is Gaussian with a variance that is learned, and one of several values on a
    line is a softmax of linear functions (which orders the values along it). With several dimensions for each, what
    is read is a weighted sum of them: psi_0 + sum_j psi_j z_j (paper, section 2).

    Args:
        columns: the side information; may be empty until a state is loaded.
        dimensions: how many dimensions of the code each reading has.
    """

    kinds: Tensor
    levels: Tensor

    def __init__(self, columns: Sequence[Column] = (), dimensions: int = 1) -> None:
        super().__init__()
        self._shape(columns, dimensions)

    def _shape(self, columns: Sequence[Column], dimensions: int) -> None:
        self.dimensions = dimensions
        most = max((len(column.levels) for column in columns), default=2)
        levels = torch.zeros(len(columns), most, dtype=torch.float64)
        for row, column in zip(levels, columns, strict=True):
            row[: len(column.levels)] = torch.tensor(column.levels, dtype=torch.float64)
        kinds = [[KINDS.index(column.kind), len(column.levels)] for column in columns]
        self.register_buffer("kinds", torch.tensor(kinds, dtype=torch.long).view(-1, 2))
        self.register_buffer("levels", levels)
        self.readings = [column.reading for column in columns for _ in range(column.width)]
        self.sizes = [len(column.levels) for column in columns for _ in range(column.width)]
        self.ordered = [column.kind == "ordinal" for column in columns for _ in range(column.width)]
        count, widest = len(self.readings), max(self.sizes, default=2)
        slope = torch.ones(count, dtype=torch.float64)
        self.bias = nn.Parameter(torch.zeros(count, dtype=torch.float64))
        self.noise = nn.Parameter(torch.zeros(count, dtype=torch.float64))
        places = torch.zeros(count, widest, dtype=torch.float64)
        for c, (size, reading) in enumerate(zip(self.sizes, self.readings, strict=True)):
            if reading == PLACES:
                places[c, :size] = torch.linspace(-_FARTHEST, _FARTHEST, size)
                slope[c] = ((size - 1) / (2 * _FARTHEST)) ** 2
        # As many Gaussians of equal variance, as wide as they are apart: a softmax of linear functions.
        self.slope, self.places = nn.Parameter(slope), nn.Parameter(places)
        self.offsets = nn.Parameter(-0.5 * slope.unsqueeze(1) * places.square())
        mixed = torch.full((count, dimensions), dimensions**-0.5, dtype=torch.float64)
        self.mix = nn.Parameter(mixed) if dimensions > 1 else None

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "kinds" in state:
            columns = _columns(state[prefix + "kinds"], state[prefix + "levels"])
            dimensions = state[prefix + "mix"].shape[1] if prefix + "mix" in state else 1
            # Not where they are the same: an optimiser may hold these parameters.
            if (columns, dimensions) != (self.columns, self.dimensions):
                device = self.slope.device
                self._shape(columns, dimensions)
                self.to(device)
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def arrange(self, y: Tensor, targets: Tensor) -> None:
        """Bring values that may lie in any order along their line into one in which neighbours are alike.

        Args:
            y: ``(n, width)`` what codes are made of.
            targets: ``(n, C)``, NaN where not observed.
        """
        for c in range(self.outputs):
            if self.readings[c] != PLACES or self.ordered[c]:
                continue
            size, seen = self.sizes[c], ~targets[:, c].isnan()
            own = F.one_hot(targets[seen, c].long(), size).to(y)
            if len(own) and bool((own.sum(0) > 0).all()):
                rank = _along_a_line((own / own.sum(0)).T @ y[seen]).argsort()
                self.places[c, :size] = self.places[c, :size][rank]
                self.offsets[c, :size] = self.offsets[c, :size][rank]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The side information that is read."""
        return _columns(self.kinds, self.levels)

    @property
    def deviations(self) -> Tensor:
        """Standard deviation of each number around what is read, ``(C,)``; it does not fall without end."""
        return self.noise.clamp_min(_LEAST_NOISE).exp()

    @property
    def outputs(self) -> int:
        """How many numbers are read, which is the width of targets."""
        return len(self.readings)

    @property
    def width(self) -> int:
        """How many dimensions of the code are assigned: the first ones."""
        return self.outputs * self.dimensions

    def parts(self) -> list[tuple[int, ...]]:
        """Return the dimensions that each column has."""
        found, first = [], 0
        for column in self.columns:
            size = column.width * self.dimensions
            found.append(tuple(range(first, first + size)))
            first += size
        return found

    def read(self, codes: Tensor) -> Tensor:
        """Return of codes ``(N, d)`` the one number that each reading looks at, ``(N, C)``."""
        assigned = codes[..., : self.width]
        if self.mix is None:
            return assigned
        return (assigned.unflatten(-1, (self.outputs, self.dimensions)) * self.mix).sum(-1)

    def log_likelihood(self, codes: Tensor, targets: Tensor) -> Tensor:
        """Return log p(s_c|z_c), ``(N, C)``, and 0 where nothing is observed.

        Args:
            codes: ``(N, d)``; the assigned dimensions, which are the first, count.
            targets: ``(N, C)``, NaN where not observed; probabilities are allowed where the answer is yes or no.
        """
        seen = ~targets.isnan()
        wanted = torch.where(seen, targets, 0.0).to(codes.dtype)
        values = self.read(codes)
        linear = self.slope * values + self.bias
        each = torch.zeros_like(linear)
        readings = torch.tensor(self.readings, device=codes.device)
        for c in (readings == PLACES).nonzero()[:, 0].tolist():
            logs = self.log_probabilities(self.parameters_of(c), values[:, c], c)
            each[:, c] = logs.gather(1, wanted[:, c : c + 1].long())[:, 0]
        logistic = -F.binary_cross_entropy_with_logits(linear, wanted, reduction="none")
        error = (wanted - linear) / self.deviations
        gaussian = -0.5 * error.square() - self.deviations.log() - 0.5 * math.log(2 * math.pi)
        each = torch.where(readings == BERNOULLI, logistic, each)
        each = torch.where(readings == GAUSSIAN, gaussian, each)
        return torch.where(seen, each, 0.0)

    def loss(self, codes: Tensor, targets: Tensor) -> Tensor:
        """Return -log p(s|z*), a mean over what is observed of each dimension, summed over dimensions."""
        count = (~targets.isnan()).sum(0).clamp_min(1)
        return -(self.log_likelihood(codes, targets).sum(0) / count).sum()

    def parameters_of(self, c: int) -> Tensor:
        """Return what decides log p(s_c|z_c), as one vector."""
        if self.readings[c] == PLACES:
            size = self.sizes[c]
            places = self.places[c, :size]
            if self.ordered[c]:
                # Each above the one before it, however they are moved.
                places = torch.cat([places[:1], places[:1] + F.softplus(4 * places.diff()).cumsum(0) / 4])
            return torch.cat([self.slope[c] * places, self.offsets[c, :size]])
        return torch.stack([self.slope[c], self.bias[c]])

    def log_probabilities(self, parameters: Tensor, values: Tensor, c: int) -> Tensor:
        """Return log p(s_c|z_c) for each value of s_c, ``(N, K)``; of a number its mean, ``(N, 1)``.

        Args:
            parameters: as from :meth:`parameters_of`.
            values: ``(N,)`` z_c.
            c: which dimension.
        """
        if self.readings[c] == PLACES:
            slopes, offsets = parameters.chunk(2)
            return (values.unsqueeze(1) * slopes + offsets).log_softmax(1)
        linear = parameters[0] * values + parameters[1]
        if self.readings[c] == GAUSSIAN:
            return linear.unsqueeze(1)
        return torch.stack([F.logsigmoid(-linear), F.logsigmoid(linear)], 1)


def _columns(kinds: Tensor, levels: Tensor) -> tuple[Column, ...]:
    rows = zip(kinds.tolist(), levels.tolist(), strict=True)
    return tuple(Column(KINDS[kind], tuple(row[:size])) for (kind, size), row in rows)


def _along_a_line(points: Tensor) -> Tensor:
    """Return an order of points ``(K, d)`` in which neighbours are near: along a graph's second mode."""
    distance = torch.cdist(points, points).square()
    likeness = torch.exp(-distance / distance[distance > 0].median().clamp_min(1e-12))
    graph = torch.diag(likeness.sum(1)) - likeness
    return torch.linalg.eigh(graph).eigenvectors[:, min(1, len(points) - 1)].argsort()
