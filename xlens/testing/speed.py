"""Checks of what explaining costs, counted in operations, so that it comes out the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from xlens.testing.bench import Bench
from xlens.testing.checking import check, require
from xlens.testing.correctness import shapes_are_right

#: An explanation is allowed as many operations in the lens as this many decodings that the classifier looks at.
_DECODINGS = 100
#: From as many on, finding a code is a search and no forward pass.
_SEARCH = 10


@check(needs=(shapes_are_right,), decoding=True)
def explaining_costs_few_decodings(bench: Bench) -> None:
    """Finding a code and its counterfactual takes no more operations than 100 decodings with the classifier's look
    at them."""
    inputs = bench.inputs.clone()
    n = len(inputs)
    with bench.asking() as lens:
        codes = lens.encode(inputs)
        unit = _operations(lambda: bench.logits(lens, codes))
        one, other = torch.full((n,), 1), torch.full((n,), 0)
        spent = _operations(lambda: lens.counterfactual(lens.encode(inputs), one, other))
    require(
        spent <= _DECODINGS * unit,
        f"{bench.backend.name}: explaining costs too much",
        given=f"encode and counterfactual take as many operations as {spent / unit:.0f} decodings",
        allowed=f"at most {_DECODINGS}",
        do="search in fewer steps by default; where the method needs more, expected_failures says so",
    )


@check(needs=(shapes_are_right,), decoding=True)
def a_search_is_called_one(bench: Bench) -> None:
    """``encodes_directly`` is False where ``encode`` searches, so that the mask is fitted on fewer inputs."""
    inputs = bench.inputs.clone()
    with bench.asking() as lens:
        codes = lens.encode(inputs)
        unit = _operations(lambda: bench.logits(lens, codes))
        spent = _operations(lambda: lens.encode(inputs))
    require(
        not lens.encodes_directly or spent <= _SEARCH * unit,
        f"{bench.backend.name}: encode searches, and the lens says that it does not",
        given=f"encodes_directly is True; encode takes as many operations as {spent / unit:.0f} decodings",
        allowed=f"True up to {_SEARCH} decodings",
        do="set encodes_directly = False on the lens",
    )


class _Counter(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def _operations(call: Callable[[], Any]) -> int:
    with _Counter() as counter:
        call()
    return max(counter.count, 1)
