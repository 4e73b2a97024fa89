"""One process and two on the same fit: seconds, and how far their lenses are apart.

    python -m benchmarks.engine.two_processes

Runs itself under torchrun. Fashion-MNIST, coat against shirt; each process has one thread. Two processes draw other
random numbers than one, so their lenses are compared as those of two seeds are: by what they say on test images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

import xlens
from benchmarks.common.judges import trained
from benchmarks.common.tasks import pair

ROOT = Path(__file__).parents[2]


def work(folder: Path, chosen: argparse.Namespace) -> None:
    """Fit and explain, in one of the processes."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task = pair()
    model = trained(task, 0, 6, only="f")["f"]
    data = task.train[: chosen.images]
    began = time.perf_counter()
    ends: dict[str, float] = {}
    explainer = xlens.fit(
        model,
        data,
        chosen.backend,
        steps=chosen.steps,
        seed=chosen.seed,
        mixed_precision=chosen.precision,
        progress=False,
        on_step=lambda event: ends.update({event.phase: time.perf_counter() - began}),
    )
    fitted = time.perf_counter() - began
    explanation = explainer.explain(task.test[:128], n_steps=8)
    explained = time.perf_counter() - began - fitted
    if int(os.environ.get("RANK", "0")) == 0:
        fidelity = explanation.fidelity
        figures = {
            "lens, until its last step, s": next(value for name, value in ends.items() if name != "mask"),
            "fit, s": fitted,
            "explain 128, s": explained,
            "the classifier agrees": float(fidelity.agrees.float().mean()),
            "the classifier flips on x'": float(fidelity.flips.float().mean()),
            "MSE": float(fidelity.mse.mean()),
            "score gap, median": float(fidelity.score_gap.median()),
        }
        (folder / "figures.json").write_text(json.dumps(figures))


def launched(name: str, launcher: list[str], arguments: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *launcher, "-m", "benchmarks.engine.two_processes", "--work", folder, *arguments]
        subprocess.run(
            command, check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True
        )
        return json.loads((Path(folder) / "figures.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="svae")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="no")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(chosen.work, chosen)
        return
    shared = ["--backend", chosen.backend, "--steps", str(chosen.steps), "--images", str(chosen.images)]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    runs = {
        "one process": ([], []),
        "two processes": (two, []),
        "one process, another seed": ([], ["--seed", "1"]),
        "one process, bf16": ([], ["--precision", "bf16"]),
    }
    found = {name: launched(name, launcher, [*shared, *more]) for name, (launcher, more) in runs.items()}
    print("| figure | " + " | ".join(found) + " |\n" + "|---" * (len(found) + 1) + "|")
    for figure in next(iter(found.values())):
        digits = 1 if figure.endswith(", s") else 4 if figure == "MSE" else 3
        print(f"| {figure} | " + " | ".join(f"{row[figure]:.{digits}f}" for row in found.values()) + " |")


if __name__ == "__main__":
    main()
