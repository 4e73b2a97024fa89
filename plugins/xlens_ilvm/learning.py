"""One training step of an ILVM, and when to stop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from xlens import Run
from xlens.data import Batch, as_data
from xlens.training import Trainer
from xlens_ilvm.models import Model

__all__ = ["Learning", "hold_out"]

_HELD_OUT, _FEWEST_HELD_OUT, _MOST_HELD_OUT = 0.2, 8, 2000
_CHECKS = 40
#: Added to the seed: whoever hid side information at random may have drawn from the same seed.
_OFFSET = 2_000_003


class _Best(nn.Module):
    """The model as it was when it read held-out side information best. A network, so that checkpoints hold it."""

    loss: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("loss", torch.tensor(1e30, dtype=torch.float64))

    def see(self, model: Model, loss: Tensor) -> None:
        """Keep the model if its loss is the lowest so far."""
        if float(loss) < float(self.loss):
            self.model.load_state_dict(model.state_dict())
            self.loss.copy_(loss)


@dataclass(frozen=True)
class Learning:
    """How a model is fitted to rows.

    Args:
        batch_size: rows per step, half of them with side information.
        learning_rate: AdamW's, warmed up and annealed.
        label_weight: weight of a row's side information against its density (gamma, scaled by how rare it is).
        noise: standard deviation of what is added to y, in which each dimension has a deviation of 1.
        early_stopping: keep the state that reads a fifth of the side information, held out, best.
    """

    batch_size: int
    learning_rate: float
    label_weight: float
    noise: float
    early_stopping: bool

    def fit(
        self, model: Model, y: Tensor, targets: Tensor, held_out: Tensor, run: Run, phase: str, steps: int
    ) -> None:
        """Fit `model`, which is on the run's device.

        Args:
            model: changed in place.
            y, targets: ``(n, width)`` and ``(n, C)``.
            held_out: ``(n,)`` which rows with side information are not learned from, and decide when to stop.
            run: circumstances of the fit.
            phase, steps: what it is called, and how long it takes.
        """
        seen = (~targets.isnan()).any(1)
        enough = self.early_stopping and int((seen & held_out).sum()) >= _FEWEST_HELD_OUT
        held = (seen & held_out).nonzero()[:_MOST_HELD_OUT, 0] if enough else torch.zeros(0, dtype=torch.long)
        known = (seen & ~held_out if enough else seen).nonzero()[:, 0]
        count = len(held)
        best = _Best(model)
        trainer = Trainer(
            run,
            phase,
            networks={"model": model, "best": best},
            optimizers={"model": torch.optim.AdamW(model.parameters(), self.learning_rate, weight_decay=1e-2)},
            steps=steps,
            schedule=_one_cycle,
            clip=50.0,
        )
        device = run.device
        y, targets = y.double(), targets.double()
        held_y, held_targets = y[held].to(device), targets[held].to(device)
        if count:
            # What it knows already is not lost where learning on makes it worse.
            with torch.no_grad():
                best.see(model, model.readout.loss(model.code(held_y), held_targets))
        nothing = torch.full_like(targets[:1], torch.nan)
        half = max(1, min(self.batch_size // 2, len(known)))

        def step(batch: Batch) -> Mapping[str, Tensor]:
            generator = trainer.generator
            rows, wanted = y[cast(Tensor, batch.index).cpu()], nothing.expand(len(batch), -1)
            if len(known):
                chosen = known[torch.randint(len(known), (half,), generator=generator, device=device).cpu()]
                rows, wanted = torch.cat([rows[: self.batch_size - half], y[chosen]]), targets[chosen]
                wanted = torch.cat([nothing.expand(len(rows) - half, -1), wanted])
            rows = rows.to(device)
            noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=device)
            density, reading = model.terms(rows + self.noise * noise, wanted.to(device), generator)
            trainer.minimise(density.mean() + self.label_weight * reading, "model")
            found = {"density": density.mean(), "reading": reading}
            last = trainer.step_index + 1 >= steps
            if count and ((trainer.step_index + 1) % max(1, steps // _CHECKS) == 0 or last):
                with torch.no_grad():
                    found["held out"] = model.readout.loss(model.code(held_y), held_targets)
                best.see(model, found["held out"])
            return found

        trainer.fit(as_data(y.float()), step, batch_size=self.batch_size)
        if count:
            model.load_state_dict(best.model.state_dict())
        model.eval()


def hold_out(n: int, seed: int) -> Tensor:
    """Return which of n rows are held out, ``(n,)``, about a fifth of them.

    A row stays on its side for good: one that was learned from says nothing about when to stop.
    """
    return torch.rand(n, generator=torch.Generator().manual_seed(seed + _OFFSET)) < _HELD_OUT


def _one_cycle(done: float) -> float:
    """Rise over the first quarter of the steps and fall to a hundredth."""
    rise = min(1.0, (done + 1e-3) / 0.25)
    return rise if rise < 1 else 0.01 + 0.99 * (1 - done) / 0.75
