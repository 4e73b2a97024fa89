"""The bench: one candidate, its fits and their results, each made once and only when a check asks."""

from __future__ import annotations

import contextlib
import functools
import signal
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.contracts.backend import Backend, Run, StepEvent
from xlens.contracts.lens import EditingLens, Lens
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import as_data
from xlens.errors import XlensError, XlensWarning
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.fitted import Fitted
from xlens.testing.candidate import Candidate
from xlens.testing.checking import Check, CheckFailedError, NotCheckedError, Result
from xlens.testing.state import model_state, process_state
from xlens.testing.world import World
from xlens.training.processes import process_state_restored
from xlens.training.survey import survey

__all__ = ["Bench", "FitRecord", "Learned"]

#: Not 0, with which everything is seeded when a lens is loaded: what is random and not saved has to show.
_SEED = 1
#: Training steps of the mask over a lens that has learned, where the candidate does not say.
_MASK_STEPS = 120

#: What has learned the toy world: class, options, shape and layer -> the explainer.
Learned = dict[tuple[type[Backend], str, tuple[int, ...], str | None], LensExplainer]


@dataclass(frozen=True)
class FitRecord:
    """One fit, and what was seen of it.

    Args:
        lens: the fitted lens, in eval mode.
        explainer: asks it, without a mask.
        events: the step events.
        optimizer_steps: the most steps that one optimiser took up to each event, and after the last.
        model_before, model_after: the classifier's state around ``fit``, before the core restores it.
        process_before, process_after: the state of the process around all of it.
    """

    lens: Lens
    explainer: LensExplainer
    events: tuple[StepEvent, ...]
    optimizer_steps: tuple[int, ...]
    model_before: dict[str, Any]
    model_after: dict[str, Any]
    process_before: dict[str, Any]
    process_after: dict[str, Any]


class Bench:
    """Fits one candidate in the toy world and answers checks about it.

    Args:
        candidate: what is checked.
        expected: ids of checks that it may fail; what needs them is asked all the same.
        learned: fits that are shared with the benches of other candidates. Never beyond one run of the kit: a
            backend may depend on more than its options.
    """

    def __init__(
        self, candidate: Candidate, *, expected: Collection[str] = (), learned: Learned | None = None
    ) -> None:
        self.candidate = candidate
        self.backend = candidate.backend
        self._expected = frozenset(expected)
        self._learned: Learned = {} if learned is None else learned
        self._results: dict[str, Result] = {}

    @functools.cached_property
    def world(self) -> World:
        """The pictures and their classifier."""
        return World.of(self.candidate.shape)

    @functools.cached_property
    def classifier(self) -> Classifier:
        """A classifier of this bench's own."""
        return Classifier(self.world.model(), layer=self.candidate.layer)

    @functools.cached_property
    def inputs(self) -> Tensor:
        """Six held-out pictures ``(6, *S)``, two of each class."""
        return self.world.held_out[:6]

    @functools.cached_property
    def base(self) -> FitRecord:
        """The candidate, fitted as it stands."""
        return self.fit()

    @functools.cached_property
    def again(self) -> FitRecord:
        """The same once more, begun from another state of the global random numbers."""
        torch.rand(7)
        return self.fit()

    @functools.cached_property
    def learned(self) -> LensExplainer:
        """The instance that should have learned the toy world, fitted by ``xlens.fit`` with its mask."""
        backend = self.candidate.learned or self.backend
        key = type(backend), repr(backend), self.candidate.shape, self.candidate.layer
        if key not in self._learned:
            classifier = Classifier(self.world.model(), layer=self.candidate.layer)
            with quiet():
                wants = self.base.lens.masked and classifier.layer is None
                mask = self.candidate.mask or (MaskOptions(steps=_MASK_STEPS) if wants else None)
                self._learned[key] = fit(classifier, self.world.inputs.clone(), backend, mask=mask, progress=False)
        return self._learned[key]

    @functools.cached_property
    def explanation(self) -> Explanation:
        """The learned lens's explanation of all held-out pictures, toward both other classes in turn."""
        inputs = self.world.held_out.clone()
        with torch.no_grad(), self.learned.classifier.frozen(seed=0):
            target = self.learned.classifier(inputs).argmax(1)
        # The pictures' classes go round, so every pair of classes comes as often.
        other = torch.arange(len(inputs)) // 3 % 2
        with quiet():
            return self.learned.explain(inputs, contrast=(target + 1 + other) % 3, n_steps=8, tolerance=0.05)

    def fit(
        self,
        data: Any = None,
        *,
        on_step: Callable[[StepEvent], None] | None = None,
        output_dir: Path | None = None,
        resume: bool = False,
        side_info: Tensor | None = None,
        over: LensExplainer | None = None,
        start_from: LensExplainer | None = None,
    ) -> FitRecord:
        """Fit the candidate as ``xlens.fit`` does, but for the mask, which is none of its business."""
        events: list[StepEvent] = []
        taken: list[int] = []
        since: Counter[Optimizer] = Counter()

        def close() -> None:
            taken.append(max(since.values(), default=0))
            since.clear()

        def see(event: StepEvent) -> None:
            events.append(event)
            close()
            if on_step is not None:
                on_step(event)

        def count(optimizer: Optimizer, *_: Any) -> None:
            since[optimizer] += 1

        classifier = self.classifier
        source = as_data(self.world.inputs.clone() if data is None else data)
        process_before = process_state()
        hook = register_optimizer_step_post_hook(count)
        try:
            with quiet(), torch.inference_mode(False), torch.enable_grad(), process_state_restored():
                with classifier.frozen(seed=_SEED):
                    found = survey(classifier, source, progress=False)
                    run = Run(
                        seed=_SEED,
                        device=classifier.device,
                        spec=found.spec,
                        logits=found.logits,
                        side_info=side_info,
                        over=over,
                        start_from=start_from,
                        output_dir=output_dir,
                        resume=resume,
                        on_step=see,
                        progress=False,
                        identity="xlens.testing",
                    )
                    model_before = model_state(classifier.model)
                    lens = self.backend.fit(classifier, source, run)
                    model_after = model_state(classifier.model)
                    if not isinstance(lens, Lens):
                        raise CheckFailedError(
                            f"{self.backend.name}: fit returned no lens",
                            given=type(lens).__name__,
                            allowed="an instance of a subclass of xlens.Lens",
                        )
                    lens.eval().requires_grad_(False)
        finally:
            hook.remove()
        close()
        explainer = LensExplainer(Fitted(classifier, lens, run.spec, None, self.backend, {"seed": _SEED}))
        return FitRecord(
            lens,
            explainer,
            tuple(events),
            tuple(taken),
            model_before,
            model_after,
            process_before,
            process_state(),
        )

    @contextlib.contextmanager
    def asking(self) -> Iterator[Lens]:
        """Within this context the lens may be asked, as the explainer asks it; arguments have to be copies."""
        lens = self.base.lens
        with quiet(), torch.inference_mode(False), torch.no_grad(), self.classifier.frozen(seed=0):
            yield lens

    def decoded(self, lens: Lens, codes: Tensor) -> Tensor:
        """Return what codes ``(n, d)`` decode to: of a lens that edits inputs, the first n inputs, so edited."""
        if not isinstance(lens, EditingLens):
            return lens.decode(codes)
        inputs = self.inputs[: len(codes)].clone()
        zero = torch.zeros(len(codes), dtype=torch.long, device=codes.device)
        local = lens.edit(inputs, zero + 1, zero)
        amount = ((1 - codes)[:, :, None, None] * local.parts).sum(1, keepdim=True)
        return inputs + amount * (local.filled - inputs)

    def decoded_shape(self, lens: Lens) -> tuple[int, ...]:
        """Return the shape of one decoding: of an input, or of the hidden layer's activations."""
        if lens.decodes_to != "layer":
            return self.candidate.shape
        return tuple(self.classifier.activations(self.inputs[:1].clone()).shape[1:])

    def logits(self, lens: Lens, codes: Tensor) -> Tensor:
        """Return what the classifier says of what codes decode to."""
        decoded = self.decoded(lens, codes)
        if lens.decodes_to != "layer":
            return self.classifier(decoded)
        return self.classifier.tail(decoded, self.inputs[:1].expand(len(codes), *self.candidate.shape))

    def codes(self) -> Tensor:
        """Return the codes ``(6, d)`` of :attr:`inputs`."""
        with self.asking() as lens:
            return lens.encode(self.inputs.clone())

    def explain(self, explainer: LensExplainer) -> Explanation:
        """Explain :attr:`inputs` at little expense."""
        with quiet():
            return explainer.explain(self.inputs.clone(), n_steps=4, tolerance=0.5)

    def result(self, check: Check) -> Result:
        """Return what came of a check, which runs once; expected failures count as failures here."""
        if check.id not in self._results:
            self._results[check.id] = self._run(check)
        return self._results[check.id]

    def _run(self, check: Check) -> Result:
        for needed in check.needs:
            found = self.result(needed)
            excused = found.status == "failed" and needed.id in self._expected
            if found.status != "passed" and not excused:
                return Result(check.id, "not checked", f"needs {needed.id}, which is: {found.status}")
        try:
            check.function(self)
        except CheckFailedError as fault:
            return Result(check.id, "failed", str(fault))
        except NotCheckedError as reason:
            return Result(check.id, "not checked", str(reason))
        except Exception as fault:  # noqa: BLE001 - whatever a backend raises is a result
            wanted = "the message says what" if isinstance(fault, XlensError) else "repair what raised it"
            error = CheckFailedError(
                f"{self.backend.name}: an exception in the check {check.id}",
                given=f"{type(fault).__name__}: {fault}{_place(fault)}",
                do=wanted,
            )
            return Result(check.id, "failed", str(error))
        return Result(check.id, "passed")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this context xlens's own warnings are not shown: lenses that have learned little give many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        yield


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield what acts as Ctrl-C, whatever the program does with it otherwise."""

    def press() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        else:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield press
        return
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield press
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _place(fault: BaseException) -> str:
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
