"""One batch with all that is asked of it, and what an attribution of it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from xlens.attr.curve import Curve, Polyline, Segment
from xlens.attr.evaluate import Score
from xlens.attr.integral import Integrator, path_integral
from xlens.attr.paths import PATHS, CodePath, code_path
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import score_margin
from xlens.contracts.capabilities import Waypoints
from xlens.contracts.lens import Lens
from xlens.counterfactual.edit import Edit
from xlens.explaining.added import added_path
from xlens.explaining.request import Request

__all__ = ["Attribution", "Question", "positions"]


@dataclass(frozen=True)
class Attribution:
    """One attribution of a batch.

    Args:
        values: ``(N, *S)``.
        delta: ``(N,)`` sum minus what it should be, or None for a method that promises no sum.
        total: ``(N,)`` what it should sum to, where the explanation does not hold unless it does; else None.
    """

    values: Tensor
    delta: Tensor | None = None
    total: Tensor | None = None


@dataclass(frozen=True)
class Question:
    """One batch with all that is known of it."""

    classifier: Classifier
    lens: Lens
    edit: Edit
    target: Tensor
    contrast: Tensor
    request: Request
    span: float

    @cached_property
    def codes(self) -> Curve:
        """The path between the codes."""
        z0, z = self.edit.counterfactual_codes, self.edit.codes
        path = self.request.path
        if path not in PATHS:
            return added_path(path, z0, z, self.lens.decode, self.score)
        return code_path(cast(CodePath, path), z0, z, self.lens.decode, self.score, self.request.code_batch)

    @cached_property
    def curve(self) -> Curve:
        """What that path becomes on the inputs; with ``path="pixel"``, the straight line."""
        if self.request.path == "pixel":
            return Segment(self.edit.start, self.edit.end)
        if self.waypoints is not None:
            return self.edit.through(Polyline(self.waypoints.decoded, positions(self.waypoints)))
        return self.edit.along(self.codes)

    @property
    def waypoints(self) -> Waypoints | None:
        """The lens's own points between the codes, where it has some and no other path is asked for."""
        return self.edit.waypoints if self.request.straight else None

    @cached_property
    def line_integral(self) -> tuple[Tensor, Tensor]:
        """The line integral along the curve ``(N, *S)`` and its delta ``(N,)``."""
        return self.integrate(self.curve)

    @cached_property
    def difference(self) -> Tensor:
        """f_c at the end of the curve minus f_c at its beginning, ``(N,)``."""
        rows = torch.arange(len(self.target), device=self.target.device)
        ends = []
        for points in (self.edit.end, self.edit.start):
            pairs = zip(points.split(self.request.batch), rows.split(self.request.batch), strict=True)
            ends.append(torch.cat([self.score(part, r) for part, r in pairs]))
        return ends[0] - ends[1]

    def score(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return f_c of points ``(M, *S)`` that belong to these rows."""
        return score_margin(self.classifier(points), self.target[rows], self.contrast[rows])

    def integrate(
        self,
        curve: Curve,
        integrator: Integrator = "lig",
        score: Score | None = None,
        n: int | None = None,
        batch: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return a path integral and its delta; of another score, of other curves, where they are given."""
        return path_integral(
            score or self.score,
            curve,
            n or len(self.target),
            device=self.target.device,
            n_steps=self.request.n_steps,
            tolerance=self.request.tolerance,
            internal_batch_size=batch or self.request.batch,
            integrator=integrator,
        )


def positions(waypoints: Waypoints) -> Tensor:
    """Return where on a path its points lie ``(N, T)``: equally far apart, unless the code stays the same."""
    moves = (waypoints.codes.diff(dim=1) != 0).any(2).float()
    gone = torch.nn.functional.pad(moves.cumsum(1), (1, 0))
    even = torch.linspace(0, 1, gone.shape[1], dtype=gone.dtype, device=gone.device)
    return torch.where(gone[:, -1:] > 0, gone / gone[:, -1:].clamp_min(1), even)
