"""One training loop for every backend: resumable, interruptible, watched for NaN."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from xlens.classifier.turns import give_way, out_of_turn
from xlens.contracts.backend import Run, StepEvent
from xlens.data import Batch, Data
from xlens.errors import StorageError, TrainingError, XlensWarning
from xlens.files.plain import said
from xlens.training.bar import Bar
from xlens.training.checkpoint import all_finite, clone, read_file, write_file
from xlens.training.interruption import stops_deferred
from xlens.training.processes import processes
from xlens.training.stream import BatchStream
from xlens.training.timing import StepWatch
from xlens.training.warm_start import begin_from

__all__ = ["Trainer"]

_KIND = "an xlens checkpoint"
_SNAPSHOT_EVERY = 50
_MOST_ROLLBACKS = 3


class Trainer:
    """Training loop: several networks with several optimisers on one stream of batches, resumable and seeded.

    The step function decides what is computed; the trainer brings batches, schedules the learning
    rates, averages weights, reports events, writes checkpoints, and goes back to the last good state
    when a loss is not finite.

    Where the program was launched as several processes, the step function sees this process's share of each batch.
    Gradients and buffers are averaged over the processes, and the first of them writes. A loss that
    compares inputs of a batch with each other then compares those of one share. Random numbers come from
    `generator`, which differs between processes, and every process has to call `minimise` equally often.

    Args:
        run: circumstances of the fit.
        phase: name of this stage of the fit; names its checkpoint and its progress bar.
        networks: name -> module; moved to the run's device. What is part of the lens is named as in the lens: where
            the run starts from an earlier one, it begins with the weights that the network of that name had.
        optimizers: name -> optimiser over those modules' parameters.
        steps: number of steps.
        schedule: maps the share of steps done, 0 to 1, to a factor on every learning rate.
        ema: name -> decay, for networks whose weights are averaged exponentially.
        clip: largest gradient norm per optimiser, or None.
        checkpoint_every: steps between checkpoints, when the run has an output_dir. The first come earlier, after
            1, 2, 4, ... steps: whatever stops a fit, it loses no more than as many steps as it keeps.
    """

    def __init__(
        self,
        run: Run,
        phase: str,
        *,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        steps: int,
        schedule: Callable[[float], float] = lambda done: 1.0,
        ema: Mapping[str, float] | None = None,
        clip: float | None = None,
        checkpoint_every: int = 200,
    ) -> None:
        self.run, self.phase, self.steps, self.schedule, self.clip = run, phase, steps, schedule, clip
        self.checkpoint_every = checkpoint_every
        self.processes = processes(run.device)
        if run.start_from is not None:
            begin_from(networks, run.start_from.lens, phase)
        self.networks = {name: network.to(run.device) for name, network in networks.items()}
        self.optimizers = dict(optimizers)
        self.processes.begin_alike(list(self.networks.values()))
        self._averages = {name: _average(networks[name], decay) for name, decay in (ema or {}).items()}
        self._base_rates = {n: [g["lr"] for g in o.param_groups] for n, o in self.optimizers.items()}
        self._rate_factor = 1.0
        self._rollbacks = 0
        self._between_steps = True
        self._weight = 1.0
        self.step_index = 0
        self.generator = torch.Generator(run.device).manual_seed(run.seed)

    def averaged(self, name: str) -> nn.Module:
        """Return the exponentially averaged copy of that network."""
        return self._averages[name].module

    def minimise(self, loss: Tensor, *optimizers: str) -> None:
        """Take one step down `loss` with the named optimisers."""
        for name in optimizers:
            self.optimizers[name].zero_grad(set_to_none=True)
        with torch.autocast(self.run.device.type, enabled=False):
            loss.backward()
        for name in optimizers:
            parameters = [p for group in self.optimizers[name].param_groups for p in group["params"]]
            self.processes.add_gradients(parameters, self._weight)
            if self.clip is not None:
                nn.utils.clip_grad_norm_(parameters, self.clip)
            self.optimizers[name].step()

    def fit(
        self,
        data: Data,
        step: Callable[[Batch], Mapping[str, Tensor]],
        *,
        batch_size: int,
        strata: Tensor | None = None,
    ) -> None:
        """Run all steps.

        Args:
            data: gone through again and again, shuffled where the data allow.
            step: computes one step on a batch and returns the losses to report.
            batch_size: inputs per step, of all processes together.
            strata: ``(n,)`` the class of each input, where every batch should hold each in its share; indexed
                data only.

        Raises:
            TrainingError: losses were not finite again and again, also at lower learning rates.
            KeyboardInterrupt: Ctrl-C, after the step in hand is finished and a checkpoint is written.
            SystemExit: SIGTERM, likewise, unless the program's own handler for it raises something else.
        """
        stream = BatchStream(data, batch_size, self.run.seed, strata, self.processes)
        if self.processes.index:
            # Every process draws noise of its own, also where the backend has seeded the generator.
            self.generator.manual_seed(self.generator.initial_seed() + 1_000_003 * self.processes.index)
        if self.run.resume:
            self._resume(stream)
        good = clone(self._state())
        bar = Bar(
            total=self.steps,
            initial=self.step_index,
            desc=self.phase,
            disable=None if self.run.progress is None else not self.run.progress,
        )
        watch = StepWatch(self.run.timed, self.phase, self.steps - self.step_index)
        with bar, stops_deferred() as stop:
            try:
                while self.step_index < self.steps:
                    # Other threads may be waiting to explain.
                    give_way()
                    with watch.step():
                        losses = self._one_step(stream, step)
                        finite, interrupted = self._agreed(losses, stop.asked)
                    last = self.step_index == self.steps
                    if self.step_index % _SNAPSHOT_EVERY == 0 or last or not finite:
                        if finite and all_finite(self._weights()):
                            good = clone(self._state())
                        else:
                            self._roll_back(good, losses)
                            bar.n = self.step_index
                            continue
                    self._report(bar, losses)
                    if last or self._checkpoint_is_due():
                        self._save(stream)
                    if interrupted:
                        stop.leave()
            except (KeyboardInterrupt, SystemExit):
                # Raised inside a step, it leaves half a step's changes, which are not worth keeping.
                if self._between_steps and all_finite(self._weights()):
                    self._save(stream)
                raise

    def _one_step(self, stream: BatchStream, step: Callable[[Batch], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        factor = self._rate_factor * self.schedule(self.step_index / max(self.steps, 1))
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._base_rates[name], strict=True):
                group["lr"] = rate * factor
        for network in self.networks.values():
            network.train()
        self._between_steps = False
        batch = stream.next().to(self.run.device)
        self._weight = stream.weight
        reduced = self.run.mixed_precision == "bf16"
        with torch.autocast(self.run.device.type, torch.bfloat16, enabled=reduced):
            losses = step(batch)
        self.processes.average_buffers(list(self.networks.values()))
        for name, average in self._averages.items():
            average.update_parameters(self.networks[name])
        self.step_index += 1
        if self.run.alongside is not None:
            self.run.alongside.after_step()
        self._between_steps = True
        return {name: loss.detach() for name, loss in losses.items()}

    def _checkpoint_is_due(self) -> bool:
        step = self.step_index
        return step % self.checkpoint_every == 0 or (step < self.checkpoint_every and step & (step - 1) == 0)

    def _agreed(self, losses: dict[str, Tensor], pressed: bool) -> tuple[bool, bool]:
        """Return whether the losses of all processes are finite, and whether any of them is to stop.

        The losses themselves are not exchanged: a share need not have all of them.
        """
        facts = [torch.tensor(float(fact)) for fact in (not all_finite(losses), pressed)]
        bad, presses = self.processes.add(facts)
        return not bool(bad), bool(presses)

    def _report(self, bar: Bar, losses: Mapping[str, Tensor]) -> None:
        bar.update(1)
        if self.run.on_step is None and (bar.disable or self.step_index % 10):
            return
        plain = {name: float(loss) for name, loss in losses.items()}
        told = {name: f"{value:.3g}" for name, value in plain.items()}
        if self.run.passes is not None:
            told["classifier"] = str(self.run.passes)
        bar.set_postfix(told, refresh=False)
        if self.run.on_step is not None:
            # It may start a thread that asks something about the same classifier, and wait for it.
            with out_of_turn():
                self.run.on_step(StepEvent(self.phase, self.step_index, self.steps, plain))

    def _roll_back(self, good: dict[str, Any], losses: Mapping[str, Tensor]) -> None:
        self._rollbacks += 1
        bad = [name for name, loss in losses.items() if not all_finite(loss)] or ["a weight"]
        if self.processes.count > 1 and bad == ["a weight"]:
            bad = ["a weight, or another process's loss,"]
        if self._rollbacks > _MOST_ROLLBACKS:
            raise TrainingError(
                f"fit: {', '.join(bad)} was not finite after {_MOST_ROLLBACKS} roll-backs",
                given=f"phase {self.phase!r}, step {self.step_index}",
                do="lower the backend's learning rates, or check the range of inputs and logits",
            )
        rollbacks, factor = self._rollbacks, self._rate_factor / 2
        failed = self.step_index
        # The generator is not wound back: the same noise would lead to the same failure.
        noise = self.generator.get_state()
        self._load(clone(good))
        self.generator.set_state(noise)
        self._rollbacks, self._rate_factor = rollbacks, factor
        warnings.warn(
            f"fit: {', '.join(bad)} was not finite at step {failed} of {self.phase!r}; went back to step "
            f"{self.step_index} and halved the learning rates",
            XlensWarning,
            stacklevel=4,
        )

    def _weights(self) -> dict[str, Any]:
        return {name: network.state_dict() for name, network in self.networks.items()}

    def _state(self) -> dict[str, Any]:
        return {
            "networks": self._weights(),
            "averages": {name: average.state_dict() for name, average in self._averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.generator.get_state(),
            "step": self.step_index,
            "rate_factor": self._rate_factor,
            "rollbacks": self._rollbacks,
        }

    def _load(self, state: dict[str, Any]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, average in self._averages.items():
            average.load_state_dict(state["averages"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"])
        self.step_index = state["step"]
        self._rate_factor = state["rate_factor"]
        self._rollbacks = state["rollbacks"]

    def _path(self) -> Path | None:
        return None if self.run.output_dir is None else self.run.output_dir / f"{self.phase}.checkpoint"

    def _save(self, stream: BatchStream) -> None:
        path = self._path()
        if path is None:
            return
        generators = self.processes.gather(self.generator.get_state())
        with self.processes.jointly("fit: writing a checkpoint", StorageError):
            if self.processes.writes:
                self._write(path, stream, generators)

    def _write(self, path: Path, stream: BatchStream, generators: list[Tensor]) -> None:
        rng = {
            "torch": torch.get_rng_state(),
            "numpy": _numpy_state(),
            "python": list(random.getstate()[1]),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }
        tree = {**self._state(), "stream": stream.state(), "rng": rng, "identity": self.run.identity}
        tree["generators"] = generators
        if self.run.alongside is not None:
            tree["alongside"] = self.run.alongside.state()
        write_file(path, _KIND, tree)

    def _resume(self, stream: BatchStream) -> None:
        path = self._path()
        if path is None:
            return
        with self.processes.jointly("fit: reading a checkpoint", StorageError):
            tree = self._read(path) if path.exists() else None
        self._check_step(path, tree)
        if tree is None:
            return
        try:
            self._load({**tree, "generator": tree["generators"][self.processes.index]})
            stream.load(tree["stream"])
            if self.run.alongside is not None:
                self.run.alongside.load(tree["alongside"])
            _load_generators(tree["rng"])
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as fault:
            raise StorageError(
                f"fit: the checkpoint {path.name!r} does not fit what is trained",
                given=said(fault),
                do="choose another output_dir, or resume=False",
            ) from fault

    def _check_step(self, path: Path, tree: dict[str, Any] | None) -> None:
        """Refuse to go on where the processes would begin at different steps, and wait for each other for ever."""
        own = torch.tensor([-1 if tree is None else tree["step"]])
        steps = [int(step) for step in self.processes.gather(own)]
        if len(set(steps)) > 1:
            raise StorageError(
                f"fit: the processes do not find the same checkpoint {path.name!r}",
                given=", ".join(
                    f"process {i}: {'none' if step < 0 else f'step {step}'}" for i, step in enumerate(steps)
                ),
                do="choose an output_dir that all of them see, as on a shared disk, or resume=False",
            )

    def _read(self, path: Path) -> dict[str, Any]:
        tree = read_file(path, _KIND)
        # A checkpoint of an earlier version has none: it is refused like one of another run.
        if not isinstance(tree, dict) or not {"identity", "step"} <= tree.keys() or not _is_step(tree["step"]):
            raise StorageError(
                f"fit: the checkpoint {path.name!r} has parts of the wrong kind",
                do="choose another output_dir, or resume=False",
            )
        if tree["identity"] != self.run.identity or not isinstance(tree.get("generators"), list):
            raise StorageError(
                f"fit: the checkpoint {path.name!r} belongs to another run",
                given="another classifier, other data, options or seed",
                do="pass what the interrupted run was given, choose another output_dir, or resume=False",
            )
        generators = tree["generators"]
        if len(generators) != self.processes.count:
            raise StorageError(
                f"fit: the checkpoint {path.name!r} is of another number of processes",
                given=self.processes.count,
                allowed=len(generators),
                do="launch as many processes as before, or resume=False",
            )
        return tree


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _load_generators(states: Mapping[str, Any]) -> None:
    """Give the process's random generators the states that a checkpoint kept."""
    torch.set_rng_state(states["torch"])
    keys, position = states["numpy"]
    state = {"key": keys.to(torch.int64).numpy().astype(np.uint32), "pos": position}
    np.random.set_state({"bit_generator": "MT19937", "state": state})
    random.setstate((3, tuple(states["python"]), None))
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def _numpy_state() -> list[Any]:
    state = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    return [torch.from_numpy(state[1].astype(np.int64)), int(state[2])]


def _average(network: nn.Module, decay: float) -> AveragedModel:
    def update(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        # Short runs would otherwise still average over their first, untrained weights.
        warmed = min(decay, (1 + float(count)) / (10 + float(count)))
        return average.lerp(current.to(average.dtype), 1 - warmed)

    return AveragedModel(network, avg_fn=update, use_buffers=True)
