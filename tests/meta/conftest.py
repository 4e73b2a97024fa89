"""The broken backends import the exemplary one by name, and their masks are fitted in few steps."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@pytest.fixture(autouse=True)
def _short_mask(monkeypatch):
    monkeypatch.setattr("xlens.training.edit_mask._STEPS", 60)
