"""How evidence of a label among others is looked for: by the survey, and by tiles where that finds nothing."""

import pytest
import torch
from infill_spec import grey
from xlens_infill import Infill, backend
from xlens_infill import lens as lens_module
from xlens_infill.survey import LEVELS, Survey
from xlens_infill.where import Found

from xlens import Classifier

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


def built(labels=2, model=None, **options):
    names = ["first", "second"][:labels]
    classifier = Classifier(model or Middle(labels), outputs="multilabel", labels=names, label="first")
    lens = Infill(**options).build(classifier, grey(SIDE))
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


def test_where_nearly_all_of_the_object_is_in_doubt_nothing_is_filled_from_outside_of_it(monkeypatch):
    """A bright object in the dark: what fills it has to be as bright."""
    x, within = torch.full((1, 1, SIDE, SIDE), 0.05), torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    within[0, 0][SPOT] = True
    x[within] = 0.85 + 0.02 * torch.rand(int(within.sum()), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Survey, "evidence", lambda self, x, within, target, contrast: within.float())
    lens = built()
    lens.levels.fill_(0.5)
    assert "no local counterfactual" in lens.found(x, within, 1, 0, 0.0).problem
    assert len(lens._searches(x, within, 1, 0, 0.0, several=True)) == 2


def test_an_input_without_the_label_is_not_filled_by_tiles():
    x = 0.1 * torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    seen = built(search="tiles").found(x, torch.ones_like(x, dtype=torch.bool), 1, 0, 0.0)
    assert not seen.mask.any()
    assert "does not decide for the class that was to go" in seen.problem


class Searched:
    """Takes note of every search that a lens makes, and finds what it is told to."""

    def __init__(self, monkeypatch, answers):
        self.calls, self.answers = [], answers
        monkeypatch.setattr(lens_module, "find", self.surveyed)
        monkeypatch.setattr(lens_module, "find_by_tiles", self.by_tiles)

    def surveyed(self, margin, x, *args, **others):
        return self.noted("survey", margin, x)

    def by_tiles(self, margin, x, fill, within, **others):
        return self.noted("tiles" if fill.__name__ == "filled" else "outside", margin, x)

    def noted(self, name, margin, x):
        # Where the second label turns along, what turns the first alone is short of the goal.
        strict = float(margin(torch.zeros_like(x))) < 0
        self.calls.append((name, "alone" if strict else "with others"))
        margin, area = self.answers.get(len(self.calls) - 1, (-1.0, 4))
        mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
        mask.view(-1)[:area] = True
        problem = None if margin > 0 and area < 100 else f"number {len(self.calls) - 1}"
        return Found(mask, mask.long(), torch.ones(1), x[0], margin, problem)


class Follows(torch.nn.Module):
    """The second label is there where the first is."""

    def forward(self, x):
        there = 10 * (x[:, 0][:, MIDDLE[0], MIDDLE[1]].mean((1, 2)) - 0.5)
        return torch.stack([there, there], 1)


EVERY = [(name, which) for which in ("alone", "with others") for name in ("survey", "outside", "tiles")]


@pytest.mark.parametrize(
    ("answers", "asked", "last"),
    [
        ({}, 6, "number 3"),
        *(({n: (1.0, 5)}, n + 1, None) for n in range(6)),
        # Nearest to the goal of those with others; a miss of the label alone is not asked.
        ({0: (-0.1, 5), 3: (-3.0, 5), 4: (-0.5, 5), 5: (-2.0, 5)}, 6, "number 4"),
        # Of two that convince and are too large the smaller says how much it would take.
        ({3: (9.0, 900), 4: (0.1, 200), 5: (-0.1, 5)}, 6, "number 4"),
    ],
)
def test_every_search_is_tried_for_the_label_alone_before_any_for_it_with_others(
    whole, monkeypatch, answers, asked, last
):
    lens = whole(built(model=Follows()))
    searched = Searched(monkeypatch, answers)
    seen = found(lens)
    assert searched.calls == EVERY[:asked]
    assert seen.problem == last


@pytest.mark.parametrize(
    ("options", "labels", "separation", "tried"),
    [
        ({}, 2, 0.9, 0),
        ({}, 2, 0.5, 1),
        ({}, 1, 0.9, 2),
        ({"search": "tiles"}, 2, 0.9, 1),
        ({"search": "survey"}, 2, 0.9, 0),
    ],
)
def test_a_search_is_chosen_at_the_fit_where_an_input_has_one(monkeypatch, options, labels, separation, tried):
    calls = []
    monkeypatch.setattr(backend, "_reach", lambda *_: calls.append(1) or 0.1)
    lens = built(labels, **options)
    lens.separation.fill_(separation)
    x = spot()
    chosen = Infill(**options)
    chosen._choose_search(lens._classifier[0], lens, x, torch.ones_like(x, dtype=torch.bool), torch.ones(1).long())
    assert len(calls) == tried
    assert lens.by_tiles == (options.get("search") == "tiles" or separation < 0.65)
