"""Invariances: what an input can turn into, with the classifier's verdict on each variant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.errors import DataError

__all__ = ["DivergenceAttributions", "Invariances"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Invariances:
    """Variants of each input, and whether the classifier keeps its class on them: data only, batch first.

    A lens can only promise that the classifier ignores what it varies. Whether the classifier does is asked of the
    classifier, variant by variant.

    Args:
        inputs: ``(N, *S)`` the real inputs.
        variants: ``(N, n, *S)``; for a grid ``(N, T, T, *S)``.
        kept: ``(N, n)`` or ``(N, T, T)``, whether the classifier predicts the class that it predicts on the real
            input.
        predicted: ``(N,)`` that class.
        class_names: names of the classes.
        data_range: smallest and largest value of the data.
        shown: where the variants lie in a hidden layer, what is shown for them, in words; empty where they are
            inputs.

    >>> found = explainer.invariances(images[:2], 4, scale=0.5)
    >>> found.variants.shape, found.kept.shape, found.share_kept.shape
    (torch.Size([2, 4, 1, 8, 8]), torch.Size([2, 4]), torch.Size([2]))
    """

    inputs: Tensor
    variants: Tensor
    kept: Tensor
    predicted: Tensor
    class_names: tuple[str, ...]
    data_range: tuple[float, float]
    shown: str = ""

    def __post_init__(self) -> None:
        wanted = (*self.kept.shape, *self.inputs.shape[1:])
        if len(self.kept) != len(self.inputs) or tuple(self.variants.shape) != wanted:
            raise DataError(
                "Invariances: parts do not fit together",
                given=f"variants {tuple(self.variants.shape)}, kept {tuple(self.kept.shape)}, "
                f"inputs {tuple(self.inputs.shape)}",
                allowed="(N, n, *S), (N, n) and (N, *S)",
            )
        if not bool(self.variants.isfinite().all()):
            raise DataError("Invariances: a variant is not finite", do="check what the lens decodes")

    def __len__(self) -> int:
        """Return the number of inputs N."""
        return len(self.inputs)

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        per_input = self.kept[0].numel() if len(self) else 0
        share = float(self.kept.float().mean()) if self.kept.numel() else 0.0
        kept = f"the classifier keeps its class on {share:.0%}"
        return f"Invariances({len(self)} inputs, {per_input} variants each; {kept})"

    @property
    def share_kept(self) -> Tensor:
        """Share of each input's variants on which the classifier keeps its class, ``(N,)``."""
        return self.kept.flatten(1).float().mean(1)

    @property
    def distance(self) -> Tensor:
        """L2 distance of each variant from the input, shaped as `kept`, in the inputs' units."""
        flat = self.variants.flatten(self.kept.dim())
        inputs = self.inputs.flatten(1).view(len(self), *([1] * (self.kept.dim() - 1)), -1)
        return (flat - inputs).norm(dim=-1)

    @property
    def diversity(self) -> Tensor:
        """Mean L2 distance between two variants of one input, ``(N,)``; 0 where there is only one.

        A lens whose variants are all alike is trivially invariant, so `share_kept` alone proves nothing.
        """
        flat = self.variants.flatten(1, self.kept.dim() - 1).flatten(2).double()
        n = flat.shape[1]
        if n < 2:
            return self.variants.new_zeros(len(self))
        # One input at a time: all distances at once would take n times the memory of the variants.
        means = [torch.pdist(one).mean() for one in flat]
        return torch.stack(means).to(self.variants.dtype)

    def only_kept(self, index: int) -> Tensor:
        """Return the variants of one input on which the classifier keeps its class, ``(m, *S)``.

        >>> found = explainer.invariances(images[:2], 4, scale=0.5)
        >>> len(found.only_kept(0)) == int(found.kept[0].sum())
        True
        """
        return self.variants[index][self.kept[index]]


@dataclass(frozen=True, kw_only=True, eq=False)
class DivergenceAttributions:
    """Divergence attributions ``(N, *S)``: pixels that make a variant x~ differ from x in one part of the code.

    Args:
        attributions: ``(N, *M, *S)`` of d(x, x~) as a function of x~, with x as baseline; M as the variants had it.
        divergence: ``(N, *M)`` d(x, x~), in nats where it is a KL divergence.
        convergence_delta: ``(N, *M)`` sum of the attributions minus the divergence.
        complete: whether the method promises that the sum is the divergence.
    """

    attributions: Tensor
    divergence: Tensor
    convergence_delta: Tensor
    complete: bool

    def __post_init__(self) -> None:
        shape = tuple(self.divergence.shape)
        if tuple(self.attributions.shape[: len(shape)]) != shape or tuple(self.convergence_delta.shape) != shape:
            raise DataError(
                "DivergenceAttributions: parts do not fit together",
                given=f"attributions {tuple(self.attributions.shape)}, divergence {shape}, "
                f"convergence_delta {tuple(self.convergence_delta.shape)}",
                allowed="(N, *M, *S), (N, *M) and (N, *M)",
            )
        parts = (self.attributions, self.divergence, self.convergence_delta)
        if not all(bool(part.isfinite().all()) for part in parts):
            raise DataError(
                "DivergenceAttributions: a number is not finite",
                do="check the variants for values far outside the data's range",
            )

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        off = self.convergence_delta.abs().max() / self.divergence.abs().max().clamp_min(1e-12)
        promise = "complete" if self.complete else "not complete by design"
        return f"DivergenceAttributions({tuple(self.divergence.shape)}; {promise}, off by up to {float(off):.1%})"
