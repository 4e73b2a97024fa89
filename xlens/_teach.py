"""The part of an explainer that learns from people: what to ask about next, and learning from the answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from xlens._arguments import check_count, check_seed, side_info_table
from xlens.classifier import Classifier
from xlens.contracts import Lens, Run, Spec, StepEvent
from xlens.data import as_inputs
from xlens.errors import DataError, OptionError, did_you_mean
from xlens.training.processes import process_state_restored

__all__ = ["STRATEGIES", "Strategy", "Teaching"]

Strategy = Literal["mutual_information", "max_entropy", "random"]
STRATEGIES: tuple[str, ...] = Strategy.__args__
_BATCH = 256


class Teaching:
    """Mixed into the explainer, which brings everything that is only declared here."""

    classifier: Classifier
    lens: Lens
    spec: Spec
    device: torch.device
    _asking: Callable[[], AbstractContextManager[None]]
    _require: Callable[[str], None]
    _generator: Callable[[int], torch.Generator]

    def query(self, pool: Any, n: int, strategy: Strategy = "random", *, seed: int = 0) -> Tensor:
        """Return which inputs of a pool a person should be asked about next, ``(n,)`` positions, the first first.

        Args:
            pool: ``(M, *S)`` inputs of which the side information is not known.
            n: how many to ask about; all of the pool if it is smaller.
            strategy: ``"mutual_information"`` of the answer and what the lens has to learn (BALD),
                ``"max_entropy"`` of the answer, or ``"random"``.
            seed: seeds what is drawn.

        Raises:
            UnsupportedError: this lens cannot be taught.
            OptionError: an unknown strategy, or a number out of range.
        """
        self._require("teach")
        check_count("query", n)
        if strategy not in STRATEGIES:
            raise OptionError(
                f"query: unknown strategy {strategy!r}.{did_you_mean(str(strategy), STRATEGIES)}",
                allowed=", ".join(STRATEGIES),
            )
        with self._asking():
            inputs = as_inputs(pool, self.spec.shape)
            generator = self._generator(seed)
            if strategy == "random":
                return torch.randperm(len(inputs), generator=generator, device=self.device)[:n].cpu()
            parts = [
                self.lens.informativeness(part.to(self.device), strategy, generator)
                for part in inputs.split(_BATCH)
            ]
            return torch.cat(parts).argsort(descending=True, stable=True)[:n].cpu()

    def teach(
        self,
        inputs: Any,
        side_info: Any,
        *,
        seed: int = 0,
        on_step: Callable[[StepEvent], None] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Learn from more side information, going on from the current state. The lens itself changes.

        After Ctrl-C the lens has learned a part of it; call this again, or load what was saved.

        Args:
            inputs: ``(N, *S)``.
            side_info: ``(N, A)`` in the columns that `fit` was given, NaN where not observed.
            seed: seeds everything random.
            on_step: called with a :class:`xlens.StepEvent` after each step.
            progress: show a progress bar; None shows it on a terminal.

        Raises:
            UnsupportedError: this lens cannot be taught.
            DataError: inputs or side information do not fit.
        """
        self._require("teach")
        check_seed(seed)
        source = as_inputs(inputs, self.spec.shape).to(self.device)
        table = side_info_table("teach", side_info)
        if table.dim() != 2 or len(table) != len(source) or bool(table.isinf().any()):
            raise DataError(
                "teach: side_info does not fit the inputs",
                given=tuple(table.shape),
                allowed=f"({len(source)}, A), finite, NaN where not observed",
            )
        run = Run(seed=seed, device=self.device, spec=self.spec, on_step=on_step, progress=progress)
        with torch.inference_mode(False), torch.enable_grad(), process_state_restored():
            with self.classifier.frozen(seed=seed):
                self.lens.teach(source, table, run)
        self.lens.eval().requires_grad_(False)
