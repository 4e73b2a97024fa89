"""What a fit will cost is said when it begins, and finding it out changes nothing of what is fitted."""

import io
import logging
import sys
import time

import pytest
import torch
import toys
from ours import OPTIONS, TRAINED, around, mask_for

import xlens
from xlens.contracts.backend import Run
from xlens.counterfactual.fit_mask import MaskCost
from xlens.fitting.cost import Cost
from xlens.testing.world import World
from xlens.training import Trainer
from xlens.training.timing import StepWatch


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "xlens")
    return lambda: [record for record in caplog.records if record.name == "xlens"]


def fit(name, progress, **options):
    world = World.of((1, 8, 8))
    small = {**OPTIONS[name][0], **options} if isinstance(name, str) else options
    return xlens.fit(
        around(world.model(), name) if isinstance(name, str) else world.model(),
        world.inputs[:96],
        name,
        mask=mask_for(name, toys.SHORT_MASK) if isinstance(name, str) else toys.SHORT_MASK,
        progress=progress,
        **small,
    )


def weights(explainer):
    parts = [explainer.lens, explainer.fitted.mask]
    return [value for part in parts if part is not None for value in part.state_dict().values()]


@pytest.mark.parametrize("name", TRAINED)
def test_a_fit_that_says_its_cost_gives_the_same_lens_bit_by_bit(name, said):
    silent = fit(name, False)
    assert not said()
    loud = fit(name, None)
    assert all(map(torch.equal, weights(silent), weights(loud)))
    (record,) = said()
    assert record.levelname == "INFO"
    assert f"{name} {silent.backend.steps} steps of" in record.getMessage()
    assert "memory up to" in record.getMessage()
    assert ("mask 3 steps of" in record.getMessage()) == (silent.fitted.mask is not None)


@xlens.options
class Counting(xlens.Backend):
    """Another author's: its step keeps what is no network's, and counts."""

    name = "counting"
    steps: int = xlens.param(6, ge=1, help="training steps")

    def build(self, classifier, spec):
        if spec.num_classes:
            raise RuntimeError("broken")

    def fit(self, classifier, data, run):
        lens = toys.ToyLens()
        taken = []
        for phase in ("first", "second"):
            optimizer = torch.optim.SGD(lens.parameters(), 0.1)
            trainer = Trainer(run, phase, networks={"lens": lens}, optimizers={"lens": optimizer}, steps=self.steps)

            def step(batch, trainer=trainer):
                taken.append(torch.rand(()))
                loss = (lens.template - sum(taken)).square().mean()
                trainer.minimise(loss, "lens")
                return {"loss": loss}

            trainer.fit(data, step, batch_size=16)
        assert len(taken) == 2 * self.steps
        return lens


def test_another_authors_backend_says_its_trainings_and_is_not_run_twice(said):
    silent, loud = fit(Counting(), False), fit(Counting(), None)
    assert all(map(torch.equal, weights(silent), weights(loud)))
    first, second, mask = (record.getMessage() for record in said())
    assert "first 6 steps of" in first
    assert "a mask, of which it is not known (RuntimeError: broken)" in first
    assert "second 6 steps of" in second
    assert "mask 3 steps of" in mask


def test_on_a_terminal_it_is_printed(monkeypatch, said):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit("svae", None)
    assert "fit: about" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    fit("svae", True)
    assert "fit: about" in sys.stderr.getvalue()
    assert not said()


def cost_of(seconds, steps=1000, shape=(1, 8, 8)):
    backend = xlens.fitting.arguments.as_backend("svae", {}, [])
    spec = xlens.Spec(
        shape=shape, num_classes=2, minimum=(0.0,), maximum=(1.0,), mean=(0.5,), std=(1.0,),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    run = Run(seed=0, device=torch.device("cpu"), spec=spec)
    cost = Cost(backend, run, MaskCost(steps=400, step=0.1, pool=10.0, bytes=10**9))
    cost("svae", steps, seconds)
    return cost


def test_above_ten_minutes_there_is_advice(said):
    assert cost_of(0.5).seconds == pytest.approx(550)
    assert cost_of(0.6).seconds == pytest.approx(650)
    short, long = said()
    assert short.levelname == "INFO"
    assert "less" not in short.getMessage()
    assert long.levelname == "WARNING"
    for way in ("steps=3000", "hidden=512", "batch_size=128", "a part of the data", "'infill'"):
        assert way in long.getMessage()
    assert "about 11 min (svae 1,000 steps of 600 ms, mask 400 steps of 100 ms" in long.getMessage()
    cost_of(0.7, shape=(8,))
    assert "infill" not in said()[-1].getMessage()


def test_steps_are_timed_without_the_first():
    told = []
    watch = StepWatch(lambda *facts: told.append(facts), "phase", 4)
    for seconds in (0.05, 0.01, 0.01, 0.01):
        assert not told
        with watch.step():
            time.sleep(seconds)
    ((phase, steps, seconds),) = told
    assert (phase, steps) == ("phase", 4)
    assert 0.01 <= seconds < 0.05


def test_a_single_step_and_a_long_one_are_said_at_once():
    told = []
    with StepWatch(lambda *facts: told.append(facts), "one", 1).step():
        pass
    assert told[0][:2] == ("one", 1)
    with pytest.raises(ValueError, match="broken"), StepWatch(told.append, "failing", 1).step():
        raise ValueError("broken")
    assert len(told) == 1
