"""Whether counterfactuals do what they claim, to the classifier and to others, and at what price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xlens.deprecated import renamed
from xlens.errors import DataError, OptionError
from xlens.metrics.classes import Classify, logits_of
from xlens.metrics.perturbation import transition

__all__ = ["OracleValidity", "cout", "oracle_validity", "proximity", "sparsity", "validity"]


@dataclass(frozen=True)
class OracleValidity:
    """What an independent classifier says of counterfactuals.

    Args:
        counted: ``(N,)`` whether the judge sees the target in the input; the others say nothing of the edit.
        flipped: ``(N,)`` whether it sees the contrast class in the counterfactual.
        unedited: ``(N,)`` whether it sees the contrast class in the input already.
    """

    counted: Tensor
    flipped: Tensor
    unedited: Tensor

    @property
    def share(self) -> float:
        """Share of the counted inputs on which it confirms the edit.

        Raises:
            DataError: none is counted.
        """
        if not bool(self.counted.any()):
            raise DataError(
                "oracle_validity: the judge sees the target in none of the inputs",
                do="ask a judge that was trained for the same classes, or pass other inputs",
            )
        return float(self.flipped[self.counted].double().mean())

    @property
    def unedited_share(self) -> float:
        """Share of all inputs in which it sees the contrast class before any edit: what costs nothing."""
        return float(self.unedited.double().mean())


def validity(classify: Classify, counterfactuals: Tensor, contrast: Tensor) -> Tensor:
    """Validity: whether the classifier sees the contrast class in each counterfactual, ``(N,)`` bool.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        counterfactuals: ``(N, *S)``.
        contrast: ``(N,)``.
    """
    return logits_of(classify, counterfactuals).argmax(1) == contrast


def oracle_validity(
    oracle: Classify, inputs: Tensor, counterfactuals: Tensor, target: Tensor, contrast: Tensor
) -> OracleValidity:
    """Oracle validity: whether the edits convince an independently trained classifier too.

    A figure on the classifier alone proves little, because what only fools the classifier flips it as well.

    Args:
        oracle: maps inputs to logits ``(M, K)``; it must have had no part in fitting the classifier or the lens.
        inputs, counterfactuals: ``(N, *S)``.
        target, contrast: ``(N,)``.

    >>> import torch
    >>> judge = lambda x: torch.stack([-x.sum(1), x.sum(1)], 1)
    >>> one, zero = torch.tensor([1, 1]), torch.tensor([0, 0])
    >>> found = oracle_validity(judge, torch.tensor([[2.0], [-1.0]]), torch.tensor([[-1.0], [-1.0]]), one, zero)
    >>> found.share, found.unedited_share
    (1.0, 0.5)
    """
    before = logits_of(oracle, inputs).argmax(1)
    return OracleValidity(before == target, validity(oracle, counterfactuals, contrast), before == contrast)


def proximity(inputs: Tensor, counterfactuals: Tensor, *, norm: Literal[1, 2] = 1) -> Tensor:
    """Proximity: L1 or L2 norm of the change, ``(N,)``, in the units of the inputs.

    Raises:
        OptionError: another norm.
        DataError: different shapes.

    >>> import torch
    >>> proximity(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), norm=2)
    tensor([5.])
    """
    if norm not in (1, 2):
        raise OptionError(f"proximity: norm must be 1 or 2, got {norm!r}")
    return _change(inputs, counterfactuals).flatten(1).norm(p=norm, dim=1)


def sparsity(inputs: Tensor, counterfactuals: Tensor, data_range: float) -> Tensor:
    """Sparsity: share of pixels that change by more than 1/255 of the range in any channel, ``(N,)``.

    Args:
        inputs, counterfactuals: ``(N, *S)``.
        data_range: largest minus smallest possible value.

    >>> import torch
    >>> sparsity(torch.zeros(1, 1, 1, 4), torch.tensor([[[[0.0, 0.003, 0.005, 1.0]]]]), 1.0)
    tensor([0.5000])
    """
    if not data_range > 0:
        raise OptionError(f"sparsity: data_range must be above 0, got {data_range!r}")
    changed = _change(inputs, counterfactuals).abs() > data_range / 255
    if changed.dim() > 2:
        changed = changed.any(1)
    return changed.flatten(1).float().mean(1)


@renamed(steps="points")
def cout(
    classify: Classify,
    inputs: Tensor,
    counterfactuals: Tensor,
    target: Tensor,
    contrast: Tensor,
    *,
    points: int = 20,
) -> Tensor:
    """Counterfactual transition score (COUT), ``(N,)`` in [-1, 1]; large is good.

    Pixels of the counterfactual are put into the input, those that change most first. The score is the area under
    the probability of the contrast class minus that under the target's: near 1, few pixels do it.

    Args:
        classify: maps inputs to logits ``(M, K)``.
        inputs, counterfactuals: ``(N, *S)``.
        target, contrast: ``(N,)``.
        points: of the curve.

    References:
        Khorram, Fuxin (2022), Cycle-Consistent Counterfactuals by Latent Transformations (COUT).
    """
    size = _change(inputs, counterfactuals).abs()
    curve = transition(classify, inputs, counterfactuals, size, points=points)
    rows = torch.arange(len(target), device=target.device)
    difference = curve[rows, :, contrast] - curve[rows, :, target]
    return torch.trapezoid(difference, dx=1 / points, dim=1)


def _change(inputs: Tensor, counterfactuals: Tensor) -> Tensor:
    if inputs.shape != counterfactuals.shape:
        raise DataError(
            "metrics: inputs and counterfactuals differ in shape",
            given=f"{tuple(inputs.shape)} and {tuple(counterfactuals.shape)}",
        )
    return counterfactuals - inputs
