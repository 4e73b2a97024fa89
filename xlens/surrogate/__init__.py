"""Surrogate: a small network that answers for the classifier while a lens is trained behind an autoencoder."""

from xlens.surrogate.fidelity import SurrogateFidelity
from xlens.surrogate.fitting import begin_surrogate
from xlens.surrogate.following import Surrogate
from xlens.surrogate.network import SurrogateNetwork
from xlens.surrogate.options import SurrogateOptions

__all__ = ["Surrogate", "SurrogateFidelity", "SurrogateNetwork", "SurrogateOptions", "begin_surrogate"]
