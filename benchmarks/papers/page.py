"""The page of the papers' tables, from what was run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.papers import cells, dif, ilvm, introvac, medxgan, svae

PAPERS = {
    "medxgan": medxgan,
    "ilvm": ilvm,
    "svae": svae,
    "dif": dif,
    "introvac": introvac,
}
OUT = Path("docs/benchmarks/papers.md")
SEEDS = (0, 1, 2)

HEAD = """# The papers' own tables

`python -m benchmarks.papers --run PAPER --seed N` for each, then `--page`, which writes this page.

Each of the five papers' tables, with the paper's numbers on the left and ours on the right. The papers' data
are MNIST, SVHN, CIFAR10, faces and medical images, and their networks are larger and trained for longer; ours
are Fashion-MNIST, which anybody can install, small networks, and minutes of one CPU thread. **No number of
ours confirms or refutes one of theirs.** What can be compared is which method is ahead of which. Every
section says what is the paper's and what is not. Where more than one seed was run, a figure is the median,
with the range in brackets; of one seed it stands alone, and "±" is over inputs unless a section says
otherwise. The papers' "±" is over runs where they say so. Lenses learn the classifier's classes, not the labels,
unless it
says otherwise.

Each claim by itself, with `paper()` beside the defaults, three seeds and a verdict, on smaller images:
[the papers' claims on digits](papers_digits.md).
"""


def page() -> str:
    """Return the page."""
    return "\n\n".join([HEAD.rstrip(), *(paper.page() for paper in PAPERS.values()), missing()]) + "\n"


def missing() -> str:
    """Say what was not run."""
    lacking = {name: [str(seed) for seed in SEEDS if seed not in cells.kept(f"papers-{name}")] for name in PAPERS}
    said = [
        f"- {name}: seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" for name, seeds in lacking.items() if seeds
    ]
    return "\n".join(["## Not run", "", *(said or ["Nothing of three seeds."])])
