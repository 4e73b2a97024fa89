"""Inpainting that never sees a classifier: what would be here if this hole were like its surroundings?

Everything here is a function of the image and the hole alone, so the result can hardly be adversarial: the search
for a mask may look at the classifier, the content may not. Images are (N, C, H, W) in any range and any
normalisation, holes are (N, 1, H, W) boolean, and ``within`` (same shape, optional) marks the object: pixels
outside it are never used as a source, so that a hole at the rim of an object is not smudged with the background.

``harmonic`` solves Laplace's equation (smooth, no seams), ``fill_harmonic`` adds the image's own fine detail
mirrored from beside the hole, ``fill_patches`` copies nearest patches (for line art and binary images, where a
smooth transition is not a value that occurs).

References:
    Gortler et al. (1996), The Lumigraph (pull-push).
    Criminisi et al. (2004), Region Filling and Object Removal by Exemplar-Based Image Inpainting.
    Wexler et al. (2007), Space-Time Completion of Video (votes of nearest patches, coarse to fine).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

DETAIL_RADIUS = 2  # box radius, three passes: what is finer than about 5 px counts as detail
SWEEPS = (12, 6)  # relaxations at the finest level and at each coarser one


def fill_harmonic(x: Tensor, hole: Tensor, within: Tensor | None = None, *, detail: float = 1.0) -> Tensor:
    """Smooth continuation of the surroundings plus the image's own fine detail, mirrored over the hole's edge."""
    known = sources(hole, within)
    smooth = harmonic(x, known, hole)
    if detail:
        smooth = smooth + detail * _mirrored(x - normalised_blur(x, known), known, hole)
    low, high = _range(x)
    return torch.where(hole, smooth.clamp(min=low, max=high), x)


def sources(hole: Tensor, within: Tensor | None) -> Tensor:
    """Pixels that a hole may be filled from: the object's, and all others where the hole leaves none of them."""
    if within is None:
        return ~hole
    known = within & ~hole
    return torch.where(known.flatten(1).any(1)[:, None, None, None], known, ~hole)


def harmonic(x: Tensor, known: Tensor, hole: Tensor) -> Tensor:
    """Solve Laplace's equation in ``hole`` with ``known`` as boundary values; pixels in neither do not take part.

    Coarse to fine (pull-push): each level starts from the coarser solution, so that a few Jacobi sweeps suffice.
    """
    levels = [(x * known, known.to(x.dtype), (known | hole).to(x.dtype))]
    while min(levels[-1][0].shape[-2:]) > 2:
        value, weight, domain = levels[-1]
        share = F.avg_pool2d(weight, 2, ceil_mode=True)
        mean = F.avg_pool2d(value * (weight > 0), 2, ceil_mode=True) / share.clamp(min=1e-6)
        levels.append((mean * (share > 0), (share > 0).to(x.dtype), F.max_pool2d(domain, 2, ceil_mode=True)))
    value, weight, _ = levels[-1]
    total = weight.sum((2, 3), keepdim=True).clamp(min=1)
    solution = torch.where(weight > 0, value, (value * weight).sum((2, 3), keepdim=True) / total)
    for depth in range(len(levels) - 2, -1, -1):
        value, weight, domain = levels[depth]
        coarse = F.interpolate(solution, value.shape[-2:], mode="bilinear", align_corners=False)
        solution = torch.where(weight > 0, value, coarse)
        solution = _relax(solution, weight > 0, domain, SWEEPS[0] if depth == 0 else SWEEPS[1])
    return solution


def _relax(u: Tensor, fixed: Tensor, domain: Tensor, sweeps: int) -> Tensor:
    """Jacobi sweeps of the mean of the four neighbours that belong to the domain (no flux through its border)."""
    count = _neighbours(domain)
    free = ~fixed & (count > 0)
    for _ in range(sweeps):
        u = torch.where(free, _neighbours(u * domain) / count.clamp(min=1), u)
    return u


def _neighbours(u: Tensor) -> Tensor:
    p = F.pad(u, (1, 1, 1, 1))
    return p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]


def _range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each image and channel: a fill must not invent values beyond them."""
    return x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)


def _blur(u: Tensor) -> Tensor:
    size = 2 * DETAIL_RADIUS + 1
    for _ in range(3):
        # Along one side and then the other: ten values for each pixel in place of 25.
        u = F.avg_pool2d(u, (1, size), 1, (0, DETAIL_RADIUS), count_include_pad=False)
        u = F.avg_pool2d(u, (size, 1), 1, (DETAIL_RADIUS, 0), count_include_pad=False)
    return u


def normalised_blur(x: Tensor, known: Tensor) -> Tensor:
    """Return images without their detail, from known pixels alone."""
    weight = known.to(x.dtype)
    return _blur(x * weight) / _blur(weight).clamp(min=1e-3)


def _mirrored(detail: Tensor, known: Tensor, hole: Tensor) -> Tensor:
    """Detail of each hole pixel's mirror image over the nearest known pixel (or of that pixel, failing that)."""
    out = torch.zeros_like(detail)
    for n in range(len(detail)):
        ok = known[n, 0].cpu().numpy()
        rows, cols = np.nonzero(hole[n, 0].cpu().numpy())
        if not len(rows) or not ok.any():
            continue
        r, c = _mirror(ok, rows, cols)
        out[n][:, rows, cols] = detail[n][:, r, c]
    return out


def _mirror(ok: np.ndarray, rows: np.ndarray, cols: np.ndarray, bounces: int = 3) -> tuple[np.ndarray, np.ndarray]:
    near = ndimage.distance_transform_edt(~ok, return_distances=False, return_indices=True)
    height, width = ok.shape
    r, c = rows, cols
    for _ in range(bounces):  # a mirror image may fall into another hole: mirror it again over that one's edge
        again = ~ok[r, c]
        br, bc = near[0][r, c], near[1][r, c]
        r = np.where(again, np.clip(2 * br - r, 0, height - 1), r)
        c = np.where(again, np.clip(2 * bc - c, 0, width - 1), c)
    lost = ~ok[r, c]
    return np.where(lost, near[0][rows, cols], r), np.where(lost, near[1][rows, cols], c)


PATCH = 7  # side of the compared patches at every resolution
COARSEST = 64  # nearest patches are searched exhaustively at no more than this side
ROUNDS = 3  # searches and votes at the coarsest level
REACH = 1  # finer levels look this far around the place the coarser one pointed to


def fill_patches(x: Tensor, hole: Tensor, within: Tensor | None = None) -> Tensor:
    """Fill with the nearest patches of the same image: only values that occur, edges and lines go on sharply.

    Nearest neighbours are exact at the coarsest level, where that is cheap; finer levels refine where it pointed.
    """
    known = sources(hole, within)
    start = fill_harmonic(x, hole, within, detail=0.0)
    done = [_complete(start[n : n + 1], hole[n : n + 1], known[n : n + 1])[0] for n in range(len(x))]
    return torch.where(hole, torch.cat(done), x)


def _complete(x: Tensor, hole: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The completed image, and for every pixel the source its patch was copied from (-1: none)."""
    source = _whole_patches(known).flatten()
    touching = _touching(hole)
    if min(x.shape[-2:]) <= COARSEST:
        guide = torch.full_like(source, -1, dtype=torch.long)
        for _ in range(ROUNDS if source.any() and len(touching) else 0):
            guide[touching] = _nearest(x, touching, source.nonzero()[:, 0])
            x = _vote(x, hole, touching, guide[touching])
        return x, guide
    half = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    half_hole = F.max_pool2d(hole.to(x.dtype), 2, ceil_mode=True) > 0
    coarse, guide = _complete(half, half_hole, _erode2(known))
    up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    up = up[..., : x.shape[-2], : x.shape[-1]]
    x = torch.where(hole, up, x)
    guide = _refined(x, touching, source, guide, coarse.shape[-1])
    touching = touching[guide[touching] >= 0]
    return _vote(x, hole, touching, guide[touching]), guide


def _erode2(known: Tensor) -> Tensor:
    """Half size; known only where all four pixels are."""
    return F.max_pool2d((~known).float(), 2, ceil_mode=True) == 0


def _whole_patches(known: Tensor) -> Tensor:
    """Centres of patches that hold known pixels only and lie inside the image."""
    margin = PATCH // 2
    return F.max_pool2d(F.pad((~known).float(), (margin,) * 4, value=1.0), PATCH, 1) == 0


def _touching(hole: Tensor) -> Tensor:
    """Flat indices of the pixels whose patch touches the hole."""
    return F.max_pool2d(hole.float(), PATCH, 1, PATCH // 2).flatten().nonzero()[:, 0]


def _patches(x: Tensor, at: Tensor) -> Tensor:
    """(len(at), C * PATCH * PATCH): the patches around the given flat indices."""
    width = x.shape[-1]
    padded = F.pad(x, (PATCH // 2,) * 4, mode="replicate")[0]
    step = torch.arange(PATCH, device=x.device)
    rows = (at // width)[:, None, None] + step[:, None]
    cols = (at % width)[:, None, None] + step
    return padded[:, rows, cols].permute(1, 0, 2, 3).flatten(1)


def _nearest(x: Tensor, touching: Tensor, source: Tensor) -> Tensor:
    bank = _patches(x, source)
    norm = (bank * bank).sum(1)
    return torch.cat([source[(norm - 2 * q @ bank.T).argmin(1)] for q in _patches(x, touching).split(1024)])


def _refined(x: Tensor, touching: Tensor, source: Tensor, coarse: Tensor, coarse_width: int) -> Tensor:
    """The best source near where the coarser level pointed, for each patch that touches the hole."""
    height, width = x.shape[-2:]
    guide = torch.full_like(source, -1, dtype=torch.long)
    rows, cols = touching // width, touching % width
    target = coarse[(rows // 2) * coarse_width + cols // 2]
    pointed = target >= 0
    touching, rows, cols, target = (v[pointed] for v in (touching, rows, cols, target))
    rows, cols = target // coarse_width * 2 + rows % 2, target % coarse_width * 2 + cols % 2
    here = _patches(x, touching)
    best = torch.full((len(touching),), float("inf"), dtype=x.dtype, device=x.device)
    for dr in range(-REACH, REACH + 1):
        for dc in range(-REACH, REACH + 1):
            at = (rows + dr).clamp(0, height - 1) * width + (cols + dc).clamp(0, width - 1)
            distance = (_patches(x, at) - here).pow(2).sum(1)
            better = (distance < best) & source[at]
            best = torch.where(better, distance, best)
            guide[touching[better]] = at[better]
    return guide


def _vote(x: Tensor, hole: Tensor, touching: Tensor, match: Tensor) -> Tensor:
    """Mean of what all the matched patches say about each hole pixel."""
    height, width = x.shape[-2:]
    channels, area = x.shape[1], PATCH * PATCH
    votes = torch.zeros(channels * area, height * width, dtype=x.dtype, device=x.device)
    votes[:, touching] = _patches(x, match).T
    count = torch.zeros(area, height * width, dtype=x.dtype, device=x.device)
    count[:, touching] = 1
    padded = (height + PATCH - 1, width + PATCH - 1)
    total, number = F.fold(votes[None], padded, PATCH), F.fold(count[None], padded, PATCH)
    inner = (..., slice(PATCH // 2, PATCH // 2 + height), slice(PATCH // 2, PATCH // 2 + width))
    return torch.where(hole & (number[inner] > 0), total[inner] / number[inner].clamp(min=1), x)
