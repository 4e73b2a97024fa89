"""A fit that failed says so, whatever its backend: lenses that are broken, and say nothing of it themselves."""

from __future__ import annotations

import warnings

import pytest
import torch
import toys

import xlens
from xlens.contracts import EditingLens, LocalEdit
from xlens.errors import XlensWarning
from xlens.fitting.soundness import Soundness

SOUND = Soundness(agreement=0.9, usual=0.5, flips=0.9, error=0.3)


class FarLens(toys.ToyLens):
    """Decodes to something far from the input."""

    def decode(self, codes):
        return super().decode(codes) - 5


class IdleEdits(EditingLens):
    """Finds the smallest edit of all: none."""

    features = (xlens.Feature("part 1", (0,), "class"),)

    def edit(self, inputs, target, contrast):
        return LocalEdit(inputs, torch.zeros_like(inputs), ("nothing was found",) * len(inputs))

    def fill(self, inputs, mask):
        return inputs


class OneSidedEdits(IdleEdits):
    """Takes bright things away, of about half of the inputs that have one; the others have nothing to take away."""

    def edit(self, inputs, target, contrast):
        bright = (target == 1) & (inputs.sum((1, 2, 3)) > inputs[target == 1].sum((1, 2, 3)).median())
        parts = torch.ones_like(inputs) * bright[:, None, None, None]
        others = [inputs[target == one][0] if (target == one).any() else inputs[0] for one in contrast.tolist()]
        return LocalEdit(torch.stack(others), parts, (None,) * len(inputs))


def fitted(trained, images, kind, **attributes):
    """Fit a lens of some kind; return the explainer and what was said of soundness."""

    class Made(toys.Toy):
        """A backend whose fit is sure of itself."""

        def build(self, classifier, spec):
            lens = kind()
            for name, value in attributes.items():
                setattr(lens, name, value)
            return lens

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainer = xlens.fit(trained, images, Made(), mask=toys.SHORT_MASK, progress=False)
    said = [warning for warning in caught if "not sound" in str(warning.message)]
    assert all(warning.filename == __file__ and warning.category is XlensWarning for warning in said)
    return explainer, [str(warning.message) for warning in said]


def test_of_a_faithful_lens_nothing_is_said_and_the_figures_are_kept(trained, images, tmp_path):
    explainer, said = fitted(trained, images, toys.ToyLens)
    assert not said
    found = explainer.provenance["soundness"]
    assert found["agreement"] == found["flips"] == 1
    assert 0 < found["usual"] < 0.6
    assert found["error"] < 1e-6


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (toys.BlindLens, "and one class alone makes up"),
        (toys.StuckLens, "counterfactuals change the classifier's decision in 0% of the inputs"),
        (FarLens, "times as far off as the mean input"),
        (IdleEdits, "edits change the classifier's decision in 0% of the inputs"),
    ],
)
def test_of_a_broken_one_the_fit_says_what_is_wrong(trained, images, kind, words):
    explainer, said = fitted(trained, images, kind)
    assert len(said) == 1
    assert words in said[0]
    assert Soundness(**explainer.provenance["soundness"]).problems


def test_edits_of_one_class_alone_are_enough(trained, images):
    """Of healthy leaves there is nothing to take away."""
    explainer, said = fitted(trained, images, OneSidedEdits)
    assert not said
    assert 0.25 <= explainer.provenance["soundness"]["flips"] < 0.7


def test_what_knows_that_it_is_unfit_has_said_so(trained, images):
    _, said = fitted(trained, images, IdleEdits, unfit="nothing is small enough to be local")
    assert not said


def test_of_one_that_examines_itself_nothing_is_said_twice(trained, images):
    explainer, said = fitted(trained, images, toys.StuckLens, examined=True)
    assert not said
    assert "soundness" not in explainer.provenance


def test_a_lens_that_searches_for_its_codes_is_asked_of_fewer_inputs(trained, images):
    encoded = []

    class Searching(toys.ToyLens):
        """Counts what it encodes."""

        encodes_directly = False

        def encode(self, inputs):
            encoded.append(len(inputs))
            return super().encode(inputs)

    _, said = fitted(trained, images, Searching)
    assert not said
    assert encoded[-1] == 32


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({}, 0),
        ({"agreement": 0.74}, 1),
        ({"agreement": 0.5, "usual": 0.1}, 1),
        ({"agreement": 0.5, "usual": 1.0}, 0),
        ({"flips": 0.49}, 1),
        ({"error": 1.0}, 1),
        ({"error": None}, 0),
        ({"agreement": None, "error": None, "flips": 0.3}, 0),
        ({"agreement": None, "error": None, "flips": 0.2}, 1),
        ({"agreement": float("nan"), "flips": float("nan"), "error": float("nan")}, 3),
    ],
)
def test_what_counts_as_a_problem(changed, number):
    assert len(Soundness(**(vars(SOUND) | changed)).problems) == number
