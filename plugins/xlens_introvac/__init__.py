"""IntroVAC: a variational autoencoder whose code has a direction for everything that the classifier looks for.

References:
    Maggipinto, Terzi, Susto (2020), IntroVAC: Introspective Variational Classifiers for Learning
    Interpretable Latent Subspaces.
"""

import xlens
from xlens_introvac.backend import IntroVAC
from xlens_introvac.calls import draw
from xlens_introvac.health import Health
from xlens_introvac.langevin import SamplingError
from xlens_introvac.lens import Draw, IntroVACLens

__all__ = ["Draw", "Health", "IntroVAC", "IntroVACLens", "SamplingError", "draw", "xlens_backend"]


@xlens.hookimpl
def xlens_backend() -> type[xlens.Backend]:
    """Return the backend class."""
    return IntroVAC
