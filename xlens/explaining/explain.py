"""Explaining: from inputs and a question to explanations, batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from xlens.attr.memory import budget_faults
from xlens.attr.paths import CodePath
from xlens.classifier.margins import Classes
from xlens.contracts.numbers import plain
from xlens.counterfactual.carry import Carry
from xlens.errors import ModelError, UntrustworthyWarning, warn
from xlens.explaining.asking import Show, asks
from xlens.explaining.assembling import explain_batch
from xlens.explaining.distributed import gathered, join, rows_of
from xlens.explaining.memory import in_flight
from xlens.explaining.request import (
    References,
    Request,
    check_attributions,
    check_explain,
    lens_faults,
    named_carry,
)
from xlens.explaining.verdict import not_local
from xlens.explanation import Explanation
from xlens.fitted import BATCH, Fitted
from xlens.training.bar import Bar
from xlens.training.processes import processes

__all__ = ["counterfactual", "explain", "references_of"]


def explain(
    fitted: Fitted,
    inputs: Any,
    *,
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    carry: Carry | None = None,
    path: CodePath | str = "linear",
    n_steps: int = 16,
    tolerance: float = 0.01,
    references: Any = None,
    show: Show | None = None,
    internal_batch_size: int | None = None,
    memory_budget: int | None = None,
    rows: int = BATCH,
    progress: bool | None = False,
) -> Explanation:
    """Explain the classifier's decision on each input; arguments as for ``explainer.explain``.

    Beside those, `rows` is the most inputs that are explained before `progress`, a bar, moves on; None shows it on
    a terminal.
    """
    lens, carry = asks(fitted, show), named_carry(carry)
    wanted, faults = check_attributions(attributions)
    if (references is None) == ("ig_ensemble" in wanted):
        faults.append("attribution 'ig_ensemble' needs references= (real inputs), and nothing else takes them")
    faults += budget_faults(memory_budget) + lens.faults(wanted, carry, path) + lens_faults(fitted.lens, wanted)
    carry = check_explain(
        "explain",
        lens.masked,
        carry=carry,
        n_steps=n_steps,
        tolerance=tolerance,
        internal_batch_size=internal_batch_size,
        path=path,
        faults=faults,
    )
    n_steps, tolerance, internal_batch_size, memory_budget = plain(
        (n_steps, tolerance, internal_batch_size, memory_budget)
    )
    request = Request(wanted, n_steps, tolerance, path)
    with fitted.asking(), _gradient_needed():
        together = processes(fitted.device)
        # Running statistics of the classifier may differ between processes; each one's own are back afterwards.
        together.share_buffers(fitted.classifier.model)
        source = fitted.inputs(inputs)
        moved = source.to(fitted.device)
        through = lens.differentiates(request)
        batch, code_batch = in_flight(lens, moved, internal_batch_size, memory_budget, through)
        rows = min(batch, rows)
        target, contrast = fitted.classes(moved, target, contrast, rows)
        known = None if references is None else references_of(fitted, references, rows)
        request = dataclasses.replace(request, batch=batch, code_batch=code_batch, references=known)
        own = rows_of(together, len(moved)).to(moved.device)
        parts = []
        with Bar(desc="explain", unit="input", total=len(own), disable=_hidden(progress)) as bar:
            for x, t, c in zip(*(part[own].split(rows) for part in (moved, target, contrast)), strict=True):
                parts.append(explain_batch(lens, x, t, c, carry, request))
                bar.update(len(x))
        explanation = gathered(together, len(moved), join(parts)).to(source.device)
    if together.writes:
        _warn(explanation)
    return explanation


@contextmanager
def _gradient_needed() -> Iterator[None]:
    """Say in words that no gradient came through: ``fit`` asks for one, and ``load`` has no inputs to ask with."""
    try:
        yield
    except RuntimeError as fault:
        if "does not require grad" not in str(fault):
            raise
        raise ModelError(
            "explain: no gradient of the classifier reaches its inputs, and attributions are made of it",
            given=str(fault).splitlines()[0],
            do="pass the model as it was trained, without torch.no_grad(), torch.inference_mode() or .detach() in "
            "its forward pass; explainer.counterfactual(inputs) needs no gradient",
        ) from fault


def counterfactual(
    fitted: Fitted,
    inputs: Any,
    *,
    target: Classes | None = None,
    contrast: Classes | None = None,
    carry: Carry | None = None,
    show: Show | None = None,
) -> Tensor:
    """Return each input without its evidence, ``(N, *S)``; arguments as for ``explainer.counterfactual``."""
    lens, carry = asks(fitted, show, "counterfactual"), named_carry(carry)
    faults = lens.faults({}, carry, "linear")
    carry = check_explain("counterfactual", lens.masked, carry=carry, faults=faults)
    with fitted.asking():
        source = fitted.inputs(inputs)
        moved = source.to(fitted.device)
        target, contrast = fitted.classes(moved, target, contrast, method="counterfactual")
        rows = zip(*(part.split(BATCH) for part in (moved, target, contrast)), strict=True)
        parts = [lens.carry(x, t, c, carry).start for x, t, c in rows]
    return torch.cat(parts).to(source.device)


def references_of(fitted: Fitted, references: Any, batch: int = BATCH) -> References:
    """Return real inputs to explain against, with the classifier's predictions, within ``fitted.asking()``."""
    real = fitted.inputs(references).to(fitted.device)
    return References(real, torch.cat([fitted.classifier(part).argmax(1) for part in real.split(batch)]))


def _hidden(progress: bool | None) -> bool | None:
    """Return what tqdm takes for it: None hides a bar where there is no terminal."""
    return None if progress is None else not progress


def _warn(explanation: Explanation) -> None:
    """Say where edits are not local, and where explanations do not hold."""
    if explanation.mask is not None and bool(wide := not_local(explanation.fidelity, explanation.mask).sum()):
        warn(
            f"{int(wide)} of {len(explanation)} edits are not local: the mask lets most of the lens's change "
            "through (fidelity.coverage). Look at the whole decoding, explain(..., carry='none')."
        )
    failed = [i for i, held in enumerate(explanation.trustworthy.tolist()) if not held]
    if failed:
        first = "; ".join(explanation.problems[failed[0]])
        warn(
            f"{len(failed)} of {len(explanation)} explanations do not hold (input {failed[0]}: {first}). "
            "See explanation.problems and explanation.fidelity.",
            UntrustworthyWarning,
        )
