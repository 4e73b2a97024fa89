"""Whether attributions lie where the cause is, and how concentrated they are."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.errors import DataError
from xlens.metrics.maps import pixel_maps

__all__ = ["mask_iou", "pointing_game", "relevance_mass", "relevance_rank", "sparseness"]


def pointing_game(attributions: Tensor, masks: Tensor) -> Tensor:
    """Pointing game: whether the pixel of largest magnitude lies inside the mask, ``(N,)``, 0 or 1.

    Where several are largest, the share of them that does: a constant map gets the mask's share of the image.

    Args:
        attributions: ``(N, *S)``; the magnitude is that of the sum over channels.
        masks: ``(N, 1, *spatial)``, true at the cause.

    Raises:
        DataError: shapes that do not fit, or an empty mask.

    References:
        Zhang et al. (2018), Top-Down Neural Attention by Excitation Backprop.

    >>> import torch
    >>> mask = torch.tensor([[[[True, False], [False, False]]]])
    >>> pointing_game(torch.tensor([[[[-3.0, 1.0], [0.0, 1.0]]]]), mask)
    tensor([1.])
    """
    size, inside = _sizes_inside(attributions, masks)
    largest = size == size.amax(1, keepdim=True)
    return ((largest & inside).sum(1) / largest.sum(1)).float()


def relevance_mass(attributions: Tensor, masks: Tensor) -> Tensor:
    """Relevance mass: share of the magnitude that lies inside the mask, ``(N,)``; 0 for a map of zeros.

    Arguments and errors as for :func:`pointing_game`.

    References:
        Arras, Osman, Samek (2022), CLEVR-XAI: relevance mass accuracy.
    """
    size, inside = _sizes_inside(attributions, masks)
    return ((size * inside).sum(1) / size.sum(1).clamp_min(1e-300)).float()


def relevance_rank(attributions: Tensor, masks: Tensor) -> Tensor:
    """Relevance rank: share of the K pixels of largest magnitude inside a mask of K pixels, ``(N,)``.

    Pixels of equal magnitude at the limit count by the share of them that is taken. Arguments and errors as for
    :func:`pointing_game`.

    References:
        Arras, Osman, Samek (2022), CLEVR-XAI: relevance rank accuracy.
    """
    return (_common(attributions, masks) / masks.flatten(1).sum(1)).float()


def mask_iou(attributions: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of a mask of K pixels and the K of largest magnitude, ``(N,)``.

    Ties, arguments and errors as for :func:`relevance_rank`, of which this is a function: r / (2 - r).
    """
    common, area = _common(attributions, masks), masks.flatten(1).sum(1)
    return (common / (2 * area - common)).float()


def sparseness(attributions: Tensor) -> Tensor:
    """Gini index of the magnitudes, ``(N,)``: 0 where all are equal, near 1 where few hold all.

    References:
        Chalasani et al. (2020), Concise Explanations of Neural Networks using Adversarial Training.

    >>> import torch
    >>> sparseness(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]))
    tensor([0.0000, 0.7500])
    """
    size = pixel_maps(attributions).abs().sort(1).values
    n = size.shape[1]
    place = torch.arange(1, n + 1, device=size.device, dtype=size.dtype)
    total = size.sum(1)
    index = ((2 * place - n - 1) * size).sum(1) / (n * total).clamp_min(1e-300)
    return torch.where(total > 0, index, 0.0).float()


def _common(attributions: Tensor, masks: Tensor) -> Tensor:
    """Return how many of the K largest pixels lie inside, with ties by their share, ``(N,)``."""
    size, inside = _sizes_inside(attributions, masks)
    area = inside.sum(1, keepdim=True)
    limit = size.sort(1, descending=True).values.gather(1, area - 1)
    above, tied = size > limit, size == limit
    share = (area - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
    return (above & inside).sum(1) + share[:, 0] * (tied & inside).sum(1)


def _sizes_inside(attributions: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    size = pixel_maps(attributions).abs()
    inside = masks.detach().flatten(1).to(size.device).bool()
    if inside.shape != size.shape:
        raise DataError(
            "metrics: masks do not fit the attributions",
            given=f"masks {tuple(masks.shape)} for attributions {tuple(attributions.shape)}",
            allowed="(N, 1, *spatial)",
        )
    if not bool(inside.any(1).all()):
        raise DataError(
            "metrics: a mask is empty",
            given=f"the mask of input {int((~inside.any(1)).nonzero()[0, 0])}",
            do="leave out inputs that have no cause",
        )
    return size, inside
