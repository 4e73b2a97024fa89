"""The papers' own tables, remade on data that can be installed here.

    python benchmarks/papers.py --run medxgan --seed 0      (also: ilvm, svae, dif, introvac)
    python benchmarks/papers.py --page

A run keeps its figures in the cache folder, and does nothing where they are there. ``--page`` writes what is there
into docs/benchmarks/papers.md and says what was not run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _papers_dif
import _papers_ilvm
import _papers_introvac
import _papers_medxgan
import _papers_svae
import torch
from _papers_cells import keep, kept

PAPERS = {
    "medxgan": _papers_medxgan,
    "ilvm": _papers_ilvm,
    "svae": _papers_svae,
    "dif": _papers_dif,
    "introvac": _papers_introvac,
}
OUT = Path("docs/benchmarks/papers.md")
SEEDS = (0, 1, 2)

HEAD = """# The papers' own tables

`python benchmarks/papers.py --run PAPER --seed N` for each, then `--page`, which writes this page.

Each of the five papers' tables, with the paper's numbers on the left and ours on the right. The papers' data
are MNIST, SVHN, CIFAR10, faces and medical images, and their networks are larger and trained for longer; ours
are Fashion-MNIST, which anybody can install, small networks, and minutes of one CPU thread. **No number of
ours confirms or refutes one of theirs.** What can be compared is which method is ahead of which. Every
section says what is the paper's and what is not. Where more than one seed was run, a figure is the median,
with the range in brackets; of one seed it stands alone, and "±" is over inputs unless a section says
otherwise. The papers' "±" is over runs where they say so. Lenses learn f's classes, not the labels, unless it
says otherwise.
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([HEAD.rstrip(), *(paper.page() for paper in PAPERS.values()), missing()]) + "\n"


def missing() -> str:
    """Say what was not run."""
    lacking = {name: [str(seed) for seed in SEEDS if seed not in kept(f"papers-{name}")] for name in PAPERS}
    said = [
        f"- {name}: seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" for name, seeds in lacking.items() if seeds
    ]
    return "\n".join(["## Not run", "", *(said or ["Nothing of three seeds."])])


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
