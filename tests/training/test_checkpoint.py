"""Checkpoints: whole, of this run, and never a pickle."""

from __future__ import annotations

import contextlib
import json
import os

import forged
import pytest
import torch
from safetensors import safe_open
from tasks import STEPS, Task

from xlens.errors import StorageError, XlensError
from xlens.training.checkpoint import pack, read_file, unpack, write_file


@pytest.fixture
def checkpoint(tmp_path):
    Task(output_dir=tmp_path).fit()
    return tmp_path / "toy.checkpoint"


def test_a_checkpoint_is_safetensors_and_whole(checkpoint):
    with safe_open(checkpoint, framework="pt") as file:
        assert file.metadata()["kind"] == "an xlens checkpoint"
        assert len(list(file.keys())) > 5
    assert [path.name for path in checkpoint.parent.iterdir()] == ["toy.checkpoint"]


def test_a_checkpoint_of_another_run_is_refused(checkpoint):
    with pytest.raises(StorageError, match="belongs to another run.*resume=False"):
        Task(output_dir=checkpoint.parent, resume=True, identity="other").fit()


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_checkpoint_is_refused(checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(StorageError, match="truncated or damaged"):
        Task(output_dir=checkpoint.parent, resume=True).fit()


@pytest.mark.parametrize("where", [-3, -2000])
def test_an_edited_checkpoint_is_refused(checkpoint, where):
    content = bytearray(checkpoint.read_bytes())
    content[where] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(StorageError):
        Task(output_dir=checkpoint.parent, resume=True).fit()


def test_a_file_of_another_kind_is_refused(checkpoint):
    write_file(checkpoint, "a shopping list", {"eggs": torch.ones(6)})
    with pytest.raises(StorageError, match="is not an xlens checkpoint. Given: a shopping list"):
        Task(output_dir=checkpoint.parent, resume=True).fit()


def test_without_resume_an_old_checkpoint_is_ignored(checkpoint):
    assert Task(output_dir=checkpoint.parent).fit().calls == STEPS


def test_nested_state_survives(tmp_path):
    shared = torch.arange(6.0)
    tree = {
        "plain": [1, 2.5, "x", None, True],
        "nested": {"t": shared.view(2, 3).t(), "same": shared, "empty": torch.zeros(0), "half": shared.bfloat16()},
        "by number": {0: {"step": torch.tensor(3)}, 1: {}},
    }
    for again in (unpack(*pack(tree)), (write_file(tmp_path / "f", "k", tree), read_file(tmp_path / "f", "k"))[1]):
        assert again["plain"] == tree["plain"]
        assert torch.equal(again["nested"]["t"], tree["nested"]["t"])
        assert again["nested"]["half"].dtype == torch.bfloat16
        assert again["by number"][0]["step"] == 3
        assert again["by number"][1] == {}


PLACES = [
    ("step",), ("identity",), ("rate_factor",), ("rollbacks",), ("generator",), ("generators",), ("networks",),
    ("networks", "a"), ("averages",), ("optimizers",), ("optimizers", "a"), ("optimizers", "a", "state"),
    ("stream",), ("stream", "epoch"), ("stream", "position"), ("rng",), ("rng", "torch"), ("rng", "numpy"),
    ("rng", "python"), ("rng", "cuda"),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_fields_of_a_checkpoint_with_right_checksums(checkpoint, place):
    """Refused in words, or gone on from; raw errors and endless loops are neither."""
    tensors, plain, kind = forged.tree_of(checkpoint)
    for value in (..., None, -1, 10**400, float("nan"), "x", [], {}, [[1]], {"a": 1}):
        forged.write_tree(checkpoint, tensors, json.dumps(forged.with_field(plain, place, value)), kind)
        with contextlib.suppress(XlensError):
            Task(output_dir=checkpoint.parent, resume=True).fit()


def test_a_save_that_is_interrupted_twice_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    Task(output_dir=tmp_path, steps=4).fit()
    replace = os.replace
    for seed in (1, 2):

        def stopped(source, target):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", stopped)
            Task(output_dir=tmp_path, seed=seed).fit()
    assert os.replace is replace
    assert read_file(tmp_path / "toy.checkpoint", "an xlens checkpoint")["step"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["toy.checkpoint"]
