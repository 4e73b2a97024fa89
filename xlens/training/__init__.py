"""Training that can be interrupted, resumed and watched: what a backend needs to fit its networks."""

from xlens.training.survey import survey
from xlens.training.trainer import Trainer

__all__ = ["Trainer", "survey"]
