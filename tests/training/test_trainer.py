"""The trainer: the same seed, interruption, resumption, NaN, averages; never a pickle."""

from __future__ import annotations

import warnings

import pytest
import torch
from tasks import DATA, STEPS, Task, same

from xlens.errors import TrainingError, XlensWarning


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
