"""Whether a fit went well: what the play between encoder and decoder came to, and whether it reconstructs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlens.data import Data
from xlens_dif.posterior import Posterior, bounded

__all__ = ["Health", "examine"]

_EXAMINED = 2048
_BATCH = 256


@dataclass(frozen=True)
class Health:
    """What the health test found.

    Args:
        real_kl, fake_kl: mean KL of real inputs and of decodings of the prior, in nats.
        error: squared error of reconstructions, relative to that of the mean input.
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
    where: torch.device,
    *,
    seed: int,
    bound: float,
    played: bool,
) -> Health:
    """Encode real inputs and decodings of the prior, and compare.

    Args:
        encoder, decoder: the fitted networks.
        data: real inputs, of which the first are looked at, batch by batch.
        where: the networks' device.
        seed: draws the codes.
        bound: C.
        played: whether there was introspection.
    """
    real: list[Tensor] = []
    errors: list[Tensor] = []
    inputs: list[Tensor] = []
    for batch in data.batches(_BATCH):
        x = batch.inputs.to(where)
        posterior = Posterior(*encoder(x))
        real.append(posterior.kl())
        errors.append((decoder(bounded(posterior.mean, bound)) - x).square().flatten(1).sum(1))
        inputs.append(x)
        if sum(map(len, real)) >= _EXAMINED:
            break
    every = torch.cat(inputs)
    spread = (every - every.mean(0)).square().flatten(1).sum(1).mean()
    generator = torch.Generator(where).manual_seed(seed)
    width = posterior.mean.shape[1]
    codes = bounded(torch.randn(len(every), width, generator=generator, device=where), bound)
    fake = torch.cat([Posterior(*encoder(decoder(part))).kl() for part in codes.split(_BATCH)])
    return Health(
        real_kl=float(torch.cat(real).mean()),
        fake_kl=float(fake.mean()),
        error=float(torch.cat(errors).mean() / spread.clamp_min(1e-12)),
        played=played,
    )
