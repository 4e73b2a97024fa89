"""Whether a fit went well: what the play between encoder and decoder came to, and whether it reconstructs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlens.data import Batch, Data
from xlens_dif.posterior import Posterior, bounded

__all__ = ["Health", "examine"]

_EXAMINED = 2048
_BATCH = 256


@dataclass(frozen=True)
class Health:
    """What the health test found.

    Args:
        real_kl, fake_kl: mean KL of real inputs and of decodings of the prior, in nats.
        error: squared error of reconstructions relative to that of the mean input, in units of channels' ranges.
        played: whether encoder and decoder played against each other; without that, the KLs say nothing.
    """

    real_kl: float
    fake_kl: float
    error: float
    played: bool

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in words; empty where nothing is."""
        found = []
        if self.played and not self.fake_kl > self.real_kl:
            found.append(
                f"the encoder gives decodings of the prior a KL of {self.fake_kl:.1f}, and real inputs one of "
                f"{self.real_kl:.1f}, so it does not tell them apart"
            )
        if not self.error < 1:
            found.append(f"reconstructions are {self.error:.2f} times as far off as the mean input")
        return tuple(found)


@torch.no_grad()
def examine(
    encoder: nn.Module,
    decoder: nn.Module,
    data: Data,
    span: Tensor,
    *,
    seed: int,
    bound: float,
    played: bool,
) -> Health:
    """Encode real inputs and decodings of the prior, and compare.

    Args:
        encoder, decoder: the fitted networks.
        data: real inputs, of which some are looked at; of a stream of batches all.
        span: range of each channel, on the networks' device.
        seed: draws the codes.
        bound: C.
        played: whether there was introspection.
    """
    where, rows = span.device, 0
    kl = error = square = torch.zeros((), dtype=torch.float64, device=where)
    total, origin = torch.zeros_like(span, dtype=torch.float64), None
    for batch in _looked_at(data, seed):
        x = batch.inputs.to(where)
        posterior = Posterior(*encoder(x))
        # From somewhere among the inputs, as the spread is a difference of squares.
        origin = x[:1].double() if origin is None else origin
        scaled = (x - origin) / span
        kl = kl + posterior.kl().double().sum()
        error = error + ((decoder(bounded(posterior.mean, bound)) - x) / span).double().square().sum()
        square, total, rows = square + scaled.square().sum(), total + scaled.sum(0), rows + len(x)
    spread = square / rows - (total / rows).square().sum()
    generator = torch.Generator(where).manual_seed(seed)
    width = posterior.mean.shape[1]
    codes = bounded(torch.randn(min(rows, _EXAMINED), width, generator=generator, device=where), bound)
    fake = torch.cat([Posterior(*encoder(decoder(part))).kl() for part in codes.split(_BATCH)])
    return Health(
        real_kl=float(kl / rows),
        fake_kl=float(fake.mean()),
        error=float(error / rows / spread.clamp_min(1e-12)),
        played=played,
    )


def _looked_at(data: Data, seed: int) -> Iterator[Batch]:
    """Yield inputs from everywhere: the first of data that are sorted are of one class."""
    if not data.indexed:
        yield from data.batches()
        return
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:_EXAMINED].sort().values
    for index in order.split(_BATCH):
        yield data.take(index)
