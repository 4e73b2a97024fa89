"""The bounded code: C tanh(z / C), around the shared encoder and decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Posterior", "bounded"]


def bounded(raw: Tensor, bound: float) -> Tensor:
    """Return C tanh(z / C) for z ``(n, d)`` and the bound C."""
    return bound * (raw / bound).tanh()


class Posterior(NamedTuple):
    """A Gaussian over codes before they are bounded; mean and log variance are ``(n, d)``."""

    mean: Tensor
    log_variance: Tensor

    def kl(self) -> Tensor:
        """Return KL(q(z|x) || N(0, I)) in nats per row, ``(n,)``."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1)

    def draw(self, noise: Tensor, bound: float) -> Tensor:
        """Return bounded codes ``(n, d)``; gradients flow."""
        return bounded(self.mean + noise * (0.5 * self.log_variance).exp(), bound)
