"""How long the mask is fitted, and on how many inputs."""

from __future__ import annotations

import dataclasses

from xlens.contracts.backend import Spec
from xlens.contracts.options import options, param

__all__ = ["MaskOptions", "MaskPlan", "is_large"]


@dataclasses.dataclass(frozen=True)
class MaskPlan:
    """How many steps, of how many inputs, out of how many.

    Args:
        steps, warm_start_steps, batch_size, pool: those of :class:`MaskOptions`, none of them None.
        read: inputs that are encoded at once.
    """

    steps: int
    warm_start_steps: int
    batch_size: int
    pool: int
    read: int


#: Images with a longer side are dear to the classifier.
_LARGEST_SMALL = 64
_SMALL = MaskPlan(420, 140, 64, 4096, 64)
_LARGE = MaskPlan(160, 60, 16, 256, 16)


def is_large(spec: Spec) -> bool:
    """Whether inputs are images with a side of more than 64 pixels."""
    return spec.is_image and max(spec.shape[1:]) > _LARGEST_SMALL


@options
class MaskOptions:
    """How the mask is fitted: ``xlens.fit(..., mask=MaskOptions(steps=200))``.

    >>> from xlens import MaskOptions
    >>> MaskOptions(steps=200).steps
    200
    """

    steps: int | None = param(None, ge=1, help="training steps; None: 420, and 160 above 64 pixels")
    warm_start_steps: int | None = param(
        None,
        ge=1,
        help="training steps of a mask that begins from an earlier one; None: 140, and 60 above 64 pixels",
    )
    batch_size: int | None = param(None, ge=1, help="inputs a step; None: 64, and 16 above 64 pixels")
    pool: int | None = param(
        None,
        ge=1,
        help="inputs that it is fitted on, at most; each is encoded once; None: 4096, and 256 above 64 pixels",
    )
    flip_share: float = param(0.95, gt=0, lt=1, help="share of inputs that are to flip, of those that can")

    def plan(self, spec: Spec) -> MaskPlan:
        """Return what is done for inputs of this shape: above 64 pixels the classifier is asked seldom."""
        usual = _LARGE if is_large(spec) else _SMALL
        own = {name: getattr(self, name) for name in ("steps", "warm_start_steps", "batch_size", "pool")}
        return dataclasses.replace(usual, **{name: value for name, value in own.items() if value is not None})
