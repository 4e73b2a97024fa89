"""Inversion: the code whose decoding is nearest to an input, for pixels and for f (paper, eq. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from xlens_medxgan.lens import MedXGANLens

__all__ = ["inversion_loss", "invert"]

_RATE = 0.02
_CLASS_WEIGHT = 0.1
_PRIOR_WEIGHT = 1e-4


def inversion_loss(lens: MedXGANLens, codes: Tensor, inputs: Tensor, probabilities: Tensor) -> Tensor:
    """Return MSE + w KL(f(x) || f(G(z))) + prior, per input ``(N,)``.

    Args:
        lens: the lens.
        codes: ``(N, d)``.
        inputs: ``(N, C, H, W)``.
        probabilities: ``(N, K)`` f's on the inputs.
    """
    decoded = lens.decode(codes)
    span = lens.generator.span
    error = ((decoded - inputs) / span).square().flatten(1).mean(1)
    log_found = lens.classifier(decoded).log_softmax(1)
    wanted = probabilities.clamp_min(1e-12)
    disagreement = (wanted * (wanted.log() - log_found)).sum(1)
    prior = 0.5 * lens.prior.whiten(codes[:, : lens.nuisance]).square().sum(1)
    return error + _CLASS_WEIGHT * disagreement + _PRIOR_WEIGHT * prior


def invert(lens: MedXGANLens, inputs: Tensor, start: Tensor, *, steps: int, rate: float = _RATE) -> Tensor:
    """Improve codes by Adam, and return the best seen for each input, ``(N, d)``.

    Only the block that is not zero at the start is moved, so that a code stays on the lens's layout.
    Rows do not influence each other.

    Args:
        lens: the lens.
        inputs: ``(N, C, H, W)``.
        start: ``(N, d)`` codes to begin with.
        steps: Adam steps.
        rate: learning rate.
    """
    with torch.no_grad():
        probabilities = lens.classifier.probabilities(inputs).to(inputs.dtype)
    movable = torch.ones_like(start)
    movable[:, lens.nuisance :] = (start[:, lens.nuisance :] != 0).to(start.dtype)
    codes = start.detach().clone().requires_grad_()
    best = start.detach().clone()
    with torch.enable_grad():
        optimizer = torch.optim.Adam([codes], lr=rate)
        best_loss = torch.full((len(start),), torch.inf, device=start.device)
        for step in range(steps + 1):
            losses = inversion_loss(lens, codes, inputs, probabilities)
            better = losses.detach() < best_loss
            best[better] = codes.detach()[better]
            best_loss = torch.where(better, losses.detach(), best_loss)
            if step == steps:
                break
            (gradient,) = torch.autograd.grad(losses.sum(), codes)
            codes.grad = gradient * movable
            optimizer.step()
    return best
