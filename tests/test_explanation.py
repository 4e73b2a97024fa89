"""An explanation: data only, which fits together."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from xlens.errors import DataError


@pytest.fixture(scope="module")
def explanation(fitted, images):
    return fitted.explain(images[:9], attributions=("lig", "ig_counterfactual"))


def test_indexing_and_iteration(explanation):
    assert len(explanation) == 9
    assert [len(one) for one in explanation] == [1] * 9
    for part, rows in ((explanation[4], [4]), (explanation[-1], [8]), (explanation[2:5], [2, 3, 4])):
        assert torch.equal(part.inputs, explanation.inputs[rows])
        assert torch.equal(part.attributions["lig"], explanation.attributions["lig"][rows])
        assert torch.equal(part.fidelity.mse, explanation.fidelity.mse[rows])
        assert part.problems == tuple(explanation.problems[row] for row in rows)
    assert torch.equal(explanation[torch.tensor(3)].inputs, explanation.inputs[3:4])
    for out_of_range in (9, -10):
        with pytest.raises(IndexError):
            explanation[out_of_range]


def test_it_is_frozen_short_in_print_and_moves(explanation, monkeypatch):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.scores = None
    expected = "Explanation(9 of 1x8x8; attributions: lig, ig_counterfactual; trustworthy: 9/9)"
    assert repr(explanation) == expected
    monkeypatch.setattr("xlens.explanation._finite", lambda value: True)  # "meta" holds no values
    moved = explanation.to("meta")
    assert moved.fidelity.ssim.device.type == moved.attributions["lig"].device.type == "meta"
    assert explanation.to("cpu").class_names == explanation.class_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": torch.zeros(8)}, r"scores is \(8,\), not \(9,\)"),
        ({"mask": torch.zeros(9, 8, 8)}, r"mask is \(9, 8, 8\), not \(9, 1, 8, 8\)"),
        ({"attributions": {"lig": torch.zeros(9, 8, 8)}}, r"attributions\['lig'\]"),
        ({"path_scores": torch.full((9, 11), torch.nan)}, "path_scores is not finite"),
        ({"problems": ()}, "problems has 0 entries, not 9"),
    ],
)
def test_parts_that_do_not_fit_are_refused(explanation, changes, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(explanation, **changes)


def test_fidelity_as_a_table(explanation):
    table = explanation.fidelity.to_markdown().splitlines()
    assert len(table) == 2 + len(dataclasses.fields(explanation.fidelity))
    assert "| flips | 1.000 | 1.000 |" in table
