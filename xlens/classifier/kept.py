"""A module as it was: its flag, its attributes, its hooks and what it is made of; and putting it all back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xlens.classifier.containers import CONTAINERS, Writes, content_of, place_hooks, same_content, writes_of
from xlens.classifier.hooks import ITS_HOOKS, OwnTable, is_hooks, own_tables, place
from xlens.classifier.interrupts import tried
from xlens.classifier.values import KeptTensor, unwatched
from xlens.classifier.whole import ITS_OWN, is_passed, kept_in
from xlens.classifier.wrappers import is_compiled

__all__ = ["KeptModule", "Swap", "is_result", "put_back", "stand_ins"]

#: A table of a module, a name in it, and what takes its place there.
Swap = tuple[dict[str, Any], str, Tensor]

#: Where ``module.compile()`` puts what runs instead of the module.
_COMPILED = "_compiled_call_impl"
#: Where torch notes of which kind a module's hooks of the backward pass are.
_FULL = "_is_full_backward_hook"


#: What an empty table holds.
_NOTHING: dict[Any, Any] = {}
#: Attributes, and places in containers and objects, that a forward pass was seen to replace.
_results: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()


def is_result(module: nn.Module, name: str) -> bool:
    """Whether forward passes leave a tensor under a name such as ``maps[3]``, as far as that was seen."""
    return any(name == place or name.startswith((f"{place}[", f"{place}.")) for place in _results.get(module, ()))


class KeptModule:
    """What a module is made of beside values: everything that ``vars(module)`` holds, and what its tables hold.

    Putting it back is a matter of dictionaries and cannot fail.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        # A TorchScript module keeps its flag and its slots where Python cannot replace them.
        self.scripted = isinstance(module, torch.jit.ScriptModule)
        self.training: bool | None = getattr(module, "training", None)
        everything = dict(vars(module))
        own = [item for item in everything.items() if item[0] not in ITS_OWN]
        #: Names of its tables of hooks.
        self.hooks = [name for name in ITS_HOOKS if name in everything]
        self.hooks += [name for name, value in own if is_hooks(name, value)]
        names = self.hooks if self.scripted else ("_buffers", "_parameters", "_modules", *self.hooks)
        self.attributes = {name: everything[name] for name in self.hooks} if self.scripted else everything
        self.tables = [(table, dict(table) if table else _NOTHING) for table in map(everything.__getitem__, names)]
        # Nearly no module has an attribute that may hold tensors; then no forward pass leaves one in those it has.
        # A forward pass may write into them; what they hold, other containers among it, is taken as it is.
        held = [] if self.scripted else [value for _, value in own if type(value) in CONTAINERS]
        #: What is written to these, where the module is held already, and what was noted of that before.
        self.writes = writes_of(module) if held else None
        self.noted = (0, 0) if self.writes is None else self.writes.noted()
        self.containers = [(value, content_of(value)) for value in held]
        self._plain = {name: value for name, value in own if is_passed(name, value)}
        self._all_plain = len(self._plain) == len(own)
        self.tensors = {} if self.scripted or self._all_plain else _tensors_in(module)

    def hide(self, asks: Callable[[], bool]) -> None:
        """Let stand-ins take the place of the tables of hooks, and of what compilation has put there.

        Hooks that are placed from now on act for the thread that places them, and compiled code, which need not
        call hooks, does not run for threads that explain. Others find the model as it was.

        Args:
            asks: whether the thread that calls it explains.
        """
        live = vars(self.module)
        tables = own_tables({name: live[name] for name in self.hooks}, asks)
        if self.containers:
            self.writes = Writes(self.module, [container for container, _ in self.containers], asks)
            place_hooks(tables, self.writes)
        live.update(tables)
        if self.writes is not None:
            # From here on passes of other threads are noted; what they have written before is the program's.
            self.writes.look_around()
            self.containers = [(container, content_of(container)) for container, _ in self.containers]
        compiled = live.get(_COMPILED)
        if compiled is not None:
            live[_COMPILED] = _for_others(self.module._call_impl, compiled, asks)
        if is_compiled(self.module) and callable(live.get("forward")):
            # Code that was compiled before hooks were placed on parts of it would not call them.
            live["forward"] = _for_others(self.module._modules["_orig_mod"], live["forward"], asks)

    def put_back(self) -> None:
        """Put back attributes, hooks, slots and the flag."""
        for table, entries in self.tables:
            if table or entries:
                _refill(table, entries)
        live = vars(self.module)
        if not self.scripted:
            if not self._as_it_was(live):
                # What is seen of a forward pass; that it cannot be told stops nothing of what is put back.
                tried(self._note_results)
            self._put_back_containers()
            if live.keys() != self.attributes.keys():
                for name in live.keys() - self.attributes.keys():
                    live.pop(name, None)
        tables = {name: live[name] for name in self.hooks if isinstance(live.get(name), OwnTable)}
        kind = live.get(_FULL)
        live.update(self.attributes)
        for name, table in tables.items():
            own = self.attributes.get(name)
            if own is not table and isinstance(own, dict):
                table.give_back(own)
            if table.others and name == "_backward_hooks":
                # How torch reads all of a module's hooks of the backward pass.
                live[_FULL] = kind
        if self.scripted and self.training is not None:
            self.module.training = self.training

    def _put_back_containers(self) -> None:
        if self.writes is None and writes_of(self.module) is not None:
            # Whoever has the module longer knows more, and puts them back.
            return
        changes, passes = self.noted
        if self.writes is not None:
            self.writes.take_back(changes)
        for container, content in self.containers:
            # Others write to them too, or may: that is looked at last.
            if same_content(container, content) or (self.writes is not None and self.writes.shared(passes)):
                continue
            _put_back_content(container, content)

    def _as_it_was(self, live: dict[str, Any]) -> bool:
        """Whether its attributes are those that it had, and none of them can have changed inside."""
        if not self._all_plain or live.keys() != self.attributes.keys():
            return False
        return all(live[name] is value and type(value) is not list for name, value in self._plain.items())

    def _note_results(self) -> None:
        live = vars(self.module)
        replaced = {name for name, value in self._plain.items() if live.get(name, value) is not value}
        if replaced:
            _results.setdefault(self.module, set()).update(replaced)
        now = _tensors_in(self.module)
        changed = {name for name in now.keys() & self.tensors.keys() if now[name] is not self.tensors[name]}
        for name in now.keys() ^ self.tensors.keys():
            # In a list that grows or shrinks, what stays has moved on, or will.
            place = _in_list(name) or (name if name in now else None)
            changed |= {place} if place is not None else set()
        if changed:
            _results.setdefault(self.module, set()).update(changed)


def _tensors_in(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in kept_in(module) if isinstance(value, Tensor)}


def _in_list(name: str) -> str | None:
    """Return the name of the list that something is a member of, or None."""
    around, _, place = name.rpartition("[")
    return around if place.removesuffix("]").isdecimal() else None


def stand_ins(modules: Iterable[nn.Module]) -> Iterator[Swap]:
    """Yield copies of a model's tensors of inference mode, through which no gradient could flow to the inputs."""
    copies: dict[int, Tensor] = {}
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None or not tensor.is_inference():
                    continue
                if id(tensor) not in copies:
                    with torch.inference_mode(False):
                        copy = tensor.detach().clone()
                    made = isinstance(tensor, nn.Parameter)
                    copies[id(tensor)] = nn.Parameter(copy, requires_grad=False) if made else copy
                yield table, name, copies[id(tensor)]


def put_back(kept: Sequence[KeptModule | KeptTensor], values: Sequence[KeptTensor] = ()) -> list[BaseException]:
    """Put everything back, what costs nothing first, and each part whatever became of the others.

    Args:
        kept: what is put back.
        values: that of which the values alone are.

    Returns:
        what went wrong.
    """
    modules = [one for one in kept if isinstance(one, KeptModule)]
    tensors = [one for one in kept if isinstance(one, KeptTensor)]
    steps = [one.put_back for one in modules] + [one.put_back_flags for one in tensors]
    faults: list[BaseException] = []
    with ExitStack() as stack:
        try:
            stack.enter_context(unwatched())
        except Exception as fault:  # noqa: BLE001 - whatever it is, the steps below are tried
            faults.append(fault)
        for step in steps + [one.put_back_values for one in (*tensors, *values)]:
            faults += tried(step)
    return faults


def _put_back_content(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        _refill(container, content)
    elif isinstance(container, set):
        if container != content:
            container.clear()
            container.update(content)
    elif not same_content(container, content):
        container.clear()
        container.extend(content)


def _refill(table: dict[Any, Any], entries: dict[Any, Any]) -> None:
    if isinstance(table, OwnTable):
        entries = {**entries, **table.others}
    if not table and not entries:
        return
    if list(table) == list(entries) and all(map(operator.is_, list(table.values()), entries.values())):
        return
    # Another thread may be reading: what stays is not taken out, unless the order asks for it.
    for name in table.keys() - entries.keys():
        del table[name]
    if list(table) != [name for name in entries if name in table] or len(table) < len(entries):
        table.clear()
    for name, entry in entries.items():
        place(table, name, entry)


def _for_others(plain: Any, compiled: Callable[..., Any], asks: Callable[[], bool]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        # A thread that explains runs the module itself, hooks and all.
        return (plain if asks() else compiled)(*args, **kwargs)

    return call
