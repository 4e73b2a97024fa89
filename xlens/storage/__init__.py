"""Saved lenses and explanations: safetensors and JSON, checked before use, never any code."""

from xlens.storage.explanations import (
    explanation_from_tree,
    explanation_to_tree,
    load_explanation,
    save_explanation,
)
from xlens.storage.lenses import load_lens, save_lens

__all__ = [
    "explanation_from_tree",
    "explanation_to_tree",
    "load_explanation",
    "load_lens",
    "save_explanation",
    "save_lens",
]
