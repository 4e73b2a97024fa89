"""The papers' own tables, remade on data that can be installed here.

    python -m benchmarks.papers --run medxgan --seed 0      (also: ilvm, svae, dif, introvac)
    python -m benchmarks.papers --page

A run keeps its figures in the cache folder, and does nothing where they are there. ``--page`` writes what is there
into docs/benchmarks/papers.md and says what was not run.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.papers.cells import keep
from benchmarks.papers.page import OUT, PAPERS, page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", choices=PAPERS, metavar="PAPER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="write the page")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.run:
        keep(chosen.run, chosen.seed, PAPERS[chosen.run].measure)
    if chosen.page:
        OUT.write_text(page())


if __name__ == "__main__":
    main()
