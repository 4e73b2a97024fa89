"""Training steps in bfloat16: every backend takes it, and the lens is float32 all the same."""

from __future__ import annotations

import pytest
import torch
import toys
from ours import OPTIONS, TRAINED, around, mask_for

import xlens
from xlens.data import as_data
from xlens.errors import OptionError, StorageError
from xlens.registry.loading import load_backend
from xlens.training import Trainer


@pytest.fixture(scope="module")
def inputs():
    return toys.pictures(64, seed=4)[0]


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize("name", TRAINED)
def test_every_backend_trains_in_bfloat16(name, inputs):
    # Twenty steps, so that what backends do every so often is done.
    backend = load_backend(name)(**{**OPTIONS.get(name, ({},))[0], "steps": 21})

    def losses(precision):
        events = []
        explainer = xlens.fit(
            around(toys.trained_cnn(), name), inputs, backend, mixed_precision=precision,
            mask=mask_for(name, toys.SHORT_MASK), progress=False, on_step=events.append,
        )  # fmt: skip
        parameters = [*explainer.lens.parameters(), *(explainer.mask.parameters() if explainer.mask else ())]
        assert {p.dtype for p in parameters} <= {torch.float32, torch.float64}
        assert explainer.explain(inputs[:2]).codes.isfinite().all()
        # What works in double precision throughout, as flows that are inverted, stays there.
        lowered = any(p.dtype == torch.float32 for p in explainer.lens.parameters())
        return [event.losses for event in events if event.phase != "mask"], lowered

    (full, lowered), (half, _) = losses("no"), losses("bf16")
    # Of some networks the first step's outputs are zero in any precision.
    assert (full != half) == lowered
    for key, value in full[0].items():
        assert half[0][key] == pytest.approx(value, rel=0.05, abs=0.02), key


def test_the_step_runs_in_bfloat16_and_the_gradient_in_float32(inputs):
    network, seen = torch.nn.Linear(64, 3), []
    run = toys.run_for(inputs, mixed_precision="bf16")
    optimizers = {"net": torch.optim.SGD(network.parameters(), 1e-3)}
    trainer = Trainer(run, "toy", networks={"net": network}, optimizers=optimizers, steps=1)

    def step(batch):
        output = network(batch.inputs.flatten(1))
        trainer.minimise(output.float().square().mean(), "net")
        seen.extend([output.dtype, network.weight.grad.dtype, torch.is_autocast_enabled("cpu")])
        return {"loss": output.float().mean()}

    trainer.fit(as_data(inputs), step, batch_size=8)
    assert seen == [torch.bfloat16, torch.float32, True]
    assert not torch.is_autocast_enabled("cpu")


def test_other_precisions_are_refused(inputs):
    with pytest.raises(OptionError, match="mixed_precision must be 'no' or 'bf16', got 'fp16'"):
        xlens.fit(toys.trained_cnn(), inputs, toys.Toy(), mixed_precision="fp16")


def test_a_checkpoint_of_another_precision_is_refused(inputs, tmp_path):
    fit = lambda **options: xlens.fit(  # noqa: E731
        toys.trained_cnn(), inputs, toys.Toy(), output_dir=tmp_path, mask=toys.SHORT_MASK, progress=False, **options
    )
    fit()
    with pytest.raises(StorageError, match="belongs to another run"):
        fit(mixed_precision="bf16", resume=True)
