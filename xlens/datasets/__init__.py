"""Images whose class has one known cause, to score explanations against the truth."""

from xlens.datasets.known import KnownCause
from xlens.datasets.parts import part_factors, parts, render_parts
from xlens.datasets.planted import plant, planted

__all__ = ["KnownCause", "part_factors", "parts", "plant", "planted", "render_parts"]
