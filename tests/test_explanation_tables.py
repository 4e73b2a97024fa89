"""An explanation as JSON and CSV: everything is there, and is what the tensors say."""

import csv
import dataclasses
import json

import pytest
import torch
from drawings import made
from pages import nasty_explanation, photos

from xlens import Explanation
from xlens.errors import DataError, StorageError

#: Fields that stand in the document once, or under another name for each input.
RENAMED = {
    "scores": "score",
    "counterfactual_scores": "counterfactual_score",
    "reconstruction_scores": "reconstruction_score",
    "inputs": "inputs",
    "feature_contributions": "contributions",
    "decisions": "decision",
}


def test_json_has_every_field_of_an_explanation():
    one = photos(2, 12)
    facts = json.loads(one.to_json(arrays=True, names=["a", "b"]))
    for field in dataclasses.fields(Explanation):
        name = RENAMED.get(field.name, field.name)
        assert name in facts or name in facts["explanations"][0], field.name
    for i, row in enumerate(facts["explanations"]):
        assert row["input"] == "ab"[i]
        for name in ("inputs", "counterfactual", "mask", "path", "codes", "path_scores"):
            assert torch.allclose(torch.tensor(row[name]), getattr(one, name)[i])
        for name, maps in one.attributions.items():
            assert torch.allclose(torch.tensor(row["attributions"][name]), maps[i])
            assert row["attribution_sums"][name] == pytest.approx(float(maps[i].double().sum()))
        assert row["probability"] == pytest.approx(float(one.scores[i].sigmoid()))
        assert row["fidelity"]["flips"] is True
        assert row["verdicts"] == {name: True for name in one.verdicts}
    assert "inputs" not in json.loads(one.to_json())["explanations"][0]
    assert facts["explanations"][0]["decision"] is None
    known = dataclasses.replace(one, decisions=torch.tensor([[1, 0], [0, 0]])).records()
    assert [(row["decision"], row["counterfactual_decision"]) for row in known] == [
        ("ill", "healthy"),
        ("healthy", "healthy"),
    ]


def test_csv_has_a_row_for_each_input_and_a_column_for_each_figure(tmp_path):
    one = dataclasses.replace(made(), feature_names=("evidence",), not_taught=("evidence",), mask=None)
    one.to_csv(tmp_path / "a.csv", names=["a, b", 'c"\nd'])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == ["a, b", 'c"\nd']
    assert [row["target"] for row in rows] == ["ill", "ill"]
    assert rows[0]["fidelity.coverage"] == str(float(one.fidelity.coverage[0]))
    assert float(rows[1]["path_scores.1"]) == 2
    assert float(rows[0]["convergence_delta.lig"]) == 0
    # About what is not taught there is nothing to say, and 0 would be something.
    assert rows[0]["contributions.evidence"] == ""
    assert rows[0]["masked_share"] == ""
    assert len([key for key in rows[0] if key.startswith("codes.")]) == one.codes.shape[1]


def test_what_people_wrote_comes_back_as_it_was(tmp_path):
    one = nasty_explanation()
    one.to_json(tmp_path / "a.json")
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["class_names"] == list(one.class_names)
    assert [row["problems"] for row in facts["explanations"]] == [list(found) for found in one.problems]
    assert one.records()[0]["input"] == "input 1"
    assert one[:0].records() == []


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(DataError, match="names do not fit"):
        made().to_csv(tmp_path / "a.csv", names=["one"])
    with pytest.raises(StorageError, match="cannot write"):
        made().to_json(tmp_path)
    assert list(tmp_path.iterdir()) == []
