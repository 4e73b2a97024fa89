"""Figures of the papers' tables, kept as JSON in the cache folder, and how they are written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence

from benchmarks.common.cache import CACHE

#: Of one paper and seed: figures by name.
Figures = dict[str, float]


def keep(paper: str, seed: int, measure: Callable[[int], Figures]) -> None:
    """Measure and keep the figures of one paper and seed, unless they are there."""
    path = CACHE / f"papers-{paper}-{seed}.json"
    if not path.exists():
        found = measure(seed)
        path.write_text(json.dumps({name: round(value, 6) for name, value in found.items()}, indent=1))


def kept(stem: str, after: str = "") -> dict[int, Figures]:
    """Return what is there by seed, of files ``STEM-SEED.json``, or ``STEM-SEED-AFTER.json``."""
    found = {}
    for path in CACHE.glob(f"{stem}-*{after}.json"):
        seed = path.stem.removeprefix(f"{stem}-").removesuffix(after)
        if seed.isdigit():
            found[int(seed)] = json.loads(path.read_text())
    return dict(sorted(found.items()))


def shown(cells: Sequence[Figures], name: str, digits: int = 3, spread: str = "") -> str:
    """Return a figure: the median over seeds and its range, or of one seed the value and its spread over inputs."""
    found = [cell for cell in cells if name in cell]
    if not found:
        return "not run"
    values = [cell[name] for cell in found]
    middle = f"{statistics.median(values):.{digits}f}"
    if len(found) > 1:
        return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return f"{middle} ± {found[0][spread]:.{digits}f}" if spread else middle


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    every = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def seeds(cells: dict[int, Figures]) -> str:
    """Say which seeds a table is of."""
    if not cells:
        return "**Not run.**"
    return f"Seed {next(iter(cells))} alone." if len(cells) == 1 else f"Seeds {', '.join(map(str, cells))}."
