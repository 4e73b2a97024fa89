"""Training that can be interrupted, resumed and watched: what a backend needs to fit its networks."""

from xlens.training.processes import alone
from xlens.training.schedule import warmed_and_decayed
from xlens.training.supervision import classifier_logits, supervising_logits
from xlens.training.survey import survey
from xlens.training.trainer import Trainer

__all__ = ["Trainer", "alone", "classifier_logits", "supervising_logits", "survey", "warmed_and_decayed"]
