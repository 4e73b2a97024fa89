"""The terms of both bounds, as functions of tensors: nothing here knows a network.

Every term is summed over pixels and code dimensions and left per input, ``(N,)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Gaussian", "cross_entropy", "entropy", "log_likelihood", "m2_bound", "svae_bound"]

#: Variances of codes between e^-8 and e^4: outside, a KL or its gradient overflows on odd inputs.
_LOWEST, _HIGHEST = -8.0, 4.0


class Gaussian:
    """A batch of Gaussians with diagonal covariance.

    Args:
        mean: ``(N, d)``.
        log_variance: ``(N, d)``; clamped.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean = mean
        self.log_variance = log_variance.clamp(_LOWEST, _HIGHEST)

    @classmethod
    def of(cls, parameters: Tensor) -> Gaussian:
        """Split ``(N, 2d)`` into means and log variances."""
        return cls(*parameters.chunk(2, 1))

    def part(self, dims: slice) -> Gaussian:
        """Return the marginal over some of the dimensions."""
        return Gaussian(self.mean[:, dims], self.log_variance[:, dims])

    def draw(self, noise: Tensor) -> Tensor:
        """Return mean + standard deviation * noise, ``(N, d)``; gradients flow."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self, other: Gaussian | None = None) -> Tensor:
        """Return KL[self || other] in nats, ``(N,)``; None stands for N(0, I)."""
        if other is None:
            zeros = torch.zeros_like(self.mean)
            other = Gaussian(zeros, zeros)
        difference = self.log_variance - other.log_variance
        squared = (self.mean - other.mean).square() * (-other.log_variance).exp()
        return 0.5 * (difference.exp() + squared - 1 - difference).sum(1)


def log_likelihood(inputs: Tensor, decoded: Tensor, variance: Tensor) -> Tensor:
    """Return log N(x; G(z), variance), summed over the values of each input, ``(N,)``.

    Args:
        inputs, decoded: ``(N, *S)``.
        variance: broadcasts over ``(N, *S)``.
    """
    error = (inputs - decoded).square() / variance
    normaliser = (2 * math.pi * variance).log()
    return -0.5 * (error + normaliser).flatten(1).sum(1)


def cross_entropy(classes: Tensor, logits: Tensor) -> Tensor:
    """Return -sum_c classes_c log softmax(logits)_c, ``(N,)``, for probabilities ``(N, K)``."""
    return -(classes * logits.log_softmax(1)).sum(1)


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of softmax(logits) in nats, ``(N,)``."""
    return cross_entropy(logits.softmax(1), logits)


def svae_bound(
    reconstruction: Tensor, prior_kl: Tensor, sufficiency: Tensor, class_loss: Tensor, alpha: float, beta: float
) -> Tensor:
    """Return the bound that is maximised, ``(N,)`` (paper, eq. 6 with the weight alpha).

    Args:
        reconstruction: E log p(x|z) (6b).
        prior_kl: KL[q(z|x,y) || p(z)] (6c).
        sufficiency: KL[q(z|x,y) || q(z|x)] (6d).
        class_loss: -E log p(y|z1) (6e).
        alpha, beta: their weights.
    """
    return beta * (reconstruction - prior_kl) - (1 - beta) * sufficiency - alpha * class_loss


def m2_bound(per_class: Tensor, classes: Tensor, logits: Tensor, alpha: float) -> Tensor:
    """Return M2's bound with the class enumerated, ``(N,)`` (paper, eq. 8).

    Args:
        per_class: ``(N, K)`` U(x, c) = E log p(x|c, z) - KL[q(z|x,c) || p(z)] for every class.
        classes: ``(N, K)`` probabilities of the class that is known.
        logits: ``(N, K)`` of q(y|x).
        alpha: weight of the class loss.
    """
    known = (classes * per_class).sum(1)
    unknown = (logits.softmax(1) * per_class).sum(1) + entropy(logits)
    return known + unknown - alpha * cross_entropy(classes, logits)
