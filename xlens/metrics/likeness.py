"""Likeness: whether a region of an image is like what real images have there, in a space of no classifier's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PatchBank"]

#: Side of a patch, patches that are kept at each scale, and factors by which images are made smaller.
_SIDE, _KEPT, _FACTORS = 5, 1024, (1, 2, 4)
#: An image is not made smaller than this.
_SMALLEST = 16
#: Whole images are compared at about this side, where detail does not count.
_COARSE = 32
#: Pixels of a region that are looked at, at most.
_PIXELS = 128
#: Directions in which real patches hardly vary count as much as this share of their mean variance.
_FLOOR = 1e-2
#: Share of held-out real regions that count as real.
_REAL = 0.99
#: Regions for the calibration: areas as shares of an image, and how many of each held-out image.
_AREAS, _REGIONS = (0.01, 0.03, 0.1), 2
#: Regions that are looked at at once, so that copies of large images stay few.
_AT_ONCE = 24


class PatchBank(nn.Module):
    """Bank of patches of real images, and how far held-out real regions are from it.

    Patches of several scales are whitened by their own statistics, so that noise in directions in which real images
    do not vary weighs as much as a wrong shape. A region is as strange as its patches are far from their nearest
    neighbours in the bank, and its detail is compared with that around it. Both are calibrated on real images that
    are not in the bank: no classifier and no lens takes part.

    Args:
        channels: channels C of the images.
        scales: number of scales, from the image itself downward.
    """

    farthest: Tensor
    detail: Tensor
    neighbour: Tensor

    def __init__(self, channels: int, scales: int) -> None:
        super().__init__()
        width = channels * _SIDE**2
        self.scales = scales
        for s in range(scales):
            self.register_buffer(f"mean{s}", torch.zeros(width))
            self.register_buffer(f"whiten{s}", torch.zeros(width, width))
            self.register_buffer(f"kept{s}", torch.zeros(_KEPT, width))
        #: The largest distance, and the smallest and largest detail, of held-out real regions.
        self.register_buffer("farthest", torch.full((scales,), math.inf))
        self.register_buffer("detail", torch.tensor([-math.inf, math.inf]))
        #: How far a real image is from the nearest one in the bank, as a rule; earlier versions did not ask.
        self.register_buffer("neighbour", torch.tensor(math.inf))

    @staticmethod
    def scales_of(shape: tuple[int, ...]) -> int:
        """Return how many scales images ``(C, H, W)`` have: 0 where they are too small for one."""
        return sum(min(shape[1:]) // factor >= _SMALLEST for factor in _FACTORS)

    @classmethod
    @torch.no_grad()
    def of(cls, images: Tensor, seed: int) -> PatchBank:
        """Return the bank of real images ``(M, C, H, W)``, of which every other one is for the calibration.

        Args:
            images: M >= 4 of them.
            seed: draws patches and regions.
        """
        generator = torch.Generator().manual_seed(seed)
        images = images.detach().cpu().float()
        bank = cls(images.shape[1], cls.scales_of(tuple(images.shape[1:])))
        inside, held_out = images[::2], images[1::2]
        for s, small in enumerate(bank._smaller(inside)):
            patches = _drawn_patches(small, 4 * _KEPT, generator)
            mean = patches.mean(0)
            variance, axes = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
            floor = _FLOOR * variance.mean().clamp_min(1e-12)
            whiten = axes / (variance.clamp_min(0) + floor).sqrt()
            bank.get_buffer(f"mean{s}").copy_(mean)
            bank.get_buffer(f"whiten{s}").copy_(whiten.float())
            bank.get_buffer(f"kept{s}").copy_(bank._whitened(patches[:_KEPT], s))
        regions, owners = _regions(held_out, generator)
        pieces = list(zip(owners.split(_AT_ONCE), regions.split(_AT_ONCE), strict=True))
        distances = torch.cat([bank.distances(held_out[those], here) for those, here in pieces])
        bank.farthest.copy_(distances.quantile(_REAL, dim=0))
        found = torch.cat([detail(held_out[those], here) for those, here in pieces])
        tails = torch.tensor([(1 - _REAL) / 2, (1 + _REAL) / 2])
        bank.detail.copy_(found.quantile(tails))
        bank.neighbour.copy_(torch.cdist(_coarse(held_out), _coarse(inside)).amin(1).median())
        return bank

    @torch.no_grad()
    def strangeness(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return how strange the masked region of each image is, ``(N,)``: above 1, stranger than real ones.

        Args:
            images: ``(N, C, H, W)``.
            mask: ``(N, 1, H, W)`` the region, in [0, 1]; where it is empty nothing is strange.
        """
        far = (self.distances(images, mask) / self.farthest.clamp_min(1e-12)).amax(1)
        found = detail(images, mask)
        low, high = self.detail.unbind()
        # Beyond the calibrated interval by how much of its width.
        width = (high - low).clamp_min(1e-6)
        off = torch.maximum(low - found, found - high) / width
        return torch.maximum(far, 1 + off)

    @torch.no_grad()
    def apart(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Return how far reconstructions are from their images, ``(N,)``: above 1, as far as other real images are.

        The measure is the median distance from a held-out real image to the nearest one in the bank. A lens that
        decodes every image to its class's mean is further off.

        Args:
            images, reconstructions: ``(N, C, H, W)``.
        """
        return (_coarse(images) - _coarse(reconstructions)).norm(dim=1) / self.neighbour.clamp_min(1e-12)

    def distances(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return the mean distance of a region's patches to their nearest neighbours, ``(N, scales)``."""
        rows = []
        for image, region in zip(images, mask, strict=True):
            values = []
            for s, (small, where) in enumerate(
                zip(self._smaller(image[None]), self._smaller(region[None], pool=F.max_pool2d), strict=True)
            ):
                chosen = _pixels(where.flatten())
                if not len(chosen):
                    values.append(images.new_zeros(()))
                    continue
                down, across = chosen // small.shape[3], chosen % small.shape[3]
                patches = _patches(small, torch.zeros_like(chosen), down, across)
                values.append(torch.cdist(self._whitened(patches, s), self.get_buffer(f"kept{s}")).amin(1).mean())
            rows.append(torch.stack(values))
        return torch.stack(rows)

    def _whitened(self, patches: Tensor, scale: int) -> Tensor:
        return (patches - self.get_buffer(f"mean{scale}")) @ self.get_buffer(f"whiten{scale}")

    def _smaller(self, images: Tensor, pool: Callable[..., Tensor] = F.avg_pool2d) -> Iterator[Tensor]:
        for factor in _FACTORS[: self.scales]:
            yield images if factor == 1 else pool(images, factor)


def _coarse(images: Tensor) -> Tensor:
    """Return images made smaller to about 32 pixels, as vectors ``(N, D)``."""
    factor = max(1, min(images.shape[2:]) // _COARSE)
    return F.avg_pool2d(images, factor).flatten(1)


def detail(images: Tensor, mask: Tensor) -> Tensor:
    """Return the logarithm of a region's fine detail over that of the ring around it, ``(N,)``.

    Args:
        images: ``(N, C, H, W)``.
        mask: ``(N, 1, H, W)``.
    """
    fine = (images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)).square().mean(1, keepdim=True)
    reach = max(3, min(images.shape[2:]) // 16 * 2 + 1)
    inside = (mask > 0.5).to(images.dtype)
    # A square's maximum is that of its rows' maxima.
    wider = F.max_pool2d(inside, (1, reach), 1, (0, reach // 2))
    around = F.max_pool2d(wider, (reach, 1), 1, (reach // 2, 0)) - inside
    floor = 1e-3 * fine.mean((1, 2, 3)) + 1e-12

    def mean(region: Tensor) -> Tensor:
        total = region.sum((1, 2, 3))
        return torch.where(total > 0, (fine * region).sum((1, 2, 3)) / total.clamp_min(1), fine.mean((1, 2, 3)))

    return ((mean(inside) + floor) / (mean(around) + floor)).log()


def _pixels(where: Tensor) -> Tensor:
    """Return some pixels of a region, evenly, and always the same ones."""
    chosen = (where > 0.5).nonzero()[:, 0]
    return chosen if len(chosen) <= _PIXELS else chosen[torch.linspace(0, len(chosen) - 1, _PIXELS).long()]


def _drawn_patches(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return patches ``(count, C * side * side)`` drawn evenly from images."""
    n, _, height, width = images.shape
    which = torch.randint(n, (count,), generator=generator)
    rows = torch.randint(height, (count,), generator=generator)
    columns = torch.randint(width, (count,), generator=generator)
    return _patches(images, which, rows, columns)


def _patches(images: Tensor, which: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the patches ``(count, C * side * side)`` around some pixels; beyond the border all is zero."""
    padded = F.pad(images, (_SIDE // 2,) * 4)
    span = torch.arange(_SIDE, device=images.device)
    found = padded[
        which[:, None, None], :, (rows[:, None] + span)[:, :, None], (columns[:, None] + span)[:, None, :]
    ]
    # (count, side, side, C) to the order of F.unfold.
    return found.permute(0, 3, 1, 2).flatten(1)


def _regions(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return round regions ``(R, 1, H, W)`` of several sizes, and the image that each lies on."""
    n, _, height, width = images.shape
    owners = torch.arange(n).repeat_interleave(_REGIONS * len(_AREAS))
    areas = torch.tensor(_AREAS).repeat(n * _REGIONS)
    y = torch.rand(len(owners), generator=generator) * height
    x = torch.rand(len(owners), generator=generator) * width
    grid_y, grid_x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    squared = (grid_y - y[:, None, None]).square() + (grid_x - x[:, None, None]).square()
    radius = (areas * height * width / math.pi).clamp_min(1.5)
    return (squared <= radius[:, None, None]).float().unsqueeze(1), owners
