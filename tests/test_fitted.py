"""The record, and whatever is taken for an explainer: what has the Protocol's members, of whatever class."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import toys
from torch import nn

import xlens
from xlens import evaluation, plot, report
from xlens.data import as_data
from xlens.errors import OptionError
from xlens.fitted import _MEMBERS, Fitted, as_fitted
from xlens.integrations.quantus import as_quantus
from xlens.storage.digest import digest_of_lens
from xlens.training.survey import survey


class Theirs:
    """An explainer that somebody else wrote: the Protocol's ten members, and nothing of ours."""

    def __init__(self, like, **changes):
        members = {name: getattr(like, name) for name in ("classifier", "lens", "backend", "features")}
        vars(self).update(members | changes)

    def explain(self, inputs, **_):
        raise NotImplementedError

    counterfactual = traverse = invariances = sample = save = explain


@pytest.fixture
def theirs(fitted):
    return Theirs(fitted)


@pytest.fixture
def uses(monkeypatch):
    """Let the toy use a lens below, and return what each fit was given."""
    seen = []
    train = toys.Toy.fit

    def watched(backend, classifier, data, run):
        seen.append(run)
        return train(backend, classifier, data, run)

    monkeypatch.setattr(toys.Toy, "capabilities", ("over",))
    monkeypatch.setattr(toys.Toy, "fit", watched)
    return seen


def test_it_satisfies_the_protocol_and_is_none_of_ours(theirs):
    assert isinstance(theirs, xlens.Explainer)
    assert not isinstance(theirs, xlens.LensExplainer)
    assert not hasattr(theirs, "fitted")


def test_a_record_is_itself_and_an_explainer_is_a_page_over_one(fitted):
    assert as_fitted(fitted.fitted, "m", "a") is as_fitted(fitted, "m", "a") is fitted.fitted
    for name in ("classifier", "lens", "backend", "spec", "mask", "provenance", "device", "class_names"):
        assert getattr(fitted, name) is getattr(fitted.fitted, name) or name in ("device", "class_names")
    assert fitted.fitted.fitted_around is fitted.classifier
    assert fitted.over is None


def test_what_is_known_of_it_is_taken_and_the_rest_is_left_open(fitted, theirs):
    theirs.spec = fitted.spec
    made = as_fitted(theirs, "m", "a")
    assert (made.classifier, made.lens, made.backend, made.spec) == (
        fitted.classifier, fitted.lens, fitted.backend, fitted.spec,
    )  # fmt: skip
    assert made.mask is made.over is None
    assert made.provenance == {}
    assert made.fitted_around is fitted.classifier
    more = Theirs(fitted, mask=fitted.mask, over=theirs, provenance={"seed": 3}, spec=fitted.spec)
    made = as_fitted(more, "m", "a")
    assert made.mask is fitted.mask
    assert made.over.lens is fitted.lens
    assert made.provenance == {"seed": 3}
    made.provenance["seed"] = 4
    assert more.provenance == {"seed": 3}


def test_the_spec_is_its_own_or_that_of_its_lens_or_measured(fitted, theirs, images):
    assert not hasattr(theirs.lens, "spec")
    found = as_fitted(theirs, "m", "a", images).spec
    with fitted.classifier.frozen() as frozen:
        known = survey(frozen, as_data(images), progress=False).spec
    assert found == known
    # Few inputs, of one class, are measured as well.
    assert as_fitted(theirs, "m", "a", images[:1]).spec.shape == (1, 8, 8)
    lens = toys.ToyLens()
    lens.spec = dataclasses.replace(known, mean=(0.25,))
    assert as_fitted(Theirs(fitted, lens=lens), "m", "a", images).spec == lens.spec
    assert as_fitted(Theirs(fitted, lens=lens, spec=fitted.spec), "m", "a", images).spec == fitted.spec
    with pytest.raises(OptionError, match="m: a does not say what its data are like.*Given: Theirs without a spec"):
        as_fitted(theirs, "m", "a")


def test_over_takes_any_explainer(fitted, theirs, trained, images, uses):
    explainer = xlens.fit(trained, images, toys.Toy(), over=theirs, mask=toys.SHORT_MASK, progress=False)
    (run,) = uses
    assert isinstance(run.over, Fitted)
    assert isinstance(run.over, xlens.FittedLens)
    assert run.over.lens is theirs.lens
    assert explainer.over.lens is theirs.lens


def test_start_from_takes_any_explainer(fitted, theirs, trained, images, uses):
    begin = dict(start_from=theirs, mask=toys.SHORT_MASK, progress=False)
    explainer = xlens.fit(trained, images, toys.Toy(), **begin)
    assert uses[0].start_from.lens is theirs.lens
    assert explainer.provenance["start_from"] == digest_of_lens(fitted.lens)
    # With its mask, it begins where a fit from our own explainer begins.
    whole = Theirs(fitted, mask=fitted.mask)
    one, other = (
        xlens.fit(trained, images, toys.Toy(), **{**begin, "start_from": start}) for start in (whole, fitted)
    )
    assert one.provenance == other.provenance
    for a, b in zip(one.mask.state_dict().values(), other.mask.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_evaluate_takes_any_explainer_and_says_what_it_says_of_ours(fitted, theirs, images):
    asked = {"methods": ("lig", "random"), "n": 12, "progress": False}
    without = xlens.LensExplainer(dataclasses.replace(fitted.fitted, mask=None))
    found = xlens.evaluate({"theirs": theirs, "ours": without}, images, **asked)
    for name in ("MSE", "flips", "L1", "trustworthy"):
        assert found.get(name, "theirs").value == found.get(name, "ours").value, name
    assert found.get("DiffID", "theirs: lig").value == found.get("DiffID", "ours: lig").value
    assert xlens.evaluate(theirs, images, **asked).contenders[:2] == ("toy", "toy: lig")


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_whatever_asks_an_explainer_takes_any(fitted, theirs, images, tmp_path):
    explanation = fitted.explain(images[:2], attributions=())
    report.save_report(theirs, explanation, tmp_path / "theirs.html")
    report.save_report(fitted, explanation, tmp_path / "ours.html")
    assert (tmp_path / "theirs.html").read_bytes() == (tmp_path / "ours.html").read_bytes()
    assert len(plot.traversal(theirs, images[:2], "bright", [0.0, 1.0]).axes) == 6
    assert len(plot.invariances(theirs, images[:2], 2).axes) == 6
    for a, b in zip(
        evaluation.flip_distance(theirs, images[:3]), evaluation.flip_distance(fitted, images[:3]), strict=True
    ):
        assert torch.equal(a, b)
    # Quantus passes its inputs later.
    theirs.spec = fitted.spec
    model, rows = fitted.classifier.model, images[:2].numpy()
    theirs_said, ours = (as_quantus(one, "saliency", carry="none")(model, rows, [1, 1]) for one in (theirs, fitted))
    assert (theirs_said == ours).all()


def without(like, *names):
    """Return an explainer that lacks some of the members."""
    members = {name: None for name in names}
    return type("Theirs", (Theirs,), members)(like, **{name: None for name in names})


def test_the_members_are_those_of_the_protocol():
    assert len(_MEMBERS) == 10
    assert {"explain", "save", "features"} < set(_MEMBERS)


@pytest.mark.parametrize("names", [*((name,) for name in _MEMBERS), ("classifier", "lens"), ("features", "save")])
def test_all_members_that_are_missing_are_named(fitted, trained, images, uses, names):
    theirs = without(fitted, *names)
    lacking = ", ".join(names)
    says = rf"no explainer\. Given: Theirs; without {lacking}\. Allowed: what xlens.fit .* traverse"
    with pytest.raises(OptionError, match=f"fit: over is {says}"):
        xlens.fit(trained, images, toys.Toy(), over=theirs, progress=False)
    with pytest.raises(OptionError, match=f"fit: start_from is {says}"):
        xlens.fit(trained, images, toys.Toy(), start_from=theirs, progress=False)
    with pytest.raises(OptionError, match=f"evaluate: an explainer is {says}"):
        xlens.evaluate(theirs, images)
    with pytest.raises(OptionError, match=rf"evaluate: explainers\['mine'\] is {says}"):
        xlens.evaluate({"mine": theirs}, images)
    assert not uses


def test_a_member_of_another_kind_is_named(fitted, images):
    wrong = Theirs(fitted, lens=nn.Linear(2, 2), spec=(1, 8, 8))
    with pytest.raises(OptionError, match="Theirs; lens is a Linear and no Lens; spec is a tuple and no Spec"):
        xlens.evaluate(wrong, images)
    below = Theirs(fitted, over=object())
    with pytest.raises(OptionError, match="no explainer. Given: object. Allowed"):
        xlens.evaluate(below, images)


@pytest.mark.parametrize("nothing", [object(), 3, "lens/", nn.Linear(2, 2)])
def test_what_has_none_of_them_is_no_explainer(trained, images, uses, nothing):
    given = type(nothing).__name__
    with pytest.raises(
        OptionError, match=f"fit: start_from is no explainer. Given: {given}. Allowed: what xlens.fit"
    ):
        xlens.fit(trained, images, toys.Toy(), start_from=nothing, progress=False)
    with pytest.raises(OptionError, match=f"evaluate: an explainer is no explainer. Given: {given}."):
        xlens.evaluate([nothing], images)


def test_it_can_be_asked_about_another_classifier(fitted, images):
    other = toys.trained_cnn()
    with torch.no_grad():
        other.head.weight.neg_()
    asked = fitted.fitted.around(fitted.classifier.around(other))
    assert asked.classifier.model is other
    assert asked.fitted_around is fitted.classifier
    assert asked.bound is not fitted.fitted.bound
    with asked.asking():
        target, _ = asked.classes(images[:8], None, None)
    with torch.no_grad(), fitted.classifier.around(other).frozen() as f:
        assert torch.equal(target, f(images[:8]).argmax(1))
