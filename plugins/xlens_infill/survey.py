"""Bag of visual words: which small patches do the classifier's classes have and lack?

The classifier says of whole images which class they are. Images of both classes are cut into small patches, each is
named by its nearest word of a vocabulary, and words are counted: those much more frequent where the classifier says
"diseased" than where it says "healthy" are what its positives have and its negatives lack. On a new image the
log-ratio of its words is a map that is sharp, takes every spot that looks alike, and knows rims, veins and shadows,
which healthy inputs have too. No gradient, and no training beyond counting. The search in ``where`` asks the
classifier which of these places it cares about.

Images are ``(N, C, H, W)`` in any range; ``within`` ``(N, 1, H, W)`` marks the object, outside of which nothing
counts.

References:
    Csurka et al. (2004), Visual Categorization with Bags of Keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DIMS = 12  # principal components of a descriptor
PER_IMAGE = 500  # patches drawn from each image
SMOOTH = 3.0  # words seen this rarely say little: pseudo-counts
NEAREST = 8  # a map value is the soft mean over this many words
SHARPNESS = 3.0  # ... weighted by exp(-SHARPNESS * extra distance)
WEIGHTS = (1.0, 0.7, 0.5)  # of the three scales of a descriptor
CELL = 8  # pixels averaged before the median that is an object's tone
FINEST_SIDE = 112  # maps are computed at about this side
SCALES = (1, 2, 4)  # of a descriptor, in units of the finest
#: Shares of an object that may exceed a level of evidence in inputs of the contrast class, from the strictest.
LEVELS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04)
REFERENCES = 30  # inputs of each class by which levels are set
_CHUNK = 16384  # patches compared with the vocabulary at once


def described_width(channels: int) -> tuple[int, int]:
    """Return the width of a descriptor of images with that many channels, and of its principal components."""
    width = channels * 9 * len(SCALES)
    return width, min(DIMS, width)


def scale_of(side: int) -> int:
    """Return the pixels that the finest scale pools, in images of that shorter side."""
    return max(1, round(side / FINEST_SIDE))


def describe(x: Tensor, within: Tensor, scale: int) -> Tensor:
    """(N, D, H/scale, W/scale): 3x3 neighbourhoods at three scales, relative to the object's own tone.

    Without the last, words would tell light objects from dark ones wherever the classifier's decision goes with
    tone, and the map would be everywhere. What lies outside the object is neutral, so that its outline is no event.
    """
    inside = within.to(x.dtype)
    z = (x - _tone(x, within)) * inside
    out: list[Tensor] = []
    for weight, factor in zip(WEIGHTS, SCALES, strict=True):
        k = factor * scale
        mean = F.avg_pool2d(z, k, ceil_mode=True) / F.avg_pool2d(inside, k, ceil_mode=True).clamp(min=0.25)
        u = F.unfold(F.pad(mean, (1, 1, 1, 1), mode="replicate"), 3).unflatten(2, mean.shape[-2:])
        out.append(weight * (F.interpolate(u, out[0].shape[-2:], mode="bilinear") if out else u))
    return torch.cat(out, 1)


def _tone(x: Tensor, within: Tensor) -> Tensor:
    """Each object's own colour: a median, which spots do not pull, of cell means, which on line art do not jump."""
    share = F.avg_pool2d(within.to(x.dtype), CELL, ceil_mode=True)
    cell = F.avg_pool2d(x * within, CELL, ceil_mode=True) / share.clamp(min=1e-6)
    return torch.where(share > 0.5, cell, torch.nan).flatten(2).nanmedian(2).values.nan_to_num()[..., None, None]


@dataclass(frozen=True)
class Survey:
    """Vocabulary of patches, and how often each word occurs in the images of each class.

    The classes are the classifier's decisions.
    """

    mean: Tensor  # (D,)
    basis: Tensor  # (D, d), half-whitened: rare directions count, noise does not
    words: Tensor  # (W, d)
    counts: Tensor  # (classes, W)

    def log_ratio(self, target: int, contrast: int) -> Tensor:
        """(W,) how much more often each word occurs with ``target`` than with ``contrast``."""
        a, b = self.counts[target], self.counts[contrast]
        prior = SMOOTH / (a.sum() + b.sum())
        return ((a / a.sum() + prior) / (b / b.sum() + prior)).log()

    def evidence(self, x: Tensor, within: Tensor, target: int, contrast: int) -> Tensor:
        """(N, 1, H, W) log-ratio of what is seen at each pixel; -inf outside the object."""
        scale = scale_of(min(x.shape[-2:]))
        described = describe(x, within, scale)
        out = described.new_zeros(len(x), 1, *described.shape[-2:])
        inside = F.max_pool2d(within.to(x.dtype), scale, ceil_mode=True) > 0
        near = self.nearest(described.permute(0, 2, 3, 1)[inside[:, 0]])
        out[inside] = softened(near, self.log_ratio(target, contrast))
        out = F.interpolate(out, scale_factor=scale, mode="bilinear", align_corners=False)
        return out[..., : x.shape[-2], : x.shape[-1]].masked_fill(~within, -torch.inf)

    def nearest(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``(V, n)`` and places ``(V, n)`` of the nearest words of each described patch."""
        found = [self._nearest(part) for part in vectors.split(_CHUNK)]
        return torch.cat([weight for weight, _ in found]), torch.cat([index for _, index in found])

    def _nearest(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        distance = torch.cdist((vectors - self.mean) @ self.basis, self.words)
        near, index = distance.topk(min(NEAREST, len(self.words)), largest=False)
        return (-SHARPNESS * (near - near[:, :1])).softmax(1), index


def softened(near: tuple[Tensor, Tensor], ratio: Tensor) -> Tensor:
    """Mean log-ratio ``(V,)`` of the nearest words of each described patch, the nearest counting most."""
    weight, index = near
    return (weight * ratio[index]).sum(1)


def survey(x: Tensor, within: Tensor, decision: Tensor, classes: int, *, words: int, seed: int = 0) -> Survey:
    """Count words in ``x`` by the classifier's ``decision`` (N,)."""
    scale = scale_of(min(x.shape[-2:]))
    generator = torch.Generator().manual_seed(seed)
    patches, owner = _draw(x, within, scale, generator, PER_IMAGE)
    mean = patches.mean(0)
    values, basis = torch.linalg.eigh(torch.cov(patches.T))
    spread = values[-described_width(x.shape[1])[1] :].clamp(min=1e-9 * float(values[-1])).sqrt()
    basis = basis[:, -len(spread) :] / spread.sqrt()
    points = (patches - mean) @ basis
    vocabulary = _means(_spread(points, generator), words, seed)
    word = torch.cat([torch.cdist(p, vocabulary).argmin(1) for p in points.split(_CHUNK)])
    counts = torch.zeros(classes, words, device=x.device)
    counts.index_put_((decision[owner], word), torch.ones(len(word), device=x.device), accumulate=True)
    return Survey(mean, basis, vocabulary, counts)


def separation(s: Survey, x: Tensor, within: Tensor, decision: Tensor) -> float:
    """AUC with which each image's most telling 1% of patches gives away its class; mean over pairs of classes.

    Of each pair it is the better of two: one class may have nothing that the other lacks.
    """
    generator = torch.Generator().manual_seed(0)
    patches, owner = _draw(x, within, scale_of(min(x.shape[-2:])), generator, 5 * PER_IMAGE)
    near = s.nearest(patches)
    present, found = decision.unique().tolist(), []
    for n, first in enumerate(present):
        for second in present[n + 1 :]:
            both = []
            for own, other in ((first, second), (second, first)):
                value = softened(near, s.log_ratio(own, other))
                top = torch.stack([_top(value[owner == i]) for i in range(len(x))])
                wins = top[decision == own][:, None] - top[decision == other]
                both.append(float(((wins > 0) + 0.5 * (wins == 0)).float().mean()))
            found.append(max(both))
    return sum(found) / max(1, len(found))


def _top(evidence: Tensor) -> Tensor:
    return evidence.topk(max(1, len(evidence) // 100)).values.mean() if len(evidence) else evidence.new_zeros(())


def levels_of(s: Survey, x: Tensor, within: Tensor, decision: Tensor, classes: int) -> Tensor:
    """Quantiles ``(K, K, L)`` of the evidence for a target, row, in inputs of a contrast class, column.

    Only `LEVELS` of their objects exceed them. Of a class that the classifier sees nowhere, those of all inputs.
    """
    levels = torch.zeros(classes, classes, len(LEVELS), device=x.device)
    shares = 1 - torch.tensor(LEVELS, device=x.device)
    for contrast in range(classes):
        rows = (decision == contrast).nonzero()[:REFERENCES, 0]
        rows = rows if len(rows) else torch.arange(min(REFERENCES, len(x)), device=x.device)
        near = s.nearest(_pixels(x[rows], within[rows]))
        for target in range(classes):
            if target != contrast:
                levels[target, contrast] = torch.quantile(softened(near, s.log_ratio(target, contrast)), shares)
    return levels


def _pixels(x: Tensor, within: Tensor, most: int = 200_000) -> Tensor:
    """Descriptors of some pixels of objects, evenly spread, at most as many as quantiles are taken of at once."""
    scale = scale_of(min(x.shape[-2:]))
    inside = F.max_pool2d(within.to(x.dtype), scale, ceil_mode=True)[:, 0] > 0
    vectors = describe(x, within, scale).permute(0, 2, 3, 1)[inside]
    return vectors[:: max(1, len(vectors) // most)]


def _draw(x: Tensor, within: Tensor, scale: int, generator: torch.Generator, number: int) -> tuple[Tensor, Tensor]:
    """Patches at random places of each object, and which image each came from."""
    patches, owner = [], []
    for i in range(len(x)):
        described = describe(x[i : i + 1], within[i : i + 1], scale)[0].flatten(1).T
        inside = F.avg_pool2d(within[i : i + 1].float(), scale, ceil_mode=True).flatten() > 0.6
        index = inside.nonzero()[:, 0]
        index = index[torch.randperm(len(index), generator=generator)[:number]]
        patches.append(described[index])
        owner.append(torch.full((len(index),), i, device=x.device))
    return torch.cat(patches), torch.cat(owner)


def _spread(points: Tensor, generator: torch.Generator, number: int = 6000) -> Tensor:
    """Half at random, half in proportion to the squared distance from the mean: what is rare gets words too."""
    weight = points.pow(2).sum(1).clamp(min=1e-12).cpu()
    far = torch.multinomial(weight, min(number, len(points)), replacement=True, generator=generator)
    return torch.cat([points[torch.randperm(len(points), generator=generator)[:number]], points[far]])


def _means(points: Tensor, k: int, seed: int) -> Tensor:
    """Centres ``(k, d)`` of k-means; where there are fewer points, they stand several times."""
    from sklearn.cluster import KMeans

    values = points.cpu().numpy()
    if len(values) <= k:
        return points[torch.arange(k, device=points.device) % len(points)]
    found = KMeans(k, init="random", n_init=1, max_iter=15, random_state=seed % 2**32).fit(values)
    return torch.from_numpy(found.cluster_centers_).to(points)
