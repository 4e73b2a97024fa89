"""Distillation: what a surrogate learns from, and its training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens.surrogate.network import SurrogateNetwork

__all__ = ["Answers", "Distillation", "distillation_loss"]

#: Noise on latents that are learned from, in their standard deviations.
_NOISE = 0.1


def distillation_loss(said: Tensor, true: Tensor, scale: float) -> Tensor:
    """Return the KL from the classifier's probabilities to the surrogate's, and the error of its logits.

    Args:
        said, true: logits ``(n, K)`` of the surrogate and of the classifier.
        scale: typical size of the classifier's logits, in which errors are measured.
    """
    kl = F.kl_div(said.log_softmax(1), true.log_softmax(1), reduction="batchmean", log_target=True)
    return kl + F.smooth_l1_loss(said / scale, true / scale)


class Answers:
    """Latents with what the classifier says of them; of more than fit, the latest.

    Args:
        most: rows that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.latents, self.logits = torch.zeros(0), torch.zeros(0)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.logits)

    def add(self, latents: Tensor, logits: Tensor) -> None:
        """Keep latents ``(n, c, h, w)``, in half precision, with logits ``(n, K)``."""
        latents, logits = latents.cpu().half(), logits.cpu().float()
        if len(self):
            latents, logits = torch.cat([self.latents, latents]), torch.cat([self.logits, logits])
        self.latents, self.logits = latents[-self._most :], logits[-self._most :]

    def take(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return these rows on a device."""
        return self.latents[index].to(device, torch.float32), self.logits[index].to(device)


class Distillation:
    """Trains a surrogate's network on the classifier's answers, half of a batch on those of the data.

    Args:
        network: the network.
        data: answers on the data and on mixtures of them.
        learning_rate: AdamW's.
        batch_size: latents a step.
        seed: seeds what is drawn.
    """

    def __init__(
        self, network: SurrogateNetwork, data: Answers, learning_rate: float, batch_size: int, seed: int
    ) -> None:
        self.network, self.data = network, data
        self.optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.05)
        self.generator = torch.Generator().manual_seed(seed)
        self._size = batch_size
        self._scale = float(data.logits.std()) if len(data) > 1 else 1.0

    def step(self, made: Answers, latest: int = 0) -> float:
        """Take one step and return the loss.

        Args:
            made: answers on what the lens made, half of the batch where there are any.
            latest: how many of these are new, all of which are learned from as far as there is room.
        """
        device = self.network.mean.device
        parts = []
        if len(made):
            half = self._size // 2
            new = torch.arange(len(made))[-latest:][:half] if latest else torch.arange(0)
            drawn = torch.randint(len(made), (half - len(new),), generator=self.generator)
            parts.append(made.take(torch.cat([new, drawn]), device))
        rest = self._size - sum(len(part[1]) for part in parts)
        parts.append(self.data.take(torch.randint(len(self.data), (rest,), generator=self.generator), device))
        latents, true = (torch.cat(column) for column in zip(*parts, strict=True))
        # A little noise, so that it does not go by what the autoencoder leaves in single values.
        latents = latents + _NOISE * self.network.std * self._noise(latents)
        self.network.requires_grad_(True)
        with torch.enable_grad():
            loss = distillation_loss(self.network(latents), true, max(self._scale, 1e-6))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.network.requires_grad_(False)
        return float(loss.detach())

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like)
