"""How evidence of a label among others is looked for: by the survey, and by tiles where that finds nothing."""

import pytest
import torch
from xlens_infill import Infill
from xlens_infill.survey import LEVELS, Survey

from xlens import Classifier, Spec

SIDE = 56
SPOT = (slice(13, 43), slice(13, 43))
MIDDLE = (slice(25, 31), slice(25, 31))


class Middle(torch.nn.Module):
    """Labels that are there where the middle of a spot is bright, and one that never is."""

    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def forward(self, x):
        there = 10 * (x[:, 0][:, MIDDLE[0], MIDDLE[1]].mean((1, 2)) - 0.5)
        return torch.stack([there, -10 - there.abs()][: self.labels], 1)


def spot():
    """A large bright spot on faint noise."""
    x = 0.1 * torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x[0, 0][SPOT] += 0.8
    return x


def built(labels=2, **options):
    names = ["first", "second"][:labels]
    zero, one = (0.0,), (1.0,)
    spec = Spec(
        shape=(1, SIDE, SIDE),
        num_classes=2,
        minimum=zero,
        maximum=one,
        mean=zero,
        std=one,
        class_margins=((1.0, 1.0),) * 2,
    )
    classifier = Classifier(Middle(labels), outputs="multilabel", labels=names, label="first")
    lens = Infill(**options).build(classifier, spec)
    lens.separation.fill_(0.9)
    return lens


def found(lens):
    x = spot()
    return lens.found(x, torch.ones_like(x, dtype=torch.bool), 1, 0, 0.0)


@pytest.fixture
def whole(monkeypatch):
    """A survey that calls all of the spot evidence, at its loosest level alone."""

    def evidence(self, x, within, target, contrast):
        where = torch.zeros_like(x)
        where[0, 0][SPOT] = 0.5
        return where

    monkeypatch.setattr(Survey, "evidence", evidence)

    def levels(lens):
        lens.levels.fill_(1.0)
        lens.levels[..., len(LEVELS) - 1] = 0.2
        return lens

    return levels


def test_the_survey_of_a_label_among_others_comes_first(whole):
    assert found(whole(built(largest=0.5))).mask[0][SPOT].all()


@pytest.mark.parametrize("blind", [True, False])
def test_where_the_survey_finds_nothing_tiles_are_filled_from_what_is_beyond_doubt(whole, blind):
    lens = whole(built(largest=0.1))
    if blind:
        lens.levels.fill_(1.0)
    seen = found(lens)
    if blind:
        # From the spot itself: whatever is put into its middle is as bright.
        assert "no local counterfactual" in seen.problem
        return
    assert seen.problem is None
    assert 0 < int(seen.mask.sum()) <= 0.1 * SIDE * SIDE
    assert float(seen.filled[0][MIDDLE].mean()) < 0.5


def test_a_small_spot_that_no_survey_knows_is_found_by_tiles(monkeypatch):
    monkeypatch.setattr(Survey, "evidence", lambda self, x, within, target, contrast: torch.zeros_like(x))
    x = 0.1 * torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x[0, 0][MIDDLE] += 0.8
    within = torch.ones_like(x, dtype=torch.bool)
    assert built().found(x, within, 1, 0, 0.0).problem is None
    for lens in (built(search="survey"), built(labels=1)):
        assert "nothing in this input looks like evidence" in lens.found(x, within, 1, 0, 0.0).problem
