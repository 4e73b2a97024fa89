"""A claim of a paper, how far it holds in a seed's figures, and what is said of it over all seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.papers.cells import Figures
from benchmarks.papers.presets.common import PRESETS

__all__ = ["FURTHER", "UNCLAIMED", "Claim", "Shown", "above", "at_least", "verdict"]

#: The further attempt at what was not reproduced; its figures stand beside those of the presets.
FURTHER = "further"
#: What stands for the paper's words where a row is only there for comparison.
UNCLAIMED = "not in the paper"
#: Fewer seeds do not make a verdict.
SEEDS = 3
#: How far a claim holds: above 0 where it does. It raises KeyError where its figures are not there.
Gap = Callable[[Figures], float]


class Shown(NamedTuple):
    """A figure of a row: its label there, its name in the cells, its digits, and what it is multiplied by."""

    label: str
    name: str
    digits: int = 2
    scale: float = 1.0


class Claim(NamedTuple):
    """A row of the page: a claim of the paper, in its words and numbers, and what stands for it here."""

    figure: str
    paper: str
    shown: Sequence[Shown]
    gap: Gap


def above(one: str, other: str, by: float = 0.0) -> Gap:
    """Return the claim that one figure is above another, by more than so much."""
    return lambda cell: cell[one] - cell[other] - by


def at_least(name: str, least: float) -> Gap:
    """Return the claim that a figure is no lower than a number."""
    return lambda cell: cell[name] - least + 1e-9


def of_preset(cells: Sequence[Figures], preset: str) -> list[Figures]:
    """Return the figures of one preset by seed, without its name."""
    start = f"{preset}: "
    return [{n.removeprefix(start): v for n, v in cell.items() if n.startswith(start)} for cell in cells]


def gaps(claim: Claim, cells: Sequence[Figures]) -> list[float]:
    """Return how far the claim holds, by seed, where its figures are there."""
    found = []
    for cell in cells:
        try:
            found.append(claim.gap(cell))
        except KeyError:
            continue
    return found


def text(claim: Claim, cells: Sequence[Figures]) -> str:
    """Return the figures of a preset: medians over seeds, and their ranges."""
    parts = []
    for label, name, digits, scale in claim.shown:
        values = [scale * cell[name] for cell in cells if name in cell]
        if values:
            spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
            parts.append(f"{label} {statistics.median(values):.{digits}f}{spread}".strip())
    return "; ".join(parts) or "-"


def counts(claim: Claim, cells: Sequence[Figures]) -> Mapping[str, tuple[int, int]]:
    """Return on how many seeds, and of how many, the claim holds, by preset."""
    found = {}
    for preset in (*PRESETS, FURTHER):
        values = gaps(claim, of_preset(cells, preset))
        if values:
            found[preset] = (sum(value > 0 for value in values), len(values))
    return found


def verdict(claim: Claim, cells: Sequence[Figures]) -> str:
    """Say whether the claim was reproduced.

    It is where it holds with every seed of ``paper()``, and refuted on these data where it does with no seed of
    anything, a further attempt among it (so far, of fewer than three seeds); all else is not reproduced.
    """
    found = counts(claim, cells)
    each = ", ".join(f"{preset} {good} of {total}" for preset, (good, total) in found.items())
    if found and claim.paper == UNCLAIMED:
        return f"no claim of the paper's ({each})"
    if "paper" not in found:
        return f"not measured with `paper()` as it is ({each})" if each else "not measured"
    hits, runs = found["paper"]
    far = "" if runs >= SEEDS else " so far"
    if hits == runs:
        return f"**reproduced{far}** ({each})"
    if FURTHER in found and not any(good for good, _ in found.values()):
        return f"**refuted here{far}** ({each})"
    return f"**not reproduced** ({each})"
