"""Learned inpainting: what a smooth continuation leaves out of the coarse picture, from images free of evidence.

The network looks at the picture at no more than 112 pixels a side. Its answer is added to the harmonic fill, which
meets the surroundings without a seam, and fades out at the hole's edge; the image's own fine detail, mirrored
over that edge, comes on top at full size. What differs from the harmonic fill it has learned from other inputs, and
it has never seen a classifier.

References:
    Yu et al. (2019), Free-Form Image Inpainting with Gated Convolution.
    Liu et al. (2018), Image Inpainting for Irregular Holes Using Partial Convolutions (holes, masked losses).
    Perez et al. (2003), Poisson Image Editing (the seam).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens import Spec
from xlens_infill.fill import fill_harmonic, harmonic, normalised_blur, sources

LARGEST = 112  # the network looks at images of at most this side


def worked_at(side: int) -> int:
    """Return the pixels that are averaged to one for the network, in images of that longer side."""
    return -(-side // LARGEST)


def shrunk(x: Tensor, known: Tensor, hole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, what is known of them and their holes, all at the size at which the network works.

    A cell takes the mean of what is known in it, and is a hole only where nothing is.
    """
    k = worked_at(max(x.shape[-2:]))
    share = F.avg_pool2d(known.to(x.dtype), k, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(x * known, k, ceil_mode=True, count_include_pad=False) / share.clamp(min=1e-6)
    empty = (share == 0) & (F.max_pool2d(hole.to(x.dtype), k, ceil_mode=True) > 0)
    return mean, share > 0, empty


class Gated(nn.Module):
    """A convolution whose every output is let through by a second one."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.both = nn.Conv2d(before, 2 * after, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, after, H / stride, W / stride)``."""
        value, gate = self.both(x).chunk(2, 1)
        return F.elu(value) * gate.sigmoid()


class Inpainter(nn.Module):
    """A U-Net of gated convolutions: the difference of the coarse picture from its harmonic fill.

    Args:
        spec: channels and statistics of the inputs.
        width: channels at the finest resolution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, width: int) -> None:
        super().__init__()
        channels, widths = spec.shape[0], (width, 2 * width, 4 * width, 4 * width)
        self.register_buffer("mean", spec.per_channel("mean"), persistent=False)
        self.register_buffer("std", spec.per_channel("std").clamp(min=1e-6), persistent=False)
        befores = (channels + 2, *widths[:-1])
        self.down = nn.ModuleList([Gated(a, b, 2) for a, b in zip(befores, widths, strict=True)])
        self.middle = Gated(widths[-1], widths[-1])
        self.up = nn.ModuleList(
            [Gated(widths[i] + widths[i - 1], widths[i - 1]) for i in range(len(widths) - 1, 0, -1)]
        )
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)
        # It begins as the harmonic fill.
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, base: Tensor, known: Tensor, hole: Tensor) -> Tensor:
        """Return what to add to the harmonic fill `base` ``(N, C, h, w)``: nothing outside the hole."""
        inside = known | hole
        seen = torch.where(inside, (base - self.mean) / self.std, 0)
        hidden = torch.cat([seen, known.to(seen.dtype), hole.to(seen.dtype)], 1)
        skips: list[Tensor] = []
        for layer in self.down:
            hidden = layer(hidden)
            skips.append(hidden)
        hidden = self.middle(hidden)
        for layer, skip in zip(self.up, skips[-2::-1], strict=True):
            hidden = layer(torch.cat([_sized(hidden, skip), skip], 1))
        return torch.where(hole, _sized(self.out(hidden), base) * self.std, 0)

    @torch.no_grad()
    def fill(self, x: Tensor, hole: Tensor, within: Tensor | None = None) -> Tensor:
        """Fill holes ``(N, 1, H, W)`` bool of images of any size, from the object `within` alone."""
        smooth = fill_harmonic(x, hole, within)
        known = sources(hole, within)
        small, told, empty = shrunk(normalised_blur(x, known), known, hole)
        base = harmonic(small, told, empty)
        added = self(base.to(self.mean.dtype), told, empty).to(x.dtype)
        k = worked_at(max(x.shape[-2:]))
        if k > 1:
            added = F.interpolate(added, scale_factor=k, mode="bilinear", align_corners=False)
            added = added[..., : x.shape[-2], : x.shape[-1]]
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.where(hole, (smooth + added).clamp(min=low, max=high), x)


def _sized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
