"""Margins between classes, against loops."""

from __future__ import annotations

import pytest
import torch

from xlens.classifier.margins import margin_over_rest, score_margin

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


TARGET, CONTRAST = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 0, 3, 2, 3, 2])


def test_margins_against_loops():
    for i, (t, c) in enumerate(zip(TARGET.tolist(), CONTRAST.tolist(), strict=True)):
        row = LOGITS[i].tolist()
        assert score_margin(LOGITS, TARGET, CONTRAST)[i].item() == pytest.approx(row[t] - row[c])
        rest = max(value for k, value in enumerate(row) if k != t)
        assert margin_over_rest(LOGITS, TARGET)[i].item() == pytest.approx(row[t] - rest)
