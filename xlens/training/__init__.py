"""Training that can be interrupted, resumed and watched: what a backend needs to fit its networks."""

from pathlib import Path

from xlens.training.processes import Processes, alone, processes
from xlens.training.schedule import warmed_and_decayed
from xlens.training.supervision import classifier_logits, supervising_logits
from xlens.training.survey import survey
from xlens.training.trainer import Trainer

__all__ = [
    "Processes",
    "Trainer",
    "alone",
    "classifier_logits",
    "processes",
    "supervising_logits",
    "survey",
    "warmed_and_decayed",
]

# Old paths of modules are looked up here, after everything else.
__path__.append(str(Path(__file__).parents[1] / "moved" / "training"))
