"""What lies between inputs and lens: a lens is fitted on values, of which a stage knows what they stand for."""

from xlens.stages.lens import StagedLens, staged
from xlens.stages.stage import Stage

__all__ = ["Stage", "StagedLens", "staged"]
