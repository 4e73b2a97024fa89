"""Whether an explanation stays the same where it should, and changes where it should."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from xlens.classifier.copies import copied
from xlens.errors import DataError
from xlens.metrics.fidelity import ssim
from xlens.metrics.maps import pixel_maps

__all__ = ["rank_correlation", "restart_stability", "shuffled_weights"]


def restart_stability(codes: Tensor, images: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Stability over restarts: cosine of codes and SSIM of images, ``(N,)`` each.

    Each is the mean over all pairs of restarts.

    Args:
        codes: ``(R, N, d)`` found from R independent starts; R >= 2.
        images: ``(R, N, *S)`` what they decode to.
        data_range: largest minus smallest possible value.

    Raises:
        DataError: fewer than two restarts, or parts that do not fit.

    References:
        Dravid et al. (2022), medXGAN, table 3.
    """
    if codes.dim() != 3 or len(codes) < 2 or codes.shape[:2] != images.shape[:2]:
        raise DataError(
            "restart_stability: not the results of several restarts",
            given=f"codes {tuple(codes.shape)}, images {tuple(images.shape)}",
            allowed="(R, N, d) and (R, N, *S), R >= 2",
        )
    pairs = list(combinations(range(len(codes)), 2))
    cosine = torch.stack([torch.cosine_similarity(codes[i], codes[j], dim=1) for i, j in pairs])
    alike = torch.stack([ssim(images[i], images[j], data_range) for i, j in pairs])
    return cosine.mean(0), alike.mean(0)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of the magnitudes of each pair of maps, ``(N,)`` in [-1, 1].

    Between maps for the classifier and maps for the classifier with other weights this is the model-randomisation
    check: near 1, a method does not look at the weights. Two constant maps are alike (1); a constant one is like no
    other (0).

    Args:
        first, second: ``(N, *S)`` attributions.

    References:
        Adebayo et al. (2018), Sanity Checks for Saliency Maps.

    >>> import torch
    >>> rank_correlation(torch.tensor([[1.0, 2.0, -3.0]]), torch.tensor([[1.0, 4.0, 9.0]]))
    tensor([1.])
    """
    from scipy.stats import rankdata

    sizes = (pixel_maps(maps).abs().cpu().numpy() for maps in (first, second))
    a, b = (torch.from_numpy(rankdata(size, axis=1)).double() for size in sizes)
    if a.shape != b.shape:
        raise DataError("rank_correlation: maps differ in shape", given=f"{tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    sizes = a.norm(dim=1) * b.norm(dim=1)
    both_flat = (a == 0).all(1) & (b == 0).all(1)
    found = torch.where(sizes > 0, (a * b).sum(1) / sizes.clamp_min(1e-300), both_flat.double())
    return found.float().to(first.device)


def shuffled_weights(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Randomised model: a copy, without hooks, in which the numbers of each parameter are permuted.

    So every layer keeps the distribution of its weights, and all that was learnt is gone. Buffers stay.

    >>> import torch
    >>> model = torch.nn.Linear(3, 2)
    >>> other = shuffled_weights(model)
    >>> bool((model.weight.flatten().sort().values == other.weight.flatten().sort().values).all())
    True
    """
    generator = torch.Generator().manual_seed(seed)
    other = copied(model, "shuffled_weights")
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.reshape(-1)[order].view_as(parameter))
    return other
