"""What an IntroVAC lens can be asked beside an explainer's methods."""

from __future__ import annotations

import xlens
from xlens.contracts import seeded
from xlens_introvac.lens import Draw, IntroVACLens

__all__ = ["draw"]


def draw(explainer: xlens.Explainer, n: int, target: int, *, seed: int = 0) -> Draw:
    """Samples of one class by Langevin chains, with the figures of how sampling went.

    ``explainer.sample`` returns the inputs alone.

    Args:
        explainer: of an IntroVAC lens.
        n: inputs wanted.
        target: their class.
        seed: seeds the draw.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `n` is no whole number of at least 1, there is no such class, or the seed is wrong.
        SamplingError: chains diverged (without the Metropolis test only).
    """
    with xlens.asking(explainer, IntroVACLens, "draw") as lens:
        return lens.draw(n, target, seeded(seed, lens.basis.device))
