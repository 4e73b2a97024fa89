"""Every lens and every baseline against the truth: planted causes, rendered parts, solar cells.

    python -m benchmarks.ground_truth --run blob 0 none
    python -m benchmarks.ground_truth --run blob 0 medxgan
    python -m benchmarks.ground_truth --picture blob 0 medxgan
    python -m benchmarks.ground_truth --page

`--run TASK SEED LENS` trains what is not in the cache yet and keeps the scores of that cell as JSON beside it; it
does nothing where they are there. LENS is a backend, or `none` for everything that needs no lens. `--picture` draws
its maps side by side. `--page` writes docs/benchmarks/ground_truth.md from the cells that are there, and says
which.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.ground_truth.cells import cell
from benchmarks.ground_truth.lenses import TASKS
from benchmarks.ground_truth.page import PICTURES, write
from benchmarks.ground_truth.picture import draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=3, metavar=("TASK", "SEED", "LENS"), help=f"tasks: {', '.join(TASKS)}")
    parser.add_argument("--picture", nargs=3, metavar=("TASK", "SEED", "LENS"))
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/ground_truth.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.run:
        name, seed, backend = chosen.run
        found = cell(name, int(seed), backend)
        print(f"{name} {seed} {backend}: {len(found['figures'])} figures on {found['count']} inputs")
    if chosen.picture:
        name, seed, backend = chosen.picture
        out = PICTURES / f"ground-truth-{name}-{seed}-{backend}.png"
        draw(name, int(seed), backend, out)
        print(f"drawn: {out}")
    if chosen.page:
        write(chosen.out)
        print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
