"""The verdict: a lens that fails says so, in words."""

from __future__ import annotations

import warnings

import pytest
import torch
import toys

import xlens
from xlens.errors import DataError, UntrustworthyWarning


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        (toys.BlindLens, "another class in the lens's reconstruction"),
        (toys.StuckLens, "does not change f's decision"),
    ],
)
def test_a_lens_that_fails_says_so(ask, fitted, images, lens, message):
    broken = toys.explainer_with(lens(), fitted)
    with pytest.warns(UntrustworthyWarning, match="explanations do not hold.*See explanation.problems"):
        found = ask("explain", images[:4], of=broken)
    assert not found.trustworthy.all()
    for held, problems in zip(found.trustworthy.tolist(), found.problems, strict=True):
        assert held == (not problems)
    assert any(message in line for problems in found.problems for line in problems)


def test_a_faithful_lens_gives_no_warning(ask, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask("explain", images[:4])


def test_an_incomplete_integral_is_a_problem(ask, images, monkeypatch):
    monkeypatch.setattr("xlens.attr.chords._DEEPEST", 0)
    with pytest.warns(UntrustworthyWarning):
        found = ask("explain", images[:8], n_steps=1, tolerance=1e-4)
    assert any("lig is incomplete by" in line for problems in found.problems for line in problems)


def test_nan_never_reaches_a_result(ask, fitted, images):
    with pytest.raises(DataError, match="not finite"):
        ask("explain", images[:2], of=toys.explainer_with(toys.NanLens(), fitted))


def test_nothing_to_take_away_is_said(images):
    explainer = xlens.fit(toys.trained_cnn(), images, toys.Toy(), mask=toys.SHORT_MASK, progress=False)
    with explainer.classifier.frozen(), torch.no_grad():
        predicted = explainer.classifier(images[:4]).argmax(1)
    with pytest.warns(UntrustworthyWarning, match="no evidence to take away"):
        explanation = explainer.explain(images[:4], target=(predicted + 1) % 3, contrast=predicted)
    assert not explanation.trustworthy.any()
