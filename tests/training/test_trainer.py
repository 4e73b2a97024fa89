"""The trainer: the same seed, interruption, resumption, NaN, averages; never a pickle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import warnings

import forged
import pytest
import torch
import toys
from safetensors import safe_open
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from xlens.data import as_data
from xlens.errors import StorageError, TrainingError, XlensError, XlensWarning
from xlens.training import Trainer
from xlens.training.checkpoint import pack, read_file, unpack, write_file

X = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
STEPS = 13
DATA = {
    "indexed": lambda: X,
    "shuffling loader": lambda: DataLoader(TensorDataset(X), batch_size=4, shuffle=True),
}


class Task:
    """Two networks, two optimisers, an average, dropout, and noise of both kinds."""

    def __init__(self, data="indexed", steps=STEPS, at_step=lambda task: None, checkpoint_every=5, **run):
        self.at_step, self.data, self.calls, self.history = at_step, as_data(DATA[data]()), 0, []
        torch.manual_seed(1)
        self.networks = {
            "a": nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 6)),
            "b": nn.Linear(6, 1),
        }
        self.trainer = Trainer(
            toys.run_for(X, **run),
            "toy",
            networks=self.networks,
            optimizers={
                "a": torch.optim.Adam(self.networks["a"].parameters(), 1e-2),
                "b": torch.optim.SGD(self.networks["b"].parameters(), 1e-2, momentum=0.9),
            },
            steps=steps,
            schedule=lambda done: 1 - done / 2,
            ema={"a": 0.8},
            clip=1.0,
            checkpoint_every=checkpoint_every,
        )

    def step(self, batch):
        self.calls += 1
        noise = 0.1 * torch.randn(batch.inputs.shape, generator=self.trainer.generator)
        a, b = self.networks["a"], self.networks["b"]
        loss_a = (a(batch.inputs + noise) - batch.inputs).square().mean() - 0.1 * b(a(batch.inputs)).mean()
        self.trainer.minimise(loss_a, "a")
        loss_b = b(batch.inputs + torch.rand(())).square().mean() + b(a(batch.inputs).detach()).mean().exp()
        self.trainer.minimise(loss_b, "b")
        self.history.append(self.networks["a"][0].weight.detach().clone())
        self.at_step(self)
        return {"a": loss_a, "b": loss_b}

    def fit(self):
        self.trainer.fit(self.data, self.step, batch_size=4)
        return self

    def result(self):
        found = {f"{n}.{k}": v.clone() for n, net in self.networks.items() for k, v in net.state_dict().items()}
        average = self.trainer.averaged("a").state_dict()
        found |= {f"average.{key}": value.clone() for key, value in average.items()}
        return found | {"next": torch.rand(3), "noise": torch.rand(3, generator=self.trainer.generator)}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(autouse=True)
def _global_generators():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("data", DATA)
def test_the_same_seed_gives_the_same_result(data):
    assert same(Task(data).fit().result(), Task(data).fit().result())
    assert not same(Task(data).fit().result(), Task(data, seed=1).fit().result())


def interrupt_after(step):
    def on_step(event):
        if event.step == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("at", [1, 7, 10])
def test_resuming_gives_what_an_uninterrupted_run_gives(data, at, tmp_path):
    expected = Task(data).fit().result()
    with pytest.raises(KeyboardInterrupt):
        Task(data, output_dir=tmp_path, on_step=interrupt_after(at)).fit()
    torch.manual_seed(99)
    resumed = Task(data, output_dir=tmp_path, resume=True).fit()
    assert resumed.calls == STEPS - at
    assert same(resumed.result(), expected)


def test_resuming_a_finished_phase_does_nothing_and_leaves_off_where_it_ended(tmp_path):
    expected = Task(output_dir=tmp_path).fit().result()
    resumed = Task(output_dir=tmp_path, resume=True).fit()
    assert resumed.calls == 0
    assert same(resumed.result(), expected)


def test_an_interrupt_inside_a_step_keeps_the_last_whole_checkpoint(tmp_path):
    def fault(task):
        if task.calls == 8:
            raise KeyboardInterrupt

    expected = Task().fit().result()
    with pytest.raises(KeyboardInterrupt):
        Task(output_dir=tmp_path, at_step=fault).fit()
    resumed = Task(output_dir=tmp_path, resume=True).fit()
    assert resumed.calls == STEPS - 5
    assert same(resumed.result(), expected)


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    def press(task):
        if task.calls == 6:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    expected = Task().fit().result()
    task = Task(output_dir=tmp_path, at_step=press)
    with pytest.raises(KeyboardInterrupt):
        task.fit()
    assert (task.calls, task.trainer.step_index) == (6, 6)
    assert signal.getsignal(signal.SIGINT) is before
    assert same(Task(output_dir=tmp_path, resume=True).fit().result(), expected)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    def press_twice(task):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        task.survived = True

    task = Task(at_step=press_twice)
    # A program that was started in the background ignores it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            task.fit()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert not hasattr(task, "survived")


# --- SIGTERM --------------------------------------------------------------------------------------


@pytest.fixture
def terminated():
    """Give SIGTERM a handler, and see afterwards that it is still there."""

    def install(handler):
        signal.signal(signal.SIGTERM, handler)

    before = signal.getsignal(signal.SIGTERM)
    yield install
    signal.signal(signal.SIGTERM, before)


def terminate_at(call, number=signal.SIGTERM):
    def press(task):
        if task.calls == call:
            os.kill(os.getpid(), number)

    return press


@pytest.mark.parametrize("handler", [signal.SIG_DFL, lambda number, frame: None], ids=["default", "a flag"])
def test_sigterm_finishes_the_step_and_saves(tmp_path, terminated, handler):
    terminated(handler)
    expected = Task().fit().result()
    task = Task(output_dir=tmp_path, at_step=terminate_at(6))
    with pytest.raises(SystemExit) as said:
        task.fit()
    assert said.value.code == 143
    assert (task.calls, task.trainer.step_index) == (6, 6)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert read_file(tmp_path / "toy.checkpoint", "an xlens checkpoint")["step"] == 6
    assert same(Task(output_dir=tmp_path, resume=True).fit().result(), expected)


def test_the_programs_own_handler_of_sigterm_goes_first(tmp_path, terminated):
    class Preempted(Exception):
        pass

    def handler(number, frame):
        raise Preempted

    terminated(handler)
    with pytest.raises(Preempted):
        Task(output_dir=tmp_path, at_step=terminate_at(3)).fit()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_that_a_program_ignores_stays_ignored(terminated):
    terminated(signal.SIG_IGN)
    assert Task(at_step=terminate_at(3)).fit().calls == STEPS
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_second_sigterm_stops_at_once(tmp_path, terminated):
    terminated(signal.SIG_DFL)

    def press_twice(task):
        if task.calls == 3:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            task.survived = True

    task = Task(output_dir=tmp_path, at_step=press_twice)
    with pytest.raises(SystemExit):
        task.fit()
    assert not hasattr(task, "survived")
    # Half a step is not kept.
    assert read_file(tmp_path / "toy.checkpoint", "an xlens checkpoint")["step"] == 2


def test_in_another_thread_signals_are_left_alone(terminated):
    handler = signal.getsignal(signal.SIGTERM)
    found = []
    thread = threading.Thread(target=lambda: found.append(Task().fit().calls))
    thread.start()
    thread.join()
    assert found == [STEPS]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_killed_process_resumes_from_its_first_steps(tmp_path):
    """The first checkpoints come early: of what was done, less than half is lost."""
    expected = Task(checkpoint_every=200).fit().result()
    for killed_at in (1, 2, 3, 7, 12):
        folder = tmp_path / str(killed_at)

        class Killed(BaseException):
            pass

        def kill(event, killed_at=killed_at, kind=Killed):
            if event.step == killed_at:
                raise kind

        with pytest.raises(Killed):
            Task(checkpoint_every=200, output_dir=folder, on_step=kill).fit()
        resumed = Task(checkpoint_every=200, output_dir=folder, resume=True).fit()
        # What on_step of a step raises comes before that step is written.
        kept = STEPS - resumed.calls
        assert kept >= (killed_at - 1) / 2
        assert same(resumed.result(), expected)


def poison_at(*calls, value=torch.nan):
    def poison(task):
        if task.calls in calls:
            with torch.no_grad():
                task.networks["b"].weight.fill_(value)

    return poison


def test_nan_goes_back_warns_and_succeeds():
    class Poisoned(Task):
        def step(self, batch):
            losses = super().step(batch)
            return {**losses, "b": losses["b"] * torch.nan} if self.calls == 6 else losses

    task = Poisoned()
    start = {key: value.clone() for key, value in task.networks["a"].state_dict().items()}
    seen = {}
    task.at_step = lambda t: seen.setdefault(t.calls, t.trainer.step_index)
    with pytest.warns(XlensWarning, match=r"b was not finite at step 6 of 'toy'; went back to step 0 and halved"):
        task.fit()
    assert task.calls == 6 + STEPS  # the last good state was the very first
    assert seen[7] == 0
    assert all(value.isfinite().all() for value in task.result().values())
    assert not same(start, task.networks["a"].state_dict())
    (rate,) = {group["lr"] for group in task.trainer.optimizers["a"].param_groups}
    assert rate == pytest.approx(1e-2 * (1 - (STEPS - 1) / STEPS / 2) / 2)


def test_a_weight_that_is_not_finite_is_found_though_losses_are():
    class Quiet(Task):
        def step(self, batch):
            return {name: torch.zeros(()) for name in super().step(batch)}

    with pytest.warns(XlensWarning, match="a weight was not finite at step 13"):
        task = Quiet(at_step=poison_at(4)).fit()
    assert task.networks["b"].weight.isfinite().all()


def test_going_back_returns_to_the_last_good_step():
    with pytest.warns(XlensWarning, match="went back to step 50"):
        task = Task(steps=60, at_step=poison_at(55)).fit()
    # Poisoned after its own losses were computed, so call 56 is the first to notice.
    assert task.calls == 56 + 10


def test_nan_again_and_again_ends_in_an_error():
    class Hopeless(Task):
        def step(self, batch):
            super().step(batch)
            return {"generator": torch.tensor(torch.nan)}

    task = Hopeless()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TrainingError, match="generator was not finite after 3 roll-backs.*learning rates"):
            task.fit()
    assert task.calls == 4
    assert len([w for w in caught if issubclass(w.category, XlensWarning)]) == 3


def test_events_tell_every_step():
    events = []
    Task(on_step=events.append).fit()
    assert [(e.phase, e.step, e.total) for e in events] == [("toy", i + 1, STEPS) for i in range(STEPS)]
    assert all(set(e.losses) == {"a", "b"} and isinstance(e.losses["a"], float) for e in events)


def test_the_average_is_exponential():
    decay = 0.8
    task = Task().fit()
    # After step n the average moves by 1 - min(decay, (1 + n) / (10 + n)); it begins at the first weights.
    average = task.history[0].double()
    for n, weight in enumerate(task.history[1:], start=1):
        keep = min(decay, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * weight.double()
    found = task.trainer.averaged("a")[0].weight
    assert torch.allclose(found.double(), average, atol=1e-6)
    assert not torch.allclose(found, task.history[-1], atol=1e-4)


def test_progress_shows_the_losses(capfd):
    Task(progress=True).fit()
    shown = capfd.readouterr().err
    assert "toy" in shown
    assert "13/13" in shown
    Task(progress=False).fit()
    assert capfd.readouterr().err == ""


# --- checkpoints ----------------------------------------------------------------------------------


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
