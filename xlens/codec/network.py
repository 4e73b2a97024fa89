"""The built-in autoencoder: mean colours, and a code of what is left of them that is silent where nothing is."""

from __future__ import annotations

from typing import cast

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
#: The residue of mean colours is smaller than the colours; networks see it as large as they see these.
_LOUDER = 4.0


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

    The first channels are the mean colours of each cell, which come back by bilinear interpolation; the others code
    what these leave. They begin as its principal components, cell by cell, to and from which convolutions add. No
    layer of that path has a bias, so that of nothing comes nothing: an even area stays exactly even, whatever the
    weights, and no cell shows there.

    Args:
        spec: shape and range of the images.
        channels: of the latents, c; more than those of the images.
        width: channels at half the size; twice as many at a quarter, three times at an eighth.

    References:
        Odena, Dumoulin and Olah (2016), Deconvolution and Checkerboard Artifacts.
    """

    low: Tensor
    span: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, spec: Spec, channels: int, width: int = 32) -> None:
        super().__init__()
        colours, *size = spec.shape
        self.size, self.channels, self.colours = tuple(size), channels, colours
        self.stride = stride = _ENTRY if max(size) <= _LARGEST_AT_QUARTER else 2 * _ENTRY
        self.register_buffer("low", spec.per_channel("minimum"))
        self.register_buffer("span", spec.span())
        # Latents are standardised, so that every lens finds them alike.
        self.register_buffer("shift", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        coded, cell = channels - colours, colours * stride**2
        self.analysis = nn.Conv2d(cell, coded, 1, bias=False)
        self.synthesis = nn.Conv2d(coded, cell, 1, bias=False)
        wide = 3 * width if stride > _ENTRY else 2 * width
        entry: list[nn.Module] = [nn.PixelUnshuffle(_ENTRY), _conv(colours * _ENTRY**2, 2 * width)]
        entry += [_Residual(2 * width)]
        if stride > _ENTRY:
            entry += [nn.Conv2d(2 * width, wide, 4, 2, 1, bias=False), _Residual(wide)]
        last = nn.Conv2d(wide, coded, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.entry = nn.Sequential(*entry, nn.SiLU(), last)
        levels = [nn.Sequential(_conv(coded, wide), _Residual(wide))]
        if stride > _ENTRY:
            levels += [nn.Sequential(_conv(wide, 2 * width), _Residual(2 * width))]
        self.levels = nn.ModuleList(levels)
        self.fine = nn.Sequential(_conv(2 * width + 4 * colours, width), _Residual(width))
        # At full size there are few channels.
        self.narrow = nn.Sequential(nn.SiLU(), _conv(width, 4 * colours))
        mend = _conv(4 * colours, colours)
        nn.init.zeros_(mend.weight)
        self.mend = nn.Sequential(nn.SiLU(), _conv(5 * colours, 4 * colours), nn.SiLU(), mend)

    def encode(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to latents ``(N, c, h, w)``; sides that no cell divides are filled up."""
        down, right = (-side % self.stride for side in images.shape[2:])
        if down or right:
            images = F.pad(images, (0, right, 0, down), mode="replicate")
        return (self._raw(images) - self.shift) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to images ``(N, C, H, W)``, within the data's range once it is trained."""
        raw = latents * self.scale + self.shift
        means, code = raw[:, : self.colours], raw[:, self.colours :]
        residue = F.pixel_shuffle(self.synthesis(code), self.stride)
        hidden = self.levels[0](code)
        for level in list(self.levels)[1:]:
            hidden = level(_enlarged(hidden))
        seen = F.pixel_unshuffle(_LOUDER * residue, 2)
        hidden = _enlarged(self.narrow(self.fine(torch.cat([_enlarged(hidden), seen], 1))))
        mended = residue + self.mend(torch.cat([hidden, _LOUDER * residue], 1))
        values = _enlarged(means, self.stride) + 0.5 + mended
        if not self.training:
            values = values.clamp(0, 1)
        images = self.low + self.span * values
        cells = tuple(-(-side // self.stride) for side in self.size)
        # Crops, which it is trained on, are of another size.
        return images[..., : self.size[0], : self.size[1]] if latents.shape[2:] == cells else images

    @torch.no_grad()
    def begin(self, images: Tensor) -> None:
        """Take the first weights from images ``(N, C, H, W)``: principal components of what mean colours leave."""
        down, right = (side % self.stride for side in images.shape[2:])
        inside = images[..., : images.shape[2] - down, : images.shape[3] - right]
        moments: Tensor | None = None
        for part in inside.split(8):
            cells = F.pixel_unshuffle(self._parts(part)[1], self.stride)
            rows = cells.permute(0, 2, 3, 1).flatten(0, 2).double()
            moments = rows.T @ rows + (0 if moments is None else moments)
        variance, vectors = torch.linalg.eigh(cast(Tensor, moments) / (len(images) * cells[0, 0].numel()))
        count = min(self.channels - self.colours, len(vectors))
        found = vectors[:, -count:].T.flip(0)
        # All by one factor, so that the noise of a latent weighs as much in every component.
        unit = float(variance[-1].clamp_min(1e-12).sqrt())
        nn.init.zeros_(self.analysis.weight), nn.init.zeros_(self.synthesis.weight)
        self.analysis.weight[:count, :, 0, 0] = (found / unit).to(self.analysis.weight)
        self.synthesis.weight[:, :count, 0, 0] = (found.T * unit).to(self.synthesis.weight)

    @torch.no_grad()
    def settle(self, images: Tensor) -> None:
        """Standardise the latents of images ``(N, C, H, W)``, each channel by itself.

        Those of what mean colours leave keep their zero, which stands for nothing.
        """
        found = torch.cat([self.encode(part) for part in images.split(16)]) * self.scale + self.shift
        self.shift[:, : self.colours] = found[:, : self.colours].mean((0, 2, 3), keepdim=True)
        self.scale.copy_((found - self.shift).square().mean((0, 2, 3), keepdim=True).sqrt().clamp_min(1e-4))

    @torch.no_grad()
    def grow_from(self, smaller: ConvCodec) -> None:
        """Take over what a codec with fewer channels has learned; components that it lacks stay as they are."""
        own = self.state_dict()
        for name, values in smaller.state_dict().items():
            if own[name].shape != values.shape and name == "levels.0.0.weight":
                own[name][:, values.shape[1] :] *= 0.1
            own[name][tuple(slice(0, n) for n in values.shape)] = values

    def _raw(self, images: Tensor) -> Tensor:
        means, residue = self._parts(images)
        code = self.analysis(F.pixel_unshuffle(residue, self.stride)) + self.entry(_LOUDER * residue)
        return torch.cat([means, code], 1)

    def _parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean colours of cells, and what is left of images when these are enlarged and taken off."""
        values = (images - self.low) / self.span - 0.5
        means = F.avg_pool2d(values, self.stride)
        return means, values - _enlarged(means, self.stride)


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate", bias=False)


def _enlarged(values: Tensor, factor: int = 2) -> Tensor:
    return F.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False)
