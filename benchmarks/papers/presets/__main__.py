"""Each paper's claims on scikit-learn's digits: ``paper()``, the defaults, and a further attempt.

    python -m benchmarks.papers.presets --run svae --seed 0       (also: medxgan, ilvm, dif, introvac)
    python -m benchmarks.papers.presets --further svae --seed 0   (of what was not reproduced)
    python -m benchmarks.papers.presets --page

A run keeps its figures in the cache folder, and does nothing where they are there. ``--page`` writes what is there
into docs/benchmarks/papers_digits.md.
"""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable

import torch

from benchmarks.papers.cells import Figures, keep

PAPERS = ("medxgan", "ilvm", "svae", "dif", "introvac")


def main() -> None:
    """Run one paper and seed, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=PAPERS, metavar="PAPER")
    parser.add_argument("--further", choices=PAPERS, metavar="PAPER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="write the page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.run:
        keep(f"digits-{given.run}", given.seed, measure_of(given.run))
    if given.further:
        measure = functools.partial(measure_of(given.further), presets=("further",))
        keep(f"digits-further-{given.further}", given.seed, measure)
    if given.page:
        page = importlib.import_module("benchmarks.papers.presets.page")
        page.OUT.write_text(page.page())


def measure_of(paper: str) -> Callable[..., Figures]:
    """Return the function that measures a paper."""
    measure: Callable[..., Figures] = importlib.import_module(f"benchmarks.papers.presets.{paper}").measure
    return measure


if __name__ == "__main__":
    main()
