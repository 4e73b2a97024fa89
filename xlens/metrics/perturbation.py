"""What the classifier says when pixels are exchanged in the order of an attribution."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.contracts.numbers import is_count, is_number
from xlens.deprecated import renamed
from xlens.errors import DataError, OptionError
from xlens.metrics.classes import Classify, probabilities_of
from xlens.metrics.maps import removal_order

__all__ = ["deletion", "diff_id", "insertion", "intensity_drop", "transition"]

#: Inputs that are exchanged at once, so that no second copy of all of them is made.
_BATCH = 256


@renamed(steps="points")
def transition(
    classify: Classify, inputs: Tensor, others: Tensor, attributions: Tensor, *, points: int = 20
) -> Tensor:
    """Perturbation curve ``(N, T + 1, K)``: pixels become those of others, the largest attribution first.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        inputs, others: ``(N, *S)``; all channels of a pixel go together.
        attributions: ``(N, *S)`` or ``(N, 1, *spatial)``; signed: evidence against goes last.
        points: T; the same number of pixels goes at each, up to rounding.

    Returns:
        class probabilities ``(N, T + 1, K)``, from the inputs to the others.

    Raises:
        DataError: shapes that do not fit.
        OptionError: fewer than one step.

    >>> import torch
    >>> classify = lambda x: torch.stack([torch.zeros(len(x)), x.sum(1)], 1)
    >>> transition(classify, torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([[2.0, 1.0]]), points=2).shape
    torch.Size([1, 3, 2])
    """
    if inputs.shape != others.shape or not _fits(attributions, inputs):
        raise DataError(
            "metrics: parts do not fit together",
            given=f"inputs {tuple(inputs.shape)}, others {tuple(others.shape)}, "
            f"attributions {tuple(attributions.shape)}",
            allowed="one shape, (N, *S); attributions (N, 1, *spatial) too",
        )
    if not is_count(points):
        raise OptionError(f"metrics: points must be an int >= 1, got {points!r}")
    parts = (values.split(_BATCH) for values in (inputs, others, attributions))
    return torch.cat([_exchanged(classify, x, y, a, points) for x, y, a in zip(*parts, strict=True)])


def _exchanged(classify: Classify, inputs: Tensor, others: Tensor, attributions: Tensor, points: int) -> Tensor:
    places = _spread(removal_order(attributions), inputs)
    n_pixels = places[0].numel()
    counts = [round(point * n_pixels / points) for point in range(points + 1)]
    found = [probabilities_of(classify, torch.where(places < count, others, inputs)) for count in counts]
    return torch.stack(found, 1)


@renamed(steps="points")
def deletion(
    classify: Classify, inputs: Tensor, attributions: Tensor, target: Tensor, baselines: Tensor, *, points: int = 20
) -> Tensor:
    """Deletion: area under the target's probability as its pixels go, ``(N,)`` in [0, 1]; small is good.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        inputs: ``(N, *S)``.
        attributions: ``(N, *S)``, signed.
        target: ``(N,)``.
        baselines: ``(N, *S)`` what pixels are exchanged for.
        points: of the curve.

    References:
        Petsiuk, Das, Saenko (2018), RISE: Randomized Input Sampling for Explanation of Black-box Models.
    """
    return _area(transition(classify, inputs, baselines, attributions, points=points), target)


@renamed(steps="points")
def insertion(
    classify: Classify, inputs: Tensor, attributions: Tensor, target: Tensor, baselines: Tensor, *, points: int = 20
) -> Tensor:
    """Insertion: area under the target's probability as its pixels come, ``(N,)`` in [0, 1]; large is good.

    Arguments and source as for :func:`deletion`; the image begins as the baseline.
    """
    return _area(transition(classify, baselines, inputs, attributions, points=points), target)


@renamed(steps="points")
def diff_id(
    classify: Classify, inputs: Tensor, attributions: Tensor, target: Tensor, baselines: Tensor, *, points: int = 20
) -> Tensor:
    """DiffID: insertion minus deletion, ``(N,)`` in [-1, 1]; large is good, and 0 is what a random map gets.

    Arguments as for :func:`deletion`.

    References:
        Yang, Wang, Bilgic (2023), Local Path Integration for Attribution (DiffID).
    """
    inserted = insertion(classify, inputs, attributions, target, baselines, points=points)
    return inserted - deletion(classify, inputs, attributions, target, baselines, points=points)


def intensity_drop(
    classify: Classify, inputs: Tensor, attributions: Tensor, target: Tensor, *, share: float = 0.05
) -> Tensor:
    """Intensity drop ``(N,)``: fall of the target's probability when the most salient pixels become mean grey.

    Every method loses the same share of the image, so that one that marks much of it gains nothing by that.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        inputs: ``(N, *S)``; a pixel takes the mean of its channel over its own image.
        attributions: ``(N, *S)``, signed.
        target: ``(N,)``.
        share: of the pixels that are replaced, above 0 and at most 1; one pixel at least.

    Raises:
        DataError: attributions that do not fit the inputs.
        OptionError: a share out of range.

    References:
        Dravid et al. (2022), medXGAN, section 4.1.
    """
    if not is_number(share) or not 0 < share <= 1:
        raise OptionError(f"intensity_drop: share must be above 0 and at most 1, got {share!r}")
    if not _fits(attributions, inputs):
        raise DataError(
            "intensity_drop: attributions do not fit the inputs",
            given=f"{tuple(attributions.shape)} for {tuple(inputs.shape)}",
            allowed="(N, *S) or (N, 1, *spatial)",
        )
    parts = zip(inputs.split(_BATCH), attributions.split(_BATCH), strict=True)
    fallen = torch.cat([_fall(classify, few, maps, share) for few, maps in parts])
    return fallen.gather(1, target.view(-1, 1))[:, 0]


def _fall(classify: Classify, inputs: Tensor, attributions: Tensor, share: float) -> Tensor:
    """Return how far the probability of each class falls, ``(N, K)``."""
    order = removal_order(attributions)
    gone = _spread(order, inputs) < max(1, round(share * order.shape[1]))
    spatial = tuple(range(2, inputs.dim())) or (1,)
    grey = torch.where(gone, inputs.mean(spatial, keepdim=True), inputs)
    return probabilities_of(classify, inputs) - probabilities_of(classify, grey)


def _fits(attributions: Tensor, inputs: Tensor) -> bool:
    one_channel = (len(inputs), 1, *inputs.shape[2:]) if inputs.dim() > 2 else tuple(inputs.shape)
    return tuple(attributions.shape) in (tuple(inputs.shape), one_channel)


def _area(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the area by trapezoids under a curve of T + 1 points on [0, 1]."""
    rows = torch.arange(len(target), device=target.device)
    curve = probabilities[rows, :, target]
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _spread(places: Tensor, inputs: Tensor) -> Tensor:
    """Return the places of pixels in the shape of inputs, with one channel."""
    if inputs.dim() < 3:
        return places
    return places.view(len(places), 1, *inputs.shape[2:])
