"""Two processes fit and explain what one does, started by torchrun or as torchrun does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import two_processes
from safetensors.torch import load_file

from xlens.storage import ExplanationFolder
from xlens.training import Processes, alone, processes

SCRIPT = Path(__file__).parents[1].joinpath("two_processes.py")
APART = Path(__file__).parents[1].joinpath("processes_apart.py")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def by_one(folder):
    """Do what the script does in this process, and return what it prints."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), contextlib.redirect_stdout(said):
        two_processes.stand_in(patch.setattr)
        two_processes.main(folder)
    return said.getvalue()


def by_torchrun(folder):
    """Return what two processes print that torchrun starts."""
    command = [sys.executable, *TORCHRUN, str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def by_two(script, folder):
    """Start two processes as torchrun does, and wait for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = []
    for rank in "01":
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **place}
        command, told = [sys.executable, str(script), str(folder)], {"stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**ONE_THREAD, **world}, **told))
    faults = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(fault[-3000:] for fault in faults)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folder, output and results of the script, run by one process and by two."""
    root = tmp_path_factory.mktemp("processes")
    found = {}
    for name, run in {"one": by_one, "two": by_torchrun}.items():
        folder = root / name
        folder.mkdir()
        stdout = run(folder)
        ranks = [load_file(path) for path in sorted(folder.glob("rank*.safetensors"))]
        found[name] = (folder, stdout, ranks)
    return found


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """What each of two processes met where one of them differs from the other, or fails."""
    folder = tmp_path_factory.mktemp("apart")
    by_two(APART, folder)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_give_the_lens_that_one_gives(ran):
    (one,), (two, _) = ran["one"][2], ran["two"][2]
    wanted = ("lens", "streamed", "resumed")
    keys = [key for key in one if key.split(".")[0] in wanted]
    assert {key.split(".")[0] for key in keys} == set(wanted)
    for key in keys:
        assert torch.allclose(one[key], two[key], atol=1e-5), key


def test_the_processes_stay_in_step(ran):
    first, second = ran["two"][2]
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_an_interrupted_run_of_two_is_resumed(ran):
    first = ran["two"][2][0]
    for key in [key for key in first if key.startswith("resumed.")]:
        assert torch.equal(first[key], first[key.replace("resumed", "lens")]), key


def test_two_processes_share_out_what_is_explained_to_disk(ran):
    (one, _, _), (two, _, _) = ran["one"], ran["two"]
    alone, shared = (ExplanationFolder(folder / "explanations") for folder in (one, two))
    assert shared.complete
    assert [path.name for path in shared.parts] == [path.name for path in alone.parts]
    for mine, theirs in zip(alone, shared, strict=True):
        assert torch.equal(mine.inputs, theirs.inputs)
        assert torch.allclose(mine.counterfactual, theirs.counterfactual, atol=1e-5)
    # Each process reads its own parts alone.
    assert [json.loads((two / f"read-rank{rank}.json").read_text()) for rank in (0, 1)] == [[0, 1, 4, 5], [2, 3, 6]]


def test_two_processes_give_the_explanations_that_one_gives(ran):
    (one,), (two, _) = ran["one"][2], ran["two"][2]
    keys = [key for key in one if key.startswith("explained.") or key == "one input"]
    assert len(keys) >= 8
    for key in keys:
        assert torch.allclose(one[key], two[key], atol=1e-5), key


def test_one_process_writes(ran):
    written = lambda folder: sorted(  # noqa: E731
        # What each process writes for the test bears its number.
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "rank" not in path.name
    )
    one, two = (written(ran[name][0]) for name in ("one", "two"))
    assert one == two
    assert {"lens/lens.json", "run/linear.checkpoint", "explanation", "why.html"} <= set(one)


def test_processes_with_other_data_are_refused(ran):
    assert ran["one"][1] == ""
    assert ran["two"][1].count("the processes have different data or classifiers. Given: 2 processes") == 2


def test_running_statistics_that_differ_are_the_first_processes_and_stay_what_they_were(apart):
    first, second = (found["running statistics"] for found in apart)
    assert first["own"] != second["own"]
    assert first["saved"] == second["saved"] == first["own"]
    assert first["lens"] == second["lens"]
    assert first["mask"] == second["mask"]
    assert [first["kept"], second["kept"]] == [True, True]
    # What is explained is the first's f too, in both halves of what they explain together.
    assert first["by hand"] != pytest.approx(second["by hand"], abs=1e-3)
    for found in (first, second):
        assert found["scores"] == pytest.approx(first["by hand"], abs=1e-4)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("sampled", "this loader gives each process another part of the data. Given: a DataLoader with a Distrib"),
        ("prepared", "this loader gives each process another part of the data. Given: a DataLoaderShard that"),
        ("turned", "the processes have different data or classifiers. Given: 2 processes"),
    ],
)
def test_streams_that_differ_are_refused(apart, loader, message):
    for found in apart:
        assert found["sharded"][loader].startswith(f"DataError: fit: {message}")


def test_models_of_other_buffers_are_refused(apart):
    for found in apart:
        assert found["other buffers"].startswith("DataError: fit: the processes have different data or classifiers")


@pytest.mark.parametrize(
    ("doing", "which", "own", "others"),
    [
        ("save", 0, "StorageError: save: cannot write", "StorageError: save: another process failed"),
        ("checkpoint", 0, "StorageError: save: cannot write", "StorageError: fit: writing a checkpoint: another"),
        ("survey", 1, "DataError: data: input 3 has values that are not finite", "XlensError: fit: another"),
    ],
)
def test_what_fails_in_one_process_fails_in_all(apart, doing, which, own, others):
    assert apart[which]["one fails"][doing].startswith(own)
    told = apart[1 - which]["one fails"][doing]
    assert told.startswith(others)
    assert f"process {which}: {own.split(': ', 1)[1]}" in told


def test_a_checkpoint_that_one_process_finds_is_not_resumed(apart):
    for found in apart:
        assert "StorageError: fit: the processes do not find the same checkpoint" in found["resumed"]["absent"]
        assert "process 0: step 7, process 1: none" in found["resumed"]["absent"]
    assert "reading a checkpoint: another process failed" in apart[0]["resumed"]["damaged"]
    assert "is truncated or damaged" in apart[1]["resumed"]["damaged"]


def test_processes_factor_the_covariance_of_all_codes(apart):
    for found in apart:
        assert found["prior"] < 1e-5


def test_shares_are_the_whole():
    positions = torch.arange(11)
    shares = [Processes(i, 3).share(positions) for i in range(3)]
    assert torch.equal(torch.cat(shares).sort().values, positions)
    assert [len(share) for share in shares] == [4, 4, 3]
    assert torch.equal(Processes(1, 3).share(positions[:2]), positions[:2])


def test_a_program_that_was_not_launched_as_several_is_alone(monkeypatch):
    assert processes(torch.device("cpu")) == Processes(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with alone():
        assert processes(torch.device("cpu")) == Processes(0, 1)
