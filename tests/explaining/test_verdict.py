"""The verdict: a lens that fails says so, in words."""

from __future__ import annotations

import warnings

import pytest
import torch
import toys
from torch import nn

import xlens
from xlens.errors import DataError, UntrustworthyWarning


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        (toys.BlindLens, "another class in the lens's reconstruction"),
        (toys.StuckLens, "does not change the classifier's decision"),
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


class Jumping(nn.Module):
    """Another class gains all at once, where something is bright: no integral of gradients sees that."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        bright = (inputs.amax((1, 2, 3)) > 0.5).float()
        return self.model(inputs) + 3 * bright[:, None] * torch.tensor([0.0, 1.0, 0.0])


def test_an_incomplete_integral_is_a_problem(fitted, images, labels):
    f = fitted.classifier
    jumping = xlens.LensExplainer(fitted.fitted.around(f.around(Jumping(f.model))))
    with pytest.warns(UntrustworthyWarning, match="lig is incomplete by"):
        found = jumping.explain(images[labels == 1][:4], contrast=0, carry="none")
    torch.testing.assert_close(found.convergence_delta["lig"], torch.full((4,), -3.0), atol=0.2, rtol=0)
    for problems in found.problems:
        assert any("lig is incomplete by -3" in line or "lig is incomplete by -2.9" in line for line in problems)


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
