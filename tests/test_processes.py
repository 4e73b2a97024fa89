"""Two processes fit and explain what one does; the test starts them as torchrun does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xlens.training.processes import Processes, alone, processes

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folder, output and results of the script, run by one process and by two."""
    root = tmp_path_factory.mktemp("processes")
    found = {}
    launchers = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]}
    for name, launcher in launchers.items():
        folder = root / name
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, *launcher, str(SCRIPT), str(folder)],
            capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = [load_file(path) for path in sorted(folder.glob("rank*.safetensors"))]
        found[name] = (folder, done.stdout, ranks)
    return found


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


def test_two_processes_give_the_explanations_that_one_gives(ran):
    (one,), (two, _) = ran["one"][2], ran["two"][2]
    keys = [key for key in one if key.startswith("explained.") or key == "one input"]
    assert len(keys) >= 8
    for key in keys:
        assert torch.allclose(one[key], two[key], atol=1e-5), key


def test_one_process_writes(ran):
    written = lambda folder: sorted(  # noqa: E731
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "rank" not in path.name
    )
    one, two = (written(ran[name][0]) for name in ("one", "two"))
    assert one == two
    assert {"lens/lens.json", "run/linear.checkpoint", "explanation", "why.html"} <= set(one)


def test_processes_with_other_data_are_refused(ran):
    assert ran["one"][1] == ""
    assert ran["two"][1].count("the processes have different data or classifiers. Given: 2 processes") == 2


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
