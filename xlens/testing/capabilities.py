"""Checks of what a backend declares to be able to do beyond explaining; others are not asked.

A capability that the kit does not know, because it is younger, is asked for its methods only.
"""

from __future__ import annotations

from xlens.contracts import CAPABILITIES
from xlens.testing.bench import Bench
from xlens.testing.checking import check, require
from xlens.testing.correctness import shapes_are_right


@check(needs=(shapes_are_right,))
def declared_capabilities_are_there(bench: Bench) -> None:
    """The lens has the methods of each capability that its backend declares."""
    for name in bench.backend.capabilities:
        protocol = CAPABILITIES.get(name)
        require(
            protocol is None or isinstance(bench.base.lens, protocol),
            f"{bench.backend.name}: declares {name!r}, and its lens cannot do it",
            given=type(bench.base.lens).__name__,
            allowed=f"the methods of {protocol.__name__ if protocol else name}, see xlens.contracts",
            do=f"write them, or take {name!r} out of capabilities",
        )


@check(needs=(shapes_are_right,))
def capabilities_are_declared(bench: Bench) -> None:
    """What the lens can do is declared, or nobody will find it."""
    able = [name for name, protocol in CAPABILITIES.items() if protocol and isinstance(bench.base.lens, protocol)]
    hidden = [name for name in able if name not in bench.backend.capabilities]
    require(
        not hidden,
        f"{bench.backend.name}: the lens can do what its backend does not declare",
        given=", ".join(hidden),
        do="add it to capabilities, or give the method a name with an underscore",
    )
