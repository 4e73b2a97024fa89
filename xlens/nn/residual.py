"""Residual encoder and decoder for images, as introspective autoencoders have them."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from xlens.contracts.backend import Spec

__all__ = ["ResidualDecoder", "ResidualEncoder"]

#: Images are halved until their shorter side is no longer than this, but no more often than so.
_INNER, _MOST = 4, 5
#: Channels that are normalised together.
_TOGETHER = 8


class ResidualEncoder(nn.Module):
    """Residual blocks, each before an average over 2 by 2, then a linear layer: images to vectors.

    Args:
        spec: shape and range of the images.
        out_features: width of the result.
        width: channels of the first block; doubled by every other.

    References:
        Huang et al. (2018), IntroVAE (whose networks these are, with groups of channels normalised within each
        input, so that none depends on the others of its batch).
        Maggipinto et al. (2020), IntroVAC, section 4: 32 to 512 channels in five blocks at 128 pixels.

    >>> from xlens.nn import ResidualEncoder
    >>> ResidualEncoder(explainer.spec, 6, width=8)(images[:2]).shape
    torch.Size([2, 6])
    """

    low: Tensor
    span: Tensor

    def __init__(self, spec: Spec, out_features: int, width: int = 24) -> None:
        super().__init__()
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        grid, self.padding, channels = _divided(spec.shape, width)
        before = [spec.shape[0], *channels[:-1]]
        self.blocks = nn.Sequential(*(_Block(*sides) for sides in zip(before, channels, strict=True)))
        self.out = nn.Linear(channels[-1] * math.prod(grid), out_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to ``(N, out_features)``."""
        hidden = 2 * (inputs - self.low) / self.span - 1
        if any(self.padding):
            hidden = F.pad(hidden, (0, self.padding[1], 0, self.padding[0]), mode="replicate")
        for block in self.blocks:
            hidden = F.avg_pool2d(block(hidden), 2)
        out: Tensor = self.out(hidden.flatten(1))
        return out


class ResidualDecoder(nn.Module):
    """A linear layer, then residual blocks, each before a doubling: vectors to images, the encoder turned round.

    Args:
        spec: shape of the images.
        in_features: width of the vectors to decode.
        width: channels at the finest resolution.
    """

    def __init__(self, spec: Spec, in_features: int, width: int = 24) -> None:
        super().__init__()
        self.shape = spec.shape
        self.grid, _, channels = _divided(spec.shape, width)
        self.first = nn.Linear(in_features, channels[-1] * math.prod(self.grid))
        after = [*channels[-2::-1], width]
        self.blocks = nn.Sequential(*(_Block(*sides) for sides in zip(channels[::-1], after, strict=True)))
        self.out = nn.Conv2d(width, spec.shape[0], 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``(N, in_features)`` to unbounded images ``(N, C, H, W)``."""
        hidden = F.leaky_relu(self.first(vectors), 0.2).view(len(vectors), -1, *self.grid)
        for block in self.blocks:
            hidden = F.interpolate(block(hidden), scale_factor=2, mode="nearest")
        return self.out(hidden)[..., : self.shape[1], : self.shape[2]]


class _Block(nn.Module):
    """Two convolutions beside a straight way."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        groups = math.gcd(out, max(1, out // _TOGETHER))
        self.after_first, self.after_second = nn.GroupNorm(groups, out), nn.GroupNorm(groups, out)
        self.straight = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``(N, channels, h, w)`` to ``(N, out, h, w)``."""
        changed = F.leaky_relu(self.after_first(self.first(hidden)), 0.2)
        return F.leaky_relu(self.straight(hidden) + self.after_second(self.second(changed)), 0.2)


def _divided(shape: tuple[int, ...], width: int) -> tuple[tuple[int, int], tuple[int, int], list[int]]:
    """Return the inner grid, rows and columns that images lack for it, and the channels of each block."""
    _, height, right = shape
    levels = min(_MOST, max(1, math.ceil(math.log2(min(height, right) / _INNER))))
    cell = 2**levels
    grid = (math.ceil(height / cell), math.ceil(right / cell))
    padding = (grid[0] * cell - height, grid[1] * cell - right)
    return grid, padding, [width * 2**level for level in range(levels)]
