"""What a medXGAN lens can be asked beside an explainer's methods."""

from __future__ import annotations

from typing import Any

from torch import Tensor

import xlens
from xlens.contracts import check_count, seeded
from xlens.data import as_inputs
from xlens_medxgan.lens import MedXGANLens

__all__ = ["invert"]


def invert(
    explainer: xlens.Explainer, inputs: Any, *, steps: int = 500, restarts: int = 1, seed: int = 0
) -> Tensor:
    """Inversion: codes ``(restarts, N, d)`` found by Adam from independent starts in the prior (paper, eq. 5).

    Args:
        explainer: of a medXGAN lens.
        inputs: ``(N, C, H, W)``.
        steps: Adam steps of each search.
        restarts: searches for each input.
        seed: seeds the starts.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: steps or restarts are no whole numbers of at least 1, or the seed is wrong.
        DataError: inputs of another shape, none, or values that are not finite.
    """
    check_count("invert", steps, "steps")
    check_count("invert", restarts, "restarts")
    with xlens.asking(explainer, MedXGANLens, "invert") as lens:
        x = as_inputs(inputs, lens.spec.shape).to(lens.usual.device)
        return lens.invert(x, steps=steps, restarts=restarts, generator=seeded(seed, x.device))
