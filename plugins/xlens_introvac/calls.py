"""What an IntroVAC lens can be asked beside an explainer's methods."""

from __future__ import annotations

from collections.abc import Mapping

import xlens
from xlens.contracts import seeded
from xlens_introvac.lens import IntroVACLens
from xlens_introvac.sampling import Draw

__all__ = ["draw"]


def draw(
    explainer: xlens.Explainer,
    n: int,
    target: int | None = None,
    *,
    attributes: Mapping[str, bool | float] | None = None,
    seed: int = 0,
) -> Draw:
    """Samples of one class, or with some attributes, by Langevin chains, with the figures of how sampling went.

    ``explainer.sample`` returns the inputs alone.

    Args:
        explainer: of an IntroVAC lens.
        n: inputs wanted.
        target: their class; None for any.
        attributes: name -> True or False, of what is yes or no; or a number, in standard deviations of what is
            measured. The head says whether decodings have them, as the classifier knows none.
        seed: seeds the draw.

    Raises:
        UnsupportedError: its lens is of another backend.
        OptionError: `n` is no whole number of at least 1, there is no such class or attribute, or the seed is
            wrong.
        SamplingError: chains diverged (without the Metropolis test only).
    """
    with xlens.asking(explainer, IntroVACLens, "draw") as lens:
        return lens.draw(n, target, seeded(seed, lens.basis.device), attributes)
