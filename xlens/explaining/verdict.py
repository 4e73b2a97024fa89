"""The verdict: how faithful an explanation is, and why it does not hold, in words."""

from __future__ import annotations

from torch import Tensor

from xlens.explanation import Fidelity

__all__ = ["not_local", "problems_of"]

#: Above this share of the lens's whole change, and of the image's area, an edit is not local.
_LOCAL = 0.6
_LOCAL_AREA = 0.2
#: A reconstruction on which f's probability is further off does not stand for the input.
_PROBABILITY_GAP = 0.25


def problems_of(
    fidelity: Fidelity,
    margins: dict[str, Tensor],
    deltas: dict[str, tuple[Tensor, Tensor]],
    already: Tensor,
    tolerance: float,
) -> tuple[tuple[str, ...], ...]:
    """Say in words, per input, why its explanation does not hold; an empty tuple where it does.

    Args:
        fidelity: the figures.
        margins: f's score on the inputs and on the lens's decodings.
        deltas: name -> what an integral is off by, and what it should sum to, each ``(N,)``.
        already: ``(N,)`` whether f predicts the contrast class on the input itself.
        tolerance: largest relative error of an integral.
    """
    gap = (margins["inputs"].sigmoid() - margins["reconstruction"].sigmoid()).abs()
    found: list[tuple[str, ...]] = []
    for i in range(len(gap)):
        rows = []
        if already[i]:
            rows.append("f predicts the contrast class already, so there is no evidence to take away")
        if not fidelity.agrees[i]:
            rows.append("f sees another class in the lens's reconstruction")
        elif gap[i] > _PROBABILITY_GAP:
            rows.append(f"f's probability on the reconstruction is off by {gap[i]:.2f}")
        if not fidelity.flips[i]:
            rows.append("the counterfactual does not change f's decision to the contrast class")
        for name, (delta, total) in deltas.items():
            # A little more than the tolerance, for rounding between batches.
            if delta[i].abs() > 1.02 * tolerance * total[i].clamp_min(1e-3) + 1e-5:
                rows.append(f"{name} is incomplete by {delta[i]:.3g} of {total[i]:.3g}")
        found.append(tuple(rows))
    return tuple(found)


def not_local(fidelity: Fidelity, mask: Tensor) -> Tensor:
    """Where an edit covers much of the input and most of what the lens would change, ``(N,)``.

    A lens that changes little is let through whole, and its edit is local all the same.
    """
    return (fidelity.coverage > _LOCAL) & (mask.flatten(1).mean(1) > _LOCAL_AREA)
