"""Saved lenses and explanations: safetensors and JSON, checked before use, never any code."""

from xlens.deprecated import forwarded_module
from xlens.storage.explanation_folder import ExplanationFolder
from xlens.storage.explanations import (
    explanation_from_tree,
    explanation_to_tree,
    load_explanation,
    save_explanation,
)
from xlens.storage.lenses import load_lens, save_lens
from xlens.storage.tables import explanation_records, explanation_to_json, write_explanation_csv

__all__ = [
    "ExplanationFolder",
    "explanation_from_tree",
    "explanation_records",
    "explanation_to_json",
    "explanation_to_tree",
    "load_explanation",
    "load_lens",
    "save_explanation",
    "save_lens",
    "write_explanation_csv",
]

# Where it was before 0.2.
__getattr__ = forwarded_module(
    "xlens.storage", "xlens.fitted", ("StoredLens",), elsewhere={"StoredLens": "xlens.fitted:Fitted"}
)
