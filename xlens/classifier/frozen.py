"""Somebody else's model, frozen while it is asked and put back whatever happens; one guard for all who ask.

What is promised:

- Afterwards parameters, buffers, flags, gradients, hooks, attributes and the global random numbers are bit for bit
  as they were, after an exception, out of memory and Ctrl-C too.
- Several threads may ask, through one explainer or several, around one model or several. Questions take turns, and
  each gets the answer that it would get alone. A long fit lets others ask between its steps.
- Another thread may predict with the model meanwhile, and gets the predictions of a model in eval mode: flags are
  the model's and not a thread's. Hooks act for the thread that placed them alone. It may not train the model.
- Random numbers that another thread draws from the global generators meanwhile come from a seeded sequence, and
  are missing in it; predicting in eval mode draws none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from torch import Tensor, nn

from xlens.classifier.contexts import Context
from xlens.classifier.interrupts import caught, own_lines_uninterrupted, tried, uninterrupted
from xlens.classifier.kept import KeptModule, Swap, put_back, stand_ins
from xlens.classifier.turns import random_state_kept, seeded
from xlens.classifier.values import KeptTensor, bits, unwatched
from xlens.classifier.whole import held_among, parts_of
from xlens.errors import ModelError

__all__ = ["bits", "frozen", "seeded"]

T = TypeVar("T")

Kept = KeptModule | KeptTensor


class _Hold:
    """One context around a model, of one thread."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.thread = model, threading.get_ident()
        found = list(parts_of(model))
        self.modules = [module for module, _ in found]
        parameters = {id(p): p for m in self.modules for p in m._parameters.values() if p is not None}
        buffers = {id(b): b for m in self.modules for b in m._buffers.values() if b is not None}
        # Tensors of inference mode are not written to: copies stand in for them.
        self.parameters: list[Tensor] = [p for p in parameters.values() if not p.is_inference()]
        self.buffers = [b for b in buffers.values() if not b.is_inference()]
        # What a forward pass may write to as to a buffer, or what has gradients as a parameter has.
        known = {*parameters, *buffers}
        for tensor in (value for _, leaves in found for _, value in held_among(leaves)):
            if isinstance(tensor, Tensor) and id(tensor) not in known and not tensor.is_inference():
                known.add(id(tensor))
                (self.parameters if tensor.requires_grad else self.buffers).append(tensor)
        self.keys = {id(x) for x in (*self.modules, *self.parameters, *self.buffers)}
        #: How each part was before anybody held it, shared with the others who hold it.
        self.kept: dict[int, Kept] = {}
        self.level: _Level | None = None

    def tensors(self, copy_parameters: bool) -> Iterator[tuple[Tensor, bool]]:
        """Yield the tensors, and whether their values are to be kept."""
        yield from ((p, copy_parameters) for p in self.parameters)
        yield from ((b, True) for b in self.buffers)


class _Level:
    """How a model was when a context within another began; the values of parameters are kept by the outermost."""

    def __init__(self, hold: _Hold) -> None:
        self.modules = [KeptModule(module) for module in hold.modules]
        self.parameters = [KeptTensor(p, copy=False) for p in hold.parameters]
        self.buffers = [KeptTensor(b, copy=True) for b in hold.buffers]

    def put_back(self, held: Mapping[int, Kept]) -> list[BaseException]:
        found = [held[id(p.tensor)] for p in self.parameters if p.written]
        written = [kept for kept in found if isinstance(kept, KeptTensor)]
        return put_back([*self.modules, *self.parameters, *self.buffers], written)


class _Guards:
    """All models that are frozen in this process, shared module by module and tensor by tensor.

    Who holds what is said by the list of contexts alone, which grows and shrinks at one stroke: what no handler can
    hold back may come between any two lines.

    So contexts around one model share it, and so do those around a model and a part of it, or around two models
    with tied weights.
    """

    def __init__(self) -> None:
        # Taken again by the same thread where the garbage collector ends a context in the middle of another.
        self._lock = threading.RLock()
        self._holds: list[_Hold] = []

    def asks(self) -> bool:
        """Whether the thread that calls this holds any model."""
        here = threading.get_ident()
        return any(hold.thread == here for hold in tuple(self._holds))

    def begin_in_child(self) -> None:
        """Go on in a forked process, where the thread that forked is the only one that lives.

        What the others held is put back but for values, which may take threads that a forked process lacks.
        """
        self._lock = threading.RLock()
        here = threading.get_ident()
        gone = [hold for hold in self._holds if hold.thread != here]
        self._holds = [hold for hold in self._holds if hold.thread == here]
        ours = {key for hold in self._holds for key in hold.keys}
        for hold in gone:
            for key in hold.keys - ours:
                kept = hold.kept[key]
                tried(kept.put_back if isinstance(kept, KeptModule) else kept.put_back_flags)

    @uninterrupted
    def enter(self, hold: _Hold, copy_parameters: bool) -> None:
        """Freeze a model, or share in its being frozen; where this fails, `leave` undoes what was done."""
        with self._lock, unwatched():
            # All that may fail or run out of memory comes first, while nothing has changed yet.
            new = self._newly_held(hold, copy_parameters)
            hold.level = None if new.keys() >= hold.keys else _Level(hold)
            swaps = list(stand_ins(hold.modules))
            self._holds.append(hold)
            self._freeze(hold, list(new.values()), swaps)

    @uninterrupted
    def leave(self, hold: _Hold) -> None:
        """End a context, and those within it that were never ended; put back what nobody holds any longer.

        Raises:
            ModelError: something could not be put back; everything else was.
        """
        faults: list[BaseException] = []
        with self._lock:
            if hold not in self._holds:
                return
            later = self._holds[self._holds.index(hold) + 1 :]
            for one in (*reversed([h for h in later if h.thread == hold.thread]), hold):
                faults += self._leave(one)
        if faults:
            raise _fault(faults)

    def _newly_held(self, hold: _Hold, copy_parameters: bool) -> dict[int, Kept]:
        held = {key: kept for other in self._holds for key, kept in other.kept.items()}
        new: dict[int, Kept] = {id(m): KeptModule(m) for m in hold.modules if id(m) not in held}
        for tensor, copy in hold.tensors(copy_parameters):
            kept = held.get(id(tensor))
            if kept is None:
                new[id(tensor)] = KeptTensor(tensor, copy=copy)
            elif copy and isinstance(kept, KeptTensor):
                kept.keep_values()
        hold.kept = {key: new[key] if key in new else held[key] for key in hold.keys}
        return new

    def _freeze(self, hold: _Hold, new: Iterable[Kept], swaps: list[Swap]) -> None:
        for kept in new:
            if isinstance(kept, KeptModule):
                kept.hide(self.asks)
        for table, name, stand_in in swaps:
            table[name] = stand_in
        modules = [module for module in hold.modules if getattr(module, "training", False)]
        if modules:
            hold.model.eval()
        for module in modules:
            # A model may have a way of its own to go into eval mode.
            module.training = False
        for parameter in hold.parameters:
            if parameter.requires_grad:
                parameter.requires_grad_(False)

    def _leave(self, hold: _Hold) -> list[BaseException]:
        # Another thread's view of the model began at another moment: it is put back when all have left.
        others = [h for h in self._holds if h is not hold]
        shared = any(h.thread != hold.thread and h.keys & hold.keys for h in others)
        faults: list[BaseException] = []
        if hold.level is not None and not shared:
            faults += hold.level.put_back(hold.kept)
        last = hold.keys.difference(*(h.keys for h in others))
        faults += put_back([hold.kept[key] for key in last])
        # Only now: where something that no handler can hold back stops this, all of it is done again.
        self._holds.remove(hold)
        return faults


_guards = _Guards()
if hasattr(os, "register_at_fork"):
    # Its lock may be held by a thread that the child does not have, and would never be released.
    os.register_at_fork(after_in_child=_guards.begin_in_child)


class _Frozen(Context[T]):
    """What :func:`frozen` returns."""

    _hold: _Hold | None = None

    def __init__(self, value: T, model: nn.Module, seed: int | None, copy_parameters: bool) -> None:
        self._value, self._model, self._copy_parameters = value, model, copy_parameters
        self._random = random_state_kept() if seed is None else seeded(seed)

    @own_lines_uninterrupted
    def begin(self) -> T:
        """Keep or seed the random numbers, and freeze the model."""
        self._random.begin()
        # Known before anything is registered: whatever comes in between, there is something to leave.
        with unwatched():
            self._hold = _Hold(self._model)
        _guards.enter(self._hold, self._copy_parameters)
        return self._value

    @uninterrupted
    def end(self) -> None:
        """Put the model back, and the random numbers."""
        faults = caught(self.drop) + caught(self._random.end)
        if faults:
            raise faults[0]

    @uninterrupted
    def drop(self) -> None:
        """Put the model back."""
        if self._hold is not None:
            _guards.leave(self._hold)
            self._hold = None


def frozen(value: T, model: nn.Module, seed: int | None, copy_parameters: bool = True) -> AbstractContextManager[T]:
    """Freeze `model`, yield `value`, restore the model and the global RNGs bit for bit.

    Args:
        value: what the context yields.
        model: the module to freeze.
        seed: seeds the global RNGs meanwhile, unless None; then this thread also has its turn, and the program's
            switches are neutral.
        copy_parameters: guard against a forward pass that writes to its own parameters, which takes a copy of
            them. Buffers are copied always.
    """
    return _Frozen(value, model, seed, copy_parameters)


def _fault(faults: list[BaseException]) -> BaseException:
    """Return one exception for all."""
    for fault in faults:
        if not isinstance(fault, Exception):
            return fault
    first = faults[0]
    error = ModelError(
        "the classifier could not be put back in full as it was",
        given=f"{len(faults)} faults, the first a {type(first).__name__}: {first}",
        do="load its weights again before you use it",
    )
    error.__cause__ = first
    return error
