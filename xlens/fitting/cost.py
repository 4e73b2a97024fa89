"""What a fit will cost in seconds and memory, said when its first steps are timed; and advice on a long one."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.quiet import quiet
from xlens.classifier.turns import seeded
from xlens.codec.training import CODEC_PHASE
from xlens.contracts.backend import Backend, Run
from xlens.contracts.lens import Lens
from xlens.counterfactual.fit_mask import MASK_PHASE, MaskCost, cost_of_mask, wants_mask
from xlens.counterfactual.mask_options import MaskOptions
from xlens.fitted import Fitted
from xlens.fitting.saying import say
from xlens.registry.loading import offering
from xlens.training.processes import alone

__all__ = ["Cost", "with_cost"]

#: Seconds from which on there is advice.
_LONG = 600
#: Options that make a fit shorter when they are lowered: of steps, of the network, and of inputs a step.
_FEWER, _SMALLER, _LESS = ("steps",), ("hidden", "width", "layers"), ("batch_size",)


def with_cost(
    backend: Backend,
    classifier: Classifier,
    run: Run,
    sample: Tensor,
    begin: Fitted | None,
    options: MaskOptions | None,
    masked: bool = True,
    build: Callable[[], Lens] | None = None,
) -> Run:
    """Return the circumstances of a fit that says what it will cost; the same where nobody is to be told.

    Args:
        backend: what is fitted.
        classifier: the frozen classifier.
        run: circumstances of the fit.
        sample: some of the data.
        begin: the record that the fit begins with.
        options: how the mask will be fitted.
        masked: whether the lens may get one; on a hidden layer it gets none.
        build: makes a lens like the one to come, where the backend alone does not: behind an autoencoder.
    """
    if run.progress is False:
        return run
    if not masked:
        return dataclasses.replace(run, timed=Cost(backend, run, None))

    def blank() -> Lens:
        below = {} if run.over is None else {"over": run.over.lens}
        return backend.build(classifier, run.spec, **below)

    warm = begin is not None and begin.mask is not None
    mask = _mask(build or blank, classifier, run, sample, warm, options)
    return dataclasses.replace(run, timed=Cost(backend, run, mask))


def _mask(
    build: Callable[[], Lens],
    classifier: Classifier,
    run: Run,
    sample: Tensor,
    warm: bool,
    options: MaskOptions | None,
) -> MaskCost | str | None:
    """Return what the mask will take, None where there will be none, or in words why that is not known.

    Nothing of it is seen by the fit: networks and random numbers are its own.
    """
    if not run.spec.is_image:
        return None
    # Other processes fit without asking, so nothing may be exchanged with them.
    with alone(), seeded(run.seed), quiet():
        try:
            lens = build().to(run.device, torch.float32)
            if not wants_mask(lens, run.spec, options):
                return None
            return cost_of_mask(classifier, lens.eval(), run, sample, warm, options)
        except Exception as fault:  # noqa: BLE001 - a plugin's own code, on a lens that is not trained
            return f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0]}"


class Cost:
    """Says what a fit will cost, when the first steps of a training are timed.

    On a terminal it is printed, as the progress bar is; elsewhere it is logged under ``xlens``, as a warning where
    it comes with advice.

    Args:
        backend: what is fitted.
        run: circumstances of the fit.
        mask: what the mask will take; None where there will be none, or in words why that is not known.

    Attributes:
        seconds: what has been foreseen so far.
    """

    def __init__(self, backend: Backend, run: Run, mask: MaskCost | str | None) -> None:
        self._backend, self._run, self._mask = backend, run, mask
        self._foreseen = isinstance(mask, MaskCost)
        self.seconds = 0.0

    def __call__(self, phase: str, steps: int, step: float) -> None:
        """Say what a training of so many steps takes; the mask is said with the first."""
        if phase == MASK_PHASE and self._foreseen:
            return
        parts, seconds = [f"{phase} {steps:,} steps of {_time(step)}"], steps * step
        if isinstance(self._mask, MaskCost):
            mask = self._mask
            seconds += mask.steps * mask.step + mask.pool
            parts.append(f"mask {mask.steps:,} steps of {_time(mask.step)}")
            parts.append(f"{_time(mask.pool)} to encode")
        elif self._mask is not None and not self.seconds:
            parts.append(f"and a mask, of which it is not known ({self._mask})")
        if phase == CODEC_PHASE:
            parts.append(f"and then {self._backend.name}, of which it is said when its steps are timed")
        self.seconds += seconds
        long = seconds > _LONG
        said = f"fit: about {_time(seconds)} ({', '.join(parts)}); memory {self._memory()}."
        self._mask = None
        text = f"{said} {self._advice()}" if long else said
        say(text, self._run.progress, logging.WARNING if long else logging.INFO)

    def _memory(self) -> str:
        kept = self._mask.bytes if isinstance(self._mask, MaskCost) else 0
        main = _peak_of_process()
        said = "not known" if main is None else f"up to {_size(main + kept)}"
        if self._run.device.type != "cuda":
            return said
        # As high as it has been in this process: to count from here on would forget what the program counts.
        return f"up to {_size(torch.cuda.max_memory_allocated(self._run.device))} on the GPU, and {said} beside it"

    def _advice(self) -> str:
        own = {field.name: getattr(self._backend, field.name) for field in dataclasses.fields(self._backend)}

        def now(names: tuple[str, ...]) -> str:
            return ", ".join(f"{name}={own[name]}" for name in names if name in own)

        ways = []
        if said := now(_FEWER):
            ways.append(f"fewer steps (now {said})")
        if said := now(_SMALLER):
            ways.append(f"a smaller network (now {said})")
        if said := now(_LESS):
            ways.append(f"fewer inputs a step (now {said})")
        ways.append("a part of the data, or smaller inputs")
        if self._run.device.type == "cpu" and torch.cuda.is_available():
            ways.append("the GPU (device='cuda')")
        if self._run.spec.is_image and (names := offering("edits")) and self._backend.name not in names:
            ways.append(f"for evidence in one place, {' or '.join(map(repr, names))}, which trains nothing")
        return f"Can it be less? {'; '.join(ways)}."


def _peak_of_process() -> int | None:
    """Return the most bytes of main memory that this process has had; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    # In kilobytes, but for macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
