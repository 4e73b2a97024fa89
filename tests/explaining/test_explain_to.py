"""Explaining to disk: part by part, killed and taken up again, nothing lost or doubled."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
import warnings

import pytest
import torch
import toys
from torch.utils.data import Dataset

from xlens.errors import OptionError, StorageError, UntrustworthyWarning
from xlens.explainer import LensExplainer
from xlens.storage import ExplanationFolder
from xlens.storage.explanation_folder import FACTS


class Counted(Dataset):
    """Inputs by position, and how many of them were read at most between two looks."""

    def __init__(self, n):
        self.inputs, self.read = toys.pictures(n, seed=2)[0], []

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        self.read.append(i)
        return self.inputs[i]


def inputs_of(found):
    return torch.cat([part.inputs for part in found])


def test_parts_are_what_explain_gives_and_come_in_order(fitted, tmp_path):
    data = Counted(10)
    found = fitted.explain_to(tmp_path, data, rows=4, progress=False)
    assert [len(part) for part in found] == [4, 4, 2]
    assert found.complete
    assert sorted(data.read) == list(range(10))
    expected = fitted.explain(data.inputs[4:8])
    second = list(found)[1]
    assert torch.equal(second.attributions["lig"], expected.attributions["lig"])
    assert torch.equal(inputs_of(ExplanationFolder(tmp_path)), data.inputs)


def test_what_is_there_is_not_explained_again_and_what_is_missing_is(fitted, tmp_path):
    data = Counted(12)
    fitted.explain_to(tmp_path, data, rows=3, progress=False)
    parts = ExplanationFolder(tmp_path).parts
    before = {path.name: path.stat().st_mtime_ns for path in parts}
    parts[2].unlink()
    assert not ExplanationFolder(tmp_path).complete
    data.read.clear()
    found = fitted.explain_to(tmp_path, data, rows=3, progress=False)
    # The first part is compared with what is there.
    assert sorted(data.read) == [0, 1, 2, 6, 7, 8]
    assert found.complete
    after = {path.name: path.stat().st_mtime_ns for path in found.parts}
    assert [name for name in before if before[name] != after[name]] == [parts[2].name]
    assert torch.equal(inputs_of(found), data.inputs)


def test_of_a_stream_every_batch_is_a_part(fitted, tmp_path):
    inputs = toys.pictures(9, seed=2)[0]
    found = fitted.explain_to(tmp_path, list(inputs.split(4)), progress=False)
    assert [len(part) for part in found] == [4, 4, 1]
    assert found.complete
    assert torch.equal(inputs_of(found), inputs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": 2}, "explanations of another .*rows"),
        ({"carry": "none"}, "explanations of another asked"),
        ({"data": 7}, "another number of inputs"),
        ({"seed": 5}, "explanations of other inputs"),
    ],
)
def test_a_folder_of_something_else_is_refused(fitted, tmp_path, change, says):
    inputs = toys.pictures(6, seed=2)[0]
    fitted.explain_to(tmp_path, inputs, rows=3, progress=False)
    changed = dict(change)
    other = toys.pictures(changed.pop("data", 6), seed=changed.pop("seed", 2))[0]
    with pytest.raises(StorageError, match=says):
        fitted.explain_to(tmp_path, other, **{"rows": 3, "progress": False, **changed})


@pytest.mark.parametrize(
    "forged",
    ["[" * 20_000 + "]" * 20_000, "[]", "9" * 5000, '{"kind": "xlens explanations", "rows": 2}',
     '{"kind": "xlens explanations", "rows": 2, "parts": "x"}'],
    ids=["deep", "a list", "a number", "without parts", "parts of another kind"],
)  # fmt: skip
def test_a_forged_folder_is_refused_in_words(tmp_path, forged):
    (tmp_path / FACTS).write_text(forged)
    with pytest.raises(StorageError, match="there are none in this folder"):
        ExplanationFolder(tmp_path)


def test_what_cannot_be_done_is_said(fitted, tmp_path):
    inputs = toys.pictures(4, seed=2)[0]
    with pytest.raises(OptionError, match="rows must be an int >= 1, got 0"):
        fitted.explain_to(tmp_path, inputs, rows=0)
    with pytest.raises(OptionError, match="target must be one class"):
        fitted.explain_to(tmp_path, inputs, target=torch.zeros(4, dtype=torch.long))
    with pytest.raises(StorageError, match="there are none in this folder"):
        ExplanationFolder(tmp_path / "nowhere")
    (tmp_path / "part-00000000.safetensors").write_bytes(b"")
    with pytest.raises(StorageError, match="parts of which nothing says what they are"):
        fitted.explain_to(tmp_path, inputs)


def test_explanations_that_do_not_hold_are_said_once(fitted, tmp_path):
    blind = LensExplainer(dataclasses.replace(fitted.fitted, lens=toys.BlindLens(), mask=None))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        blind.explain_to(tmp_path, toys.pictures(6, seed=2)[0], rows=2, progress=False)
    said = [one for one in caught if issubclass(one.category, UntrustworthyWarning)]
    assert len(said) == 1
    assert "6 of 6 explanations do not hold" in str(said[0].message)


class Slow(Counted):
    """Takes a moment to read, so that it is killed in the middle."""

    def __getitem__(self, i):
        time.sleep(0.002)
        return super().__getitem__(i)


def in_a_child(fitted, folder, data):
    """Explain in a process of its own, a copy of this one."""
    child = os.fork()
    if not child:
        code = 1
        try:
            fitted.explain_to(folder, data, rows=4, attributions=(), progress=False)
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are copies")
def test_killed_several_times_nothing_is_lost_or_doubled(fitted, tmp_path):
    """Each run is killed, without a chance to clean up, after it has written something more."""
    data = Slow(60)
    for goal in (2, 5, 9, 10):
        child, limit = in_a_child(fitted, tmp_path, data), time.monotonic() + 100
        while len(list(tmp_path.glob("part-*.safetensors"))) < goal and time.monotonic() < limit:
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    found = fitted.explain_to(tmp_path, data, rows=4, attributions=(), progress=False)
    assert found.complete
    assert torch.equal(inputs_of(found), data.inputs)
