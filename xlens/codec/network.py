"""The built-in autoencoder: convolutions between bilinear doublings, which leave no lattice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens.codec.contract import Codec
from xlens.contracts.backend import Spec

__all__ = ["ConvCodec"]

#: Images with a longer side get latents at an eighth of their size, smaller ones at a quarter.
_LARGEST_AT_QUARTER = 128
#: The first convolution works at a quarter of the size, which costs little and sees whole cells of pixels.
_ENTRY = 4
#: A component of patches that varies less than this, relative to the first one, is not scaled up any further.
_LEAST = 0.02


class _Residual(nn.Module):
    """Two convolutions beside the identity, which is all that it is in the beginning."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(N, width, h, w)`` to the same shape."""
        return values + self.second(F.silu(self.first(F.silu(values))))


class ConvCodec(Codec):
    """Convolutional autoencoder: images to latents at an eighth of their size, or at a quarter up to 128 pixels.

    What is encoded begins as the mean colour of each cell and the principal components of what is left of it, which
    convolutions then add to. The decoder doubles by bilinear interpolation, and its convolutions repeat the
    border: of equal latents it makes an even area, so that no cell shows.

    Args:
        spec: shape and range of the images.
        channels: of the latents, c; at least those of the images.
        width: channels at half the size; twice as many at a quarter, three times at an eighth.
        blocks: residual blocks at each size.

    References:
        Odena, Dumoulin and Olah (2016), Deconvolution and Checkerboard Artifacts.
    """

    low: Tensor
    span: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, spec: Spec, channels: int, width: int = 32, blocks: int = 1) -> None:
        super().__init__()
        colours, *size = spec.shape
        self.size, self.channels = tuple(size), channels
        self.stride = _ENTRY if max(size) <= _LARGEST_AT_QUARTER else 2 * _ENTRY
        self.register_buffer("low", spec.per_channel("minimum"))
        self.register_buffer("span", spec.span())
        # Latents are standardised, so that every lens finds them alike.
        self.register_buffer("shift", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        widths = [width, 2 * width] + [3 * width] * (self.stride > _ENTRY)
        entry: list[nn.Module] = [nn.PixelUnshuffle(_ENTRY), _conv(colours * _ENTRY**2, widths[1])]
        entry += [_Residual(widths[1]) for _ in range(blocks)]
        if self.stride > _ENTRY:
            entry += [nn.Conv2d(widths[1], widths[2], 4, 2, 1), *(_Residual(widths[2]) for _ in range(blocks))]
        self.entry = nn.Sequential(*entry, nn.SiLU(), nn.Conv2d(widths[-1], channels, 1))
        self.patches = nn.Conv2d(colours * self.stride**2, channels, 1)
        levels: list[nn.Module] = []
        before = channels
        for wide in reversed(widths):
            levels.append(nn.Sequential(_conv(before, wide), *(_Residual(wide) for _ in range(blocks))))
            before = wide
        self.levels = nn.ModuleList(levels)
        # At full size there are few channels; of these the first are the image, and the others mend it.
        self.narrow = nn.Sequential(nn.SiLU(), _conv(width, 4 * colours))
        self.mend = nn.Sequential(
            nn.SiLU(), _conv(4 * colours, 4 * colours), nn.SiLU(), _conv(4 * colours, colours)
        )

    def encode(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to latents ``(N, c, h, w)``; sides that no cell divides are filled up."""
        down, right = (-side % self.stride for side in images.shape[2:])
        if down or right:
            images = F.pad(images, (0, right, 0, down), mode="replicate")
        values = (images - self.low) / self.span - 0.5
        found = self.entry(values) + self.patches(F.pixel_unshuffle(values, self.stride))
        return (found - self.shift) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to images ``(N, C, H, W)``, within the data's range once it is trained."""
        hidden = self.levels[0](latents * self.scale + self.shift)
        for level in list(self.levels)[1:]:
            hidden = level(_doubled(hidden))
        coarse = _doubled(self.narrow(hidden))
        values = coarse[:, : self.low.shape[1]] + self.mend(coarse) + 0.5
        if not self.training:
            values = values.clamp(0, 1)
        images = self.low + self.span * values
        cells = tuple(-(-side // self.stride) for side in self.size)
        # Crops, which it is trained on, are of another size.
        return images[..., : self.size[0], : self.size[1]] if latents.shape[2:] == cells else images

    @torch.no_grad()
    def begin(self, images: Tensor) -> None:
        """Take the first weights of the encoder from images ``(N, C, H, W)``: mean colours and components."""
        down, right = (side % self.stride for side in images.shape[2:])
        inside = images[..., : images.shape[2] - down, : images.shape[3] - right]
        values = F.pixel_unshuffle((inside - self.low) / self.span - 0.5, self.stride)
        rows = values.permute(0, 2, 3, 1).flatten(0, 2).double()
        colours, size = self.low.shape[1], self.stride**2
        means = torch.eye(colours, dtype=rows.dtype, device=rows.device).repeat_interleave(size, 1) / size
        rest = rows - (rows @ means.T) @ (means * size)
        variance, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
        most = min(self.channels - colours, vectors.shape[1] - colours)
        spread = variance[-most:].clamp_min(0).sqrt()
        spread = spread.clamp_min(_LEAST * float(spread.max()) + 1e-6)
        weights = torch.cat([means * 2, vectors[:, -most:].T.flip(0) / spread.flip(0)[:, None]])
        self.patches.weight[: len(weights)] = weights[:, :, None, None].to(self.patches.weight)
        nn.init.zeros_(self.patches.bias)
        self.entry[-1].weight.mul_(0.1)
        nn.init.zeros_(self.entry[-1].bias)

    @torch.no_grad()
    def settle(self, images: Tensor) -> None:
        """Standardise the latents of images ``(N, C, H, W)``, each channel by itself."""
        found = torch.cat([self.encode(part) for part in images.split(16)]) * self.scale + self.shift
        self.shift.copy_(found.mean((0, 2, 3), keepdim=True))
        self.scale.copy_(found.std((0, 2, 3), keepdim=True).clamp_min(1e-4))

    @torch.no_grad()
    def grow_from(self, smaller: ConvCodec) -> None:
        """Take over what a codec with fewer channels has learned; what it lacks begins as it is, unused at first."""
        own = self.state_dict()
        for name, values in smaller.state_dict().items():
            if own[name].shape != values.shape and name == "levels.0.0.weight":
                own[name][:, values.shape[1] :] *= 0.1
            own[name][tuple(slice(0, n) for n in values.shape)] = values


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate")


def _doubled(values: Tensor) -> Tensor:
    return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
