"""Inversion: the code whose decoding is nearest to an input, in pixels and for the classifier (paper, eq. 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens import Classifier
from xlens_medxgan.networks import Prior

__all__ = ["Inversion"]

_RATE = 0.02


@dataclass(frozen=True)
class Inversion:
    """Inversion of a generator: codes found by Adam, of which the first `nuisance` dimensions have a prior.

    Args:
        decode: maps codes ``(N, d)`` to images ``(N, *S)``.
        classifier: the user's classifier.
        prior: of z1.
        span: range of each channel, to broadcast over images.
        nuisance: width d1 of z1.
        class_weight: of the classifier's disagreement (w); 1 in the paper.
        prior_weight: of z1's distance from its prior; 0 in the paper.
    """

    decode: Callable[[Tensor], Tensor]
    classifier: Classifier
    prior: Prior
    span: Tensor
    nuisance: int
    class_weight: float
    prior_weight: float

    def loss(self, codes: Tensor, inputs: Tensor, probabilities: Tensor) -> Tensor:
        """Return MSE + w KL(f(x) || f(G(z))) + prior, per input ``(N,)``.

        Args:
            codes: ``(N, d)``.
            inputs: ``(N, *S)``.
            probabilities: ``(N, K)`` the classifier's on the inputs.
        """
        decoded = self.decode(codes)
        error = ((decoded - inputs) / self.span).square().flatten(1).mean(1)
        log_found = self.classifier(decoded).log_softmax(1)
        wanted = probabilities.clamp_min(1e-12)
        disagreement = (wanted * (wanted.log() - log_found)).sum(1)
        prior = 0.5 * self.prior.whiten(codes[:, : self.nuisance]).square().sum(1)
        return error + self.class_weight * disagreement + self.prior_weight * prior

    def search(self, inputs: Tensor, start: Tensor, *, steps: int, rate: float = _RATE) -> Tensor:
        """Improve codes by Adam, and return the best seen for each input, ``(N, d)``.

        Only the block that is not zero at the start is moved, so that a code stays on the lens's layout.
        Rows do not influence each other.

        Args:
            inputs: ``(N, *S)``.
            start: ``(N, d)`` codes to begin with.
            steps: Adam steps.
            rate: learning rate.
        """
        with torch.no_grad():
            probabilities = self.classifier.probabilities(inputs).to(inputs.dtype)
        movable = torch.ones_like(start)
        movable[:, self.nuisance :] = (start[:, self.nuisance :] != 0).to(start.dtype)
        codes = start.detach().clone().requires_grad_()
        best = start.detach().clone()
        with torch.enable_grad():
            optimizer = torch.optim.Adam([codes], lr=rate)
            best_loss = torch.full((len(start),), torch.inf, device=start.device)
            for step in range(steps + 1):
                losses = self.loss(codes, inputs, probabilities)
                better = losses.detach() < best_loss
                best[better] = codes.detach()[better]
                best_loss = torch.where(better, losses.detach(), best_loss)
                if step == steps:
                    break
                (gradient,) = torch.autograd.grad(losses.sum(), codes)
                codes.grad = gradient * movable
                optimizer.step()
        return best
