"""Lenses whose masks see the classifier's maps: read without running it, where that gives the same."""

from __future__ import annotations

import warnings

import forged
import pytest
import torch
from torch import nn

import xlens
from xlens.errors import StorageError
from xlens.testing.world import pictures

X = pictures(48, seed=1)[0]


class Counting(nn.Module):
    """A classifier whose runs are noted, with one convolution that no run reaches."""

    def __init__(self, seed=0, *, sides=4):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1))
        self.head, self.unused = nn.Linear(6 * sides**2, 3), nn.Conv2d(1, 5, 1)

    def forward(self, inputs):
        RUNS.append(tuple(inputs.shape))
        return self.head(self.body(inputs).flatten(1))


RUNS: list[tuple[int, ...]] = []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "lens"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lens = xlens.fit(Counting(), X, "svae", steps=2, mask=xlens.MaskOptions(steps=2), progress=False)
    lens.save(path)
    return path, lens, forged.facts_of(path)


@pytest.fixture(autouse=True)
def _as_saved(saved):
    RUNS.clear()
    yield
    forged.write_facts(saved[0], saved[2])


def explained(lens):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lens.explain(X[:2], n_steps=2, tolerance=0.9)


def test_reading_a_lens_runs_no_classifier(saved):
    path, lens, facts = saved
    assert facts["maps"] == {"shape": [1, 8, 8], "layers": [["body.0", 4], ["body.2", 6]]}
    again = xlens.load(path, Counting(), max_bytes=2**10)
    assert not RUNS
    assert torch.equal(explained(again).mask, explained(lens).mask)


def test_a_lens_of_an_earlier_version_is_read_with_one_run(saved):
    path, lens, facts = saved
    forged.write_facts(path, {key: value for key, value in facts.items() if key != "maps"})
    again = xlens.load(path, Counting())
    assert RUNS == [(1, 1, 8, 8)]
    assert torch.equal(explained(again).mask, explained(lens).mask)


@pytest.mark.parametrize(
    "layers",
    [
        [["body.0", 4], ["body.2", 2**40]],
        [["body.0", 4], ["body.1", 6]],
        [["body.0", 4], ["nowhere", 6]],
        [["body.0", 4], ["", 6]],
    ],
    ids=str,
)
def test_layers_that_the_model_has_not_are_found_by_a_run(saved, layers):
    path, lens, facts = saved
    forged.write_facts(path, {**facts, "maps": {**facts["maps"], "layers": layers}})
    again = xlens.load(path, Counting())
    assert RUNS == [(1, 1, 8, 8)]
    assert again.mask.maps.names == lens.mask.maps.names


@pytest.mark.parametrize("layers", [[], [["unused", 5]], [["body.2", 6], ["body.0", 4]]], ids=str)
def test_other_layers_of_the_model_do_not_fit_the_masks_tensors(saved, layers):
    path, _, facts = saved
    forged.write_facts(path, {**facts, "maps": {**facts["maps"], "layers": layers}})
    with pytest.raises(StorageError, match="do not fit"):
        xlens.load(path, Counting())


@pytest.mark.parametrize(
    "maps", [None, 3, [], {}, {"shape": [1, 8, 8]}, {"shape": 1, "layers": []}, {"shape": [], "layers": [["a"]]}]
)
def test_maps_of_the_wrong_kind_are_said(saved, maps):
    path, _, facts = saved
    forged.write_facts(path, {**facts, "maps": maps})
    with pytest.raises(StorageError, match="maps are"):
        xlens.load(path, Counting())


def test_another_classifier_is_run(saved):
    path = saved[0]
    xlens.load(path, Counting(seed=1), strict=False)
    assert RUNS == [(1, 1, 8, 8)]
    with pytest.raises(StorageError, match="does not take inputs"):
        xlens.load(path, Counting(sides=5), strict=False)
