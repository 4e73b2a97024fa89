"""What an autoencoder has to offer to stand between images and a lens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

__all__ = ["Codec"]


class Codec(nn.Module, ABC):
    """Autoencoder: images ``(N, C, H, W)`` to latents ``(N, c, h, w)`` and back, in the data's own values.

    Gradients flow through both ways.
    """

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to latents ``(N, c, h, w)``."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to images ``(N, C, H, W)``."""

    def forward(self, images: Tensor) -> Tensor:
        """Return what is left of images ``(N, C, H, W)`` after the way there and back."""
        return self.decode(self.encode(images))

    def held(self) -> AbstractContextManager[object]:
        """Return the context in which it is asked; one that belongs to somebody else is in eval mode there."""
        return nullcontext()
