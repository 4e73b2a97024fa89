"""The adversarial test: how far a small perturbation moves a reconstruction toward another image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.errors import DataError, OptionError

__all__ = ["Attack", "reconstruction_attack"]


@dataclass(frozen=True)
class Attack:
    """Perturbations, and what they did to the reconstructions.

    Args:
        perturbations: ``(N, *S)``.
        reconstructions: ``(N, *S)`` of the perturbed inputs.
        size: ``(N,)`` root mean square of the perturbation.
        before, after: ``(N,)`` mean squared distance of the reconstruction to the aim.
    """

    perturbations: Tensor
    reconstructions: Tensor
    size: Tensor
    before: Tensor
    after: Tensor

    @property
    def moved(self) -> Tensor:
        """Share of the squared distance to the aim that was closed, ``(N,)``; 0 is a lens that did not move."""
        return 1 - self.after / self.before.clamp_min(1e-12)


@torch.enable_grad()
def reconstruction_attack(
    reconstruct: Callable[[Tensor], Tensor],
    inputs: Tensor,
    aims: Tensor,
    *,
    weight: float = 0.01,
    steps: int = 500,
    learning_rate: float = 0.01,
) -> Attack:
    """Reconstruction attack: small perturbations that make each reconstruction look like another image.

    Minimises, per row, MSE(reconstruct(x + d), aim) + weight * RMS(d) by Adam from d = 0. Means and not sums are
    taken over pixels, so that one weight suits every size.

    Args:
        reconstruct: maps inputs ``(N, *S)`` to reconstructions ``(N, *S)``, row by row; gradients flow.
        inputs: ``(N, *S)`` x.
        aims: ``(N, *S)`` images of other classes.
        weight: price of the perturbation; less makes a stronger attack.
        steps: steps of Adam.
        learning_rate: its rate, in the units of the inputs.

    Raises:
        DataError: inputs and aims of different shapes.
        OptionError: a number out of range, or a `reconstruct` without a gradient, which nothing could attack.

    References:
        Gondim-Ribeiro, Tabacof, Valle (2018), Adversarial Attacks on Variational Autoencoders.

    >>> import torch
    >>> x, aim = torch.zeros(1, 4), torch.ones(1, 4)
    >>> round(float(reconstruction_attack(lambda x: x, x, aim, weight=0.0, steps=200).moved), 2)
    1.0
    """
    if inputs.shape != aims.shape:
        raise DataError(
            "reconstruction_attack: inputs and aims differ in shape",
            given=f"{tuple(inputs.shape)} and {tuple(aims.shape)}",
        )
    if not 0 <= weight < float("inf") or steps < 1 or not 0 < learning_rate < float("inf"):
        raise OptionError(
            "reconstruction_attack: a number is out of range",
            given=f"weight={weight}, steps={steps}, learning_rate={learning_rate}",
            allowed="weight >= 0, steps >= 1, learning_rate > 0",
        )
    change = torch.zeros_like(inputs).requires_grad_()
    optimizer = torch.optim.Adam([change], learning_rate)
    for _ in range(steps):
        # Smoothed at zero, where a root has no gradient. Summed, so that rows do not see each other.
        size = (change.square().flatten(1).mean(1) + 1e-12).sqrt()
        moved = reconstruct(inputs + change)
        if not moved.requires_grad:
            raise OptionError(
                "reconstruction_attack: no gradient flows through `reconstruct`",
                do="let it compute with gradients: no torch.no_grad(), .detach() or NumPy inside",
            )
        loss = (_distance(moved, aims) + weight * size).sum()
        (change.grad,) = torch.autograd.grad(loss, change)
        optimizer.step()
    found = change.detach()
    with torch.no_grad():
        before, moved = reconstruct(inputs), reconstruct(inputs + found)
    size = found.square().flatten(1).mean(1).sqrt()
    return Attack(found, moved, size, _distance(before, aims), _distance(moved, aims))


def _distance(images: Tensor, aims: Tensor) -> Tensor:
    return (images - aims).square().flatten(1).mean(1)
