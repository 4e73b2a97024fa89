"""One label of several, and a number, from the fit to the report; and what becomes of the other labels."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from forged import facts_of, write_facts
from labelled import LABELS, Labels, Number, labelled_pictures

import xlens
from xlens import Classifier
from xlens.errors import DataError, ModelError, OptionError, StorageError
from xlens.evaluation.scores import _other_labels
from xlens.plot.words import other_labels, sentences
from xlens.report.payload import payload
from xlens.testing.bench import quiet

INPUTS, HAS = labelled_pictures(48, seed=0)
BOTH = HAS.all(1).nonzero()[:3, 0]


def fitted(classifier):
    return xlens.fit(classifier, INPUTS, "infill", words=96, progress=False)


@pytest.fixture(scope="module")
def every():
    return Classifier(Labels(), outputs="multilabel", labels=LABELS)


@pytest.fixture(scope="module")
def explainers(every):
    return {name: fitted(every.about(name)) for name in LABELS}


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_taken_away_alone(every, explainers, label):
    found = explainers[label].explain(INPUTS[BOTH], target=label, contrast=f"no {label}")
    assert found.class_names == (f"no {label}", label)
    with torch.no_grad():
        before, after = (every(x).sigmoid() for x in (found.inputs, found.counterfactual))
    k, other = LABELS.index(label), LABELS[1 - LABELS.index(label)]
    assert bool(found.fidelity.flips.all())
    assert bool((before[:, k] > 0.5).all())
    assert bool((after[:, k] < 0.5).all())
    assert set(found.other_labels) == {other}
    wanted = torch.stack([before[:, 1 - k], after[:, 1 - k]], 1)
    torch.testing.assert_close(found.other_labels[other], wanted)
    # Taking the one patch away leaves the other where it is.
    assert bool((found.other_labels[other] > 0.5).all())
    torch.testing.assert_close(found.scores, before[:, k].logit(), atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_changes_of_other_labels_are_said_in_words_everywhere(explainers, tmp_path):
    found = explainers["dark"].explain(INPUTS[BOTH])
    (kept,) = other_labels(found)
    assert kept.startswith("This label alone")
    assert "'bright'" in kept
    turned = dataclasses.replace(found, other_labels={"bright": torch.tensor([[0.91, 0.12]]).expand(len(found), 2)})
    (said,) = other_labels(turned)
    assert said.startswith("NOT this label alone")
    assert "'bright' (p = 0.91 to 0.12)" in said
    assert said in [line for _, line in sentences(turned)]
    assert said in [line for _, line in payload(turned)["items"][0]["said"]]
    turned.save_html(tmp_path / "page.html")
    assert "NOT this label alone" in (tmp_path / "page.html").read_text()
    shown = " ".join(text.get_text() for text in turned.plot().findobj(lambda one: hasattr(one, "get_text")))
    assert "NOT this label alone" in " ".join(shown.split())


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_other_labels_are_kept_in_files_and_slices(explainers, tmp_path):
    found = explainers["dark"].explain(INPUTS[BOTH])
    found.save(tmp_path / "one.safetensors")
    again = xlens.Explanation.load(tmp_path / "one.safetensors")
    assert torch.equal(again.other_labels["bright"], found.other_labels["bright"])
    assert torch.equal(found[1].other_labels["bright"], found.other_labels["bright"][1:2])
    with pytest.raises(DataError, match="other_labels\\['a'\\] is \\(3,\\), not \\(3, 2\\)"):
        dataclasses.replace(found, other_labels={"a": torch.zeros(3)})


def test_a_lens_is_saved_with_its_label(every, explainers, tmp_path):
    explainers["dark"].save(tmp_path)
    for model in (every.model, every, every.about("dark"), Classifier(every.model, outputs="multilabel", label=1)):
        again = xlens.load(tmp_path, model)
        assert again.classifier.label == 1
        assert again.classifier.fingerprint() == explainers["dark"].classifier.fingerprint()
    for wrong in (every.about("bright"), Classifier(every.model, outputs="ordinal", threshold=1)):
        with pytest.raises(StorageError, match="another classifier"):
            xlens.load(tmp_path, wrong)


def test_a_forged_label_is_refused(explainers, tmp_path):
    explainers["dark"].save(tmp_path)
    write_facts(tmp_path, {**facts_of(tmp_path), "label": 7})
    with pytest.raises(StorageError, match="label is no label"):
        xlens.load(tmp_path, Labels())


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_lens_that_decodes_is_fitted_around_a_label(every):
    short = xlens.MaskOptions(steps=1, pool=64)
    explainer = xlens.fit(every.about("dark"), INPUTS, "svae", steps=2, mask=short, progress=False)
    found = explainer.explain(INPUTS[:2])
    assert set(found.other_labels) == {"bright"}
    assert found.class_names == ("no dark", "dark")


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_label_is_evaluated(every, explainers):
    oracle = Labels()
    found = xlens.evaluate(
        explainers["dark"], INPUTS[BOTH], oracle=oracle, target="dark", contrast="no dark", methods=("lig",)
    )
    shares = {one["figure"]: one["value"] for one in found.records() if "flips" in one["figure"]}
    assert "flips alone" in shares
    assert all(value == 1 for value in shares.values())
    (moved,) = [one for one in found.records() if one["figure"] == "other labels moved"]
    assert moved["better"] == "lower"
    assert 0 <= moved["value"] < 0.2


def test_an_edit_that_takes_other_labels_along_does_not_flip_alone(explainers):
    with quiet():
        found = explainers["dark"].explain(INPUTS[BOTH])
    pairs = torch.tensor([[0.9, 0.1], [0.9, 0.8], [0.4, 0.6]])
    turned = dataclasses.replace(found, other_labels={"bright": pairs})
    scores = {one.name: one.values for one in _other_labels(turned)}
    assert scores["flips alone"].tolist() == [0.0, 1.0, 0.0]
    assert torch.allclose(scores["other labels moved"], torch.tensor([0.8, 0.1, 0.2]))


def test_who_names_neither_label_nor_backend_is_asked_for_the_label_first(every, monkeypatch):
    monkeypatch.setattr("xlens.api.choose", lambda *_, **__: pytest.fail("it chose"))
    with pytest.raises(
        ModelError, match=r"which of the classifier's independent labels.*classifier.about\('bright'\)"
    ):
        xlens.fit(every, INPUTS, progress=False)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_number_is_explained_as_above_a_threshold():
    number = Classifier(Number(), outputs="regression", threshold=3.0)
    explainer = fitted(number)
    bright = HAS[:, 0].nonzero()[:3, 0]
    found = explainer.explain(INPUTS[bright])
    assert found.class_names == ("below 3", "above 3")
    assert not found.other_labels
    with torch.no_grad():
        torch.testing.assert_close(found.scores, Number()(INPUTS[bright]) - 3.0)
        assert bool((Number()(found.counterfactual) < 3).all())


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_several_labels_in_one_call_are_what_one_call_for_each_says(every, explainers):
    found = xlens.explain_labels(
        every,
        INPUTS[BOTH],
        data=INPUTS,
        labels=["dark", 0],
        backend="infill",
        words=96,
        progress=False,
    )
    assert [*found] == ["dark", "bright"]
    for name, explanation in found.items():
        alone = explainers[name].explain(INPUTS[BOTH])
        assert torch.equal(explanation.counterfactual, alone.counterfactual)
        assert explanation.class_names == (f"no {name}", name)
    whole = xlens.explain_labels(every, INPUTS[BOTH], data=INPUTS, backend="infill", words=96, progress=False)
    assert [*whole] == list(LABELS)


def test_labels_of_which_the_data_say_nothing_are_told_before_anything_is_fitted(every):
    with pytest.raises(DataError, match=rf"'{LABELS[0]}' \(3 of 3\), '{LABELS[1]}' \(3 of 3\)"):
        xlens.explain_labels(every, INPUTS[BOTH], backend="infill", progress=False)
    for wrong in ([], [None], ["dark", None]):
        with pytest.raises(OptionError, match="at least one"):
            xlens.explain_labels(every, INPUTS, labels=wrong)
    with pytest.raises(ModelError, match="bleak"):
        xlens.explain_labels(every, INPUTS, labels=["bleak"])
    for wrong in (Labels(), Classifier(Labels(), class_names=LABELS)):
        with pytest.raises(ModelError, match="multilabel"):
            xlens.explain_labels(wrong, INPUTS)
