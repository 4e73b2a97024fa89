"""Carrying: how a lens's change reaches the real input, as one table of formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from xlens.attr.curve import Curve, broadcast
from xlens.contracts.additions import Carrier
from xlens.errors import OptionError

__all__ = ["CARRIES", "CarriedCurve", "Carry", "PartsCurve", "carried", "carry_faults", "clamped", "default_carry"]

CarryName = Literal["masked", "residual", "none"]
#: By name, or as a third party's object.
Carry: TypeAlias = CarryName | Carrier
CARRIES: tuple[str, ...] = get_args(CarryName)
#: What is shown -> how its change is carried where nobody says. The mask was fitted on the way to the contrast
#: class, so a counterfactual goes through it, and an edit of a named feature, which may lie elsewhere, does not.
_DEFAULTS: dict[str, Carry] = {"counterfactual": "masked", "edit": "residual"}


def default_carry(masked: bool, shown: Literal["counterfactual", "edit"] = "counterfactual") -> Carry:
    """Return how a change is carried where nobody says; through a mask only where there is one."""
    default = _DEFAULTS[shown]
    return "residual" if default == "masked" and not masked else default


def carry_faults(carry: Any, masked: bool, allowed: Sequence[str | None] = (*CARRIES, None)) -> list[str]:
    """Return, in words, what is wrong with a carry that was asked for; None stands for the default."""
    if isinstance(carry, Carrier) and None in allowed:
        return []
    if carry not in allowed:
        *first, last = map(repr, allowed)
        return [f"carry must be {', '.join(first)} or {last}, got {carry!r}"]
    if carry == "masked" and not masked:
        return ["carry='masked' needs a mask, as images have; here it is 'residual' or 'none'"]
    return []


def carried(
    carry: Carry,
    inputs: Tensor,
    reconstruction: Tensor,
    decoded: Tensor,
    mask: Tensor | None = None,
    alphas: Tensor | None = None,
) -> Tensor:
    """Return a lens's change on the real inputs ``(N, *S)``, not clamped yet. Every carrying is one of these lines.

    ======== =========================================== =======================================================
    carry    the counterfactual, a = 0                   the point a on the way to the input
    ======== =========================================== =======================================================
    masked   x' = x + m (G(z') - x)                      x(a) = x + m [G(z(a)) - G(z) + (1 - a)(G(z) - x)]
    residual x' = x + G(z') - G(z)                       x(a) = x + G(z(a)) - G(z)
    none     x' = G(z')                                  x(a) = G(z(a))
    ======== =========================================== =======================================================

    Masked, what lies under the mask is the lens's decoding and nothing of the input: what a lens leaves out of an
    input may be the very evidence. A lens that edits inputs is the first line, with its fill for G(z') and, on the
    way (:class:`PartsCurve`), with each part of its mask opened by as much as its code says.

    Args:
        carry: which of the three, or a third party's.
        inputs: ``(N, *S)`` x.
        reconstruction: ``(N, *S)`` G(z).
        decoded: ``(N, *S)`` G(z'), or G(z(a)).
        mask: ``(N, 1, *spatial)`` m in [0, 1], for ``"masked"``.
        alphas: ``(N, 1, ...)`` a; None for the counterfactual.

    Raises:
        OptionError: ``"masked"`` without a mask.
    """
    if isinstance(carry, Carrier):
        at = torch.zeros_like(inputs[:, :1]) if alphas is None else alphas
        return carry.carry(inputs, reconstruction, decoded, at)
    if carry == "none":
        return decoded
    if carry == "residual":
        return inputs + (decoded - reconstruction)
    if mask is None:
        raise OptionError("carried: carry='masked' needs a mask")
    if alphas is None:
        return inputs + mask * (decoded - inputs)
    return inputs + mask * (decoded - reconstruction + (1 - alphas) * (reconstruction - inputs))


def clamped(edited: Tensor, inputs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clamp edited inputs ``(N, *S)`` to the range of the data, or of the input where that is wider."""
    return torch.maximum(torch.minimum(edited, torch.maximum(high, inputs)), torch.minimum(low, inputs))


@dataclass(frozen=True)
class CarriedCurve:
    """The lens's path in codes, carried onto the real input: x(a) of ``carried``.

    With z(a) a curve in codes from z0 to z, usually the straight one. ``"masked"`` and ``"residual"`` are clamped
    to the range of the data (or of the input, where that is wider), and end at x.

    Args:
        inputs: ``(N, *S)`` x.
        codes: z(a).
        reconstruction: ``(N, *S)`` G(z).
        decode: G.
        carry: which of the three.
        mask: ``(N, 1, *spatial)`` for ``"masked"``.
        minimum, maximum: range of the data, broadcast over ``(N, *S)``.
    """

    inputs: Tensor
    codes: Curve
    reconstruction: Tensor
    decode: Callable[[Tensor], Tensor]
    carry: Carry
    mask: Tensor | None
    minimum: Tensor
    maximum: Tensor

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, *S)``."""
        decoded = self.decode(self.codes(rows, alphas))
        if self.carry == "none":
            return decoded
        inputs, reconstruction = self.inputs[rows], self.reconstruction[rows]
        alphas = broadcast(alphas, inputs)
        mask = None if self.mask is None else self.mask[rows]
        edited = carried(self.carry, inputs, reconstruction, decoded, mask, alphas)
        edited = clamped(edited, inputs, self.minimum, self.maximum)
        # At the end it is x exactly, whatever a decoder's rounding makes of the same code twice; the curve's
        # velocity there stays what it is.
        return torch.where(alphas == 1, edited - edited.detach() + inputs, edited)


@dataclass(frozen=True)
class PartsCurve:
    """Inputs whose parts are filled by amounts: x(a) = x + sum_p m_p (1 - z_p(a)) (fill - x).

    Args:
        inputs: ``(N, C, H, W)`` x.
        codes: z(a) ``(M, P)``, 1 where a part is as it was.
        filled: ``(N, C, H, W)``.
        parts: ``(N, P, H, W)`` m_p.
    """

    inputs: Tensor
    codes: Curve
    filled: Tensor
    parts: Tensor

    def __call__(self, rows: Tensor, alphas: Tensor) -> Tensor:
        """Return points ``(M, C, H, W)``."""
        return self.rendered(self.codes(rows, alphas), rows)

    def rendered(self, codes: Tensor, rows: Tensor) -> Tensor:
        """Return inputs with each part as a code says ``(M, P)``; where it is 1 throughout, the input exactly."""
        mask = torch.einsum("mp,mphw->mhw", 1 - codes, self.parts[rows]).unsqueeze(1)
        return carried("masked", self.inputs[rows], self.inputs[rows], self.filled[rows], mask)
