"""A score along a batch of curves, evaluated in batches that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from xlens.attr.curve import Curve
from xlens.errors import ModelError, OptionError

__all__ = ["Evaluation", "Score", "widest_float"]

#: Maps points ``(M, *S)`` and their rows ``(M,)`` to scores ``(M,)``.
Score = Callable[[Tensor, Tensor], Tensor]


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has no float64."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return torch.float32
    return torch.float64


@dataclass(frozen=True)
class Evaluation:
    """A score along some of the curves of a batch.

    Positions are pairs of ``(M,)`` tensors: which of the `members`, and where on its curve.

    Args:
        score: the function that is explained.
        curve: the curves.
        members: ``(G,)`` rows of the batch that are integrated together.
        batch: points evaluated at once.
        wide: dtype of sums.
    """

    score: Score
    curve: Curve
    members: Tensor
    batch: int
    wide: torch.dtype

    @property
    def device(self) -> torch.device:
        """Where positions are."""
        return self.members.device

    def points(self, local: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``; the generator builds no graph, and sees no more than a batch at once."""
        with torch.no_grad():
            if len(local) <= self.batch:
                return self.curve(self.members[local], alphas)
            pairs = zip(local.split(self.batch), alphas.split(self.batch), strict=True)
            return torch.cat([self.curve(self.members[rows], at) for rows, at in pairs])

    def scores_of(self, local: Tensor, points: Tensor) -> Tensor:
        """Return scores ``(M,)`` of points that are known already."""
        with torch.no_grad():
            return _finite("score", self.score(points, self.members[local]), self.members[local]).to(self.wide)

    def scores(self, local: Tensor, alphas: Tensor) -> Tensor:
        """Return scores ``(M,)`` of any number of positions."""
        pairs = zip(local.split(self.batch), alphas.split(self.batch), strict=True)
        return torch.cat([self.scores_of(rows, self.points(rows, at)) for rows, at in pairs])

    def gradients(self, local: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores ``(M,)`` and their gradients ``(M, *S)`` at points that fit into one batch."""
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            values = self.score(points, self.members[local])
            if not values.requires_grad:
                raise ModelError(
                    "path_integral: the score does not depend on its input in a way that autograd can follow",
                    do="explain a function of torch operations that does not detach or leave torch on the way",
                )
            (gradients,) = torch.autograd.grad(values.sum(), points)
        _finite("score", values, self.members[local])
        _finite("score's gradient", gradients, self.members[local])
        return values.detach().to(self.wide), gradients

    def tangents(self, local: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
        """Return points and the curve's exact velocity there, both ``(M, *S)``, by forward-mode autograd.

        Raises:
            OptionError: the generator has an operation without a forward-mode derivative.
        """
        try:
            with torch.no_grad(), forward_ad.dual_level():
                moving = forward_ad.make_dual(alphas, torch.ones_like(alphas))
                points, velocity = forward_ad.unpack_dual(self.curve(self.members[local], moving))
                if velocity is None:
                    raise _no_velocity("the generator's output does not follow its input")
                return points.clone(), velocity.clone()
        except NotImplementedError as fault:
            raise _no_velocity(str(fault).splitlines()[0]) from fault


def _finite(what: str, values: Tensor, rows: Tensor) -> Tensor:
    """Return the values, or say on which input they are not finite."""
    if bool(values.isfinite().all()):
        return values
    row = int(rows[~values.flatten(1 if values.dim() > 1 else 0).isfinite().view(len(rows), -1).all(1)][0])
    raise ModelError(
        f"path_integral: the {what} is not finite",
        given=f"NaN or infinity on the path of input {row}",
        do="check what the model does there: a logarithm or root of what is not positive, an overflow in half "
        "precision",
    )


def _no_velocity(why: str) -> OptionError:
    return OptionError(
        "path_integral: the generator has no forward-mode derivative, which this quadrature needs",
        given=why,
        do="use method='midpoint', which needs the generator's values only",
    )
