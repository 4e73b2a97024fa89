"""The two ways from y to the interpretable code z*: exactly invertible, and amortised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from xlens_ilvm.columns import Column
from xlens_ilvm.flows import OF_EACH_ROW, make_flow
from xlens_ilvm.planar import PlanarFlow
from xlens_ilvm.readout import Readout

__all__ = ["AmortisedModel", "ExactModel", "Model", "gaussian_log_density"]

_LOG_VARIANCE = (-10.0, 4.0)


def gaussian_log_density(values: Tensor) -> Tensor:
    """Return log N(values; 0, I) of rows, ``(N,)``."""
    return -0.5 * (values.square() + math.log(2 * math.pi)).sum(1)


class ExactModel(nn.Module):
    """z* = flow(y): nothing is lost.

    Args:
        width: dimensions of y.
        flow, layers, hidden: as for :func:`make_flow`.
    """

    def __init__(self, width: int, flow: str, layers: int, hidden: int) -> None:
        super().__init__()
        self.flow, self.readout = make_flow(flow, width, layers, hidden), Readout()

    def learn(self, columns: Sequence[Column], dimensions: int = 1) -> None:
        """Make room for side information, each reading of which has so many dimensions."""
        self.readout = Readout(columns, dimensions)

    def draws(self, y: Tensor, noise: Tensor) -> Tensor:
        """Return z* of each y ``(N, width)``, which is certain, once for each row of noise, ``(M, N, width)``."""
        return self.code(y).expand(len(noise), -1, -1)

    def code(self, y: Tensor) -> Tensor:
        """Map y ``(N, width)`` to z* of the same shape."""
        return self.flow(y)[0]

    def restore(self, codes: Tensor) -> Tensor:
        """Map z* back to y."""
        return self.flow.inverse(codes)

    def terms(self, y: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return -log p(y) per row ``(N,)``, and -log p(s|z*) as :meth:`Readout.loss` does."""
        codes, log_det = self.flow(y)
        return -(gaussian_log_density(codes) + log_det), self.readout.loss(codes, targets)


class AmortisedModel(nn.Module):
    """The paper's equations to the letter: z0 ~ q0(z0|y, s), z* = flow(z0), p(y|z*) Gaussian.

    With the flow ``"amortised"`` a recognition network of y gives the flow's parameters too, as the paper has it
    (eq. 2, and after eq. 8); with any other one flow serves all rows. The way back is a network, so that y is
    recovered approximately. Side information is hidden from q0 on half of the rows that have it: an input that is
    explained has none, and q0 would otherwise only copy it.

    Args:
        width: dimensions of y.
        flow, layers, hidden: as for :func:`make_flow`.
    """

    def __init__(self, width: int, flow: str, layers: int, hidden: int) -> None:
        super().__init__()
        self.flow, self.readout = make_flow(flow, width, layers, hidden), Readout()
        self.recognition = _network(width, hidden, 2 * width)
        self.generation = _network(width, hidden, width)
        self.noise = nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.hint = nn.Parameter(torch.zeros(0, 2 * width, dtype=torch.float64))
        own = flow == OF_EACH_ROW
        self.flow_of = _network(width, hidden, layers * (2 * width + 1)) if own else None

    def learn(self, columns: Sequence[Column], dimensions: int = 1) -> None:
        """Make room for side information, each reading of which has so many dimensions."""
        self.readout = Readout(columns, dimensions)
        # Twice: what is observed, and that it is.
        self.hint = nn.Parameter(self.hint.new_zeros(2 * self.readout.outputs, self.hint.shape[1]))

    def draws(self, y: Tensor, noise: Tensor) -> Tensor:
        """Return z* from q(z*|y) of each y ``(N, width)``, for noise ``(M, width)``, as ``(M, N, width)``."""
        mean, log_variance = self._posterior(y)
        deviation = (0.5 * log_variance).exp()
        return torch.stack([self._flowed(y, mean + deviation * one)[0] for one in noise])

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state.get(prefix + "hint")
        if stored is not None and stored.shape != self.hint.shape:
            self.hint = nn.Parameter(self.hint.new_zeros(stored.shape))
        super()._load_from_state_dict(state, prefix, *rest)

    def code(self, y: Tensor) -> Tensor:
        """Map y ``(N, width)`` to the flow's image of the mean of q0(z0|y)."""
        return self._flowed(y, self._posterior(y)[0])[0]

    def restore(self, codes: Tensor) -> Tensor:
        """Map z* to the mean of p(y|z*)."""
        return codes + self.generation(codes)

    def terms(self, y: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the negative bound without its s-term, per row ``(N,)``, and -log p(s|z*)."""
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
        shown = torch.rand(len(y), 1, generator=generator, device=y.device) < 0.5
        mean, log_variance = self._posterior(y, torch.where(shown, targets, torch.nan))
        codes, log_det = self._flowed(y, mean + (0.5 * log_variance).exp() * noise)
        log_q = gaussian_log_density(noise) - 0.5 * log_variance.sum(1) - log_det
        error = (y - self.restore(codes)) * (-self.noise).exp()
        log_p = gaussian_log_density(codes) + gaussian_log_density(error) - self.noise.sum()
        return log_q - log_p, self.readout.loss(codes, targets)

    def _flowed(self, y: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        if self.flow_of is None:
            return self.flow(start)
        flow = cast(PlanarFlow, self.flow)
        return flow(start, self.flow_of(y).unflatten(1, (len(flow.b), -1)))

    def _posterior(self, y: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        found = self.recognition(y)
        if targets is not None:
            seen = ~targets.isnan()
            found = found + torch.cat([torch.where(seen, targets, 0.0), seen], 1).to(y.dtype) @ self.hint
        mean, log_variance = found.chunk(2, 1)
        return y + mean, (log_variance - 2).clamp(*_LOG_VARIANCE)


Model = ExactModel | AmortisedModel


def _network(width: int, hidden: int, out: int) -> nn.Module:
    last = nn.Linear(hidden, out)
    nn.init.normal_(last.weight, std=1e-2)
    nn.init.zeros_(last.bias)
    body = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last)
    return body.double()
