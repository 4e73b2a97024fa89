"""Faults at random moments, and a small world in which everything that xlens does is done in milliseconds."""

from __future__ import annotations

import ctypes
import functools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import xlens
from xlens import Classifier
from xlens.testing.state import differing, model_state, process_state
from xlens.testing.world import pictures, trained_cnn

__all__ = ["Faulty", "World", "alarm", "changed_by", "moments", "same_explanation", "sent_after", "world_of_tests"]


class World:
    """A messy model with a fitted lens around it, and questions to ask."""

    def __init__(self, *, large: bool = False, seed: int = 0) -> None:
        self.model = trained_cnn()
        if large:
            self.model = Heavy(self.model)
        self.inputs = pictures(64, seed=1)[0]
        self.explainer = xlens.fit(
            self.model, self.inputs, "svae", steps=4, seed=seed, mask=xlens.MaskOptions(steps=2), progress=False
        )
        self.plain = self.predictions()

    def predictions(self) -> torch.Tensor:
        """Return what the model says in eval mode."""
        with torch.no_grad(), Classifier(self.model).frozen():
            return self.model(self.inputs[:4])

    def explain(self, rows: slice = slice(0, 2), **options: Any) -> xlens.Explanation:
        """Explain a few inputs."""
        return self.explainer.explain(self.inputs[rows], n_steps=4, tolerance=0.5, **options)

    def fit(self) -> None:
        """Fit a lens anew, in a few steps."""
        mask = xlens.MaskOptions(steps=1, pool=64)
        xlens.fit(self.model, self.inputs[:32], "svae", steps=2, mask=mask, progress=False)

    def evaluate(self) -> None:
        """Judge the lens on a few inputs."""
        xlens.evaluate(self.explainer, self.inputs[:4], methods=("lig", "random"), steps=2, progress=False)


@functools.cache
def world_of_tests() -> World:
    """Return one world for all tests."""
    return World()


class Heavy(nn.Module):
    """A model with 100 MB of parameters, of which an answer needs few."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.tables = nn.ParameterList(torch.zeros(2_500_000) for _ in range(10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(inputs) + sum(table[0] for table in self.tables)


class Faulty(TorchDispatchMode):
    """Raises a fault at one operation of torch's, counted from the beginning."""

    def __init__(self, at: int, fault: BaseException | None) -> None:
        super().__init__()
        self.at, self.fault, self.count = at, fault, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count == self.at and self.fault is not None:
            raise self.fault
        return func(*args, **(kwargs or {}))


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Press Ctrl-C after so many seconds, by the clock of the process."""
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def sent_after(seconds: float, thread: int) -> Iterator[None]:
    """Raise KeyboardInterrupt in a thread after so many seconds, past every handler."""
    stop = threading.Event()

    def send() -> None:
        if not stop.wait(seconds):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def changed_by(model: nn.Module, ask: Callable[[], object], trouble: Any) -> tuple[list[str], bool]:
    """Ask within a context that brings a fault; return what has changed, and whether the fault came.

    What a fault leaves behind is looked at when the user has it in hand, with the traceback alive.
    """
    before = {**model_state(model), **process_state()}
    fault: BaseException | None = None
    try:
        with trouble:
            ask()
        # One that was held back to the end comes now.
        time.sleep(0.004)
    except (KeyboardInterrupt, RuntimeError, xlens.errors.XlensError) as raised:
        fault = raised
    came, changed = fault is not None, differing(before, {**model_state(model), **process_state()})
    # Its traceback holds this frame, and with it a copy of the model.
    fault = None
    return changed, came


def same_explanation(first: xlens.Explanation, second: xlens.Explanation) -> bool:
    """Whether two explanations are equal bit by bit."""
    names = ("counterfactual", "scores", "counterfactual_scores", "codes", "path_scores", "trustworthy")
    alike = all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)
    return alike and all(torch.equal(first.attributions[n], second.attributions[n]) for n in first.attributions)


def moments(seed: int, n: int, longest: float) -> list[float]:
    """Return random moments of a call that takes `longest` seconds."""
    draw = random.Random(seed)
    return [draw.uniform(1e-5, longest) for _ in range(n)]
