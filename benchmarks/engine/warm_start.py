"""A lens for a classifier that was trained one more epoch: fitted anew, begun with the earlier lens, left as it is.

    python -m benchmarks.engine.warm_start --backend svae --steps 900 --seeds 0 1 2

Fashion-MNIST, coat against shirt. The classifier has been trained for six epochs and has a lens; then it is trained
for one more. Lenses are asked about the new classifier: the earlier one as it is, two begun with it (a ninth and a
third of the steps), and two fitted anew (a third, and all). `reached` counts the figures that are no worse than
those of the full new fit.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import logits_of, predicted, trained
from benchmarks.common.tasks import Task, pair
from xlens.data import as_data
from xlens.training.stream import BatchStream

#: Figure -> whether more is better.
FIGURES = {
    "the classifier agrees on reconstruction": True,
    "reconstruction MSE": False,
    "score gap, median, in logits": False,
    "the classifier flips on x'": True,
    "the classifier flips on G(z0)": True,
    "judge A sees the flip on G(z0)": True,
    "trustworthy": True,
}
COUNT = 200


def one_more_epoch(model: nn.Module, task: Task, seed: int) -> nn.Module:
    """Return a copy trained for one more epoch at a constant rate."""
    model = copy.deepcopy(model).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-3)
    stream = BatchStream(as_data((task.train, task.train_labels)), 64, seed + 77)
    for _ in range(len(task.train) // 64):
        batch = stream.next()
        optimizer.zero_grad()
        F.cross_entropy(model(batch.inputs), batch.labels, label_smoothing=0.02).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def figures(explainer: xlens.LensExplainer, judge: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Return the fidelity of a lens on test images."""
    explanation = explainer.explain(images, n_steps=8)
    fidelity = explanation.fidelity
    with xlens.asking(explainer):
        decoded = explainer.lens.decode(explanation.counterfactual_codes)
    counted = predicted(judge, images) == explanation.target
    seen = predicted(judge, decoded) == explanation.contrast
    values = (
        fidelity.agrees.float().mean(),
        fidelity.mse.mean(),
        fidelity.score_gap.median(),
        fidelity.flips.float().mean(),
        fidelity.decoding_flips.float().mean(),
        seen[counted].float().mean(),
        explanation.trustworthy.float().mean(),
    )
    return {name: float(value) for name, value in zip(FIGURES, values, strict=True)}


def measure(task: Task, backend: str, steps: int, seed: int) -> dict[str, dict[str, float]]:
    """Return figures by lens."""
    nets = trained(task, seed, 6)
    model, judge = nets["f"], nets["judge A (residual)"]
    retrained = one_more_epoch(model, task, seed)
    before, after = logits_of(model, task.test), logits_of(retrained, task.test)
    moved = (after.diff(dim=1) - before.diff(dim=1)).abs().median()
    changed = (before.argmax(1) != after.argmax(1)).float().mean()
    was, now = ((logits.argmax(1) == task.test_labels).float().mean() for logits in (before, after))
    print(
        f"seed {seed}: one more epoch changes the classifier's class on {changed:.1%} of the test images, "
        "its margin by "
        f"{moved:.2f} (median), its accuracy from {was:.3f} to {now:.3f}",
        flush=True,
    )
    images = task.test[:COUNT]
    folder = CACHE / f"warm-start-{backend}-{steps}-{seed}"
    if not (folder / "lens.json").exists():
        xlens.fit(model, task.train, backend, steps=steps, seed=seed, progress=False).save(folder)
    earlier = xlens.load(folder, model)
    found = {"the earlier lens, as it is": figures(xlens.load(folder, retrained, strict=False), judge, images)}
    found["the earlier lens, as it is"] |= {"steps": 0, "seconds": 0.0}
    plans = {
        "begun with it, a ninth of the steps": (steps // 9, earlier),
        "begun with it, a third of the steps": (steps // 3, earlier),
        "fitted anew, a third of the steps": (steps // 3, None),
        "fitted anew": (steps, None),
    }
    for name, (budget, start) in plans.items():
        began = time.process_time()
        explainer = xlens.fit(
            retrained, task.train, backend, steps=budget, start_from=start, seed=seed + 10, progress=False
        )
        seconds = time.process_time() - began
        found[name] = figures(explainer, judge, images) | {"steps": budget, "seconds": seconds}
        with tempfile.TemporaryDirectory() as saved:
            # The saved fingerprint is that of the new classifier.
            explainer.save(saved)
            xlens.load(saved, retrained)
    return found


def table(results: list[dict[str, dict[str, float]]]) -> str:
    """Return a markdown table: figures by lens, seed by seed."""
    lenses = list(results[0])
    lines = ["| figure | " + " | ".join(lenses) + " |", "|---" * (len(lenses) + 1) + "|"]
    for figure in (*FIGURES, "steps", "seconds"):
        cells = []
        for lens in lenses:
            digits = 0 if figure in ("steps", "seconds") else 4 if "MSE" in figure else 3
            cells.append(", ".join(f"{rows[lens][figure]:.{digits}f}" for rows in results))
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    cells = []
    for lens in lenses:
        counts = [sum(_reached(rows, lens, figure) for figure in FIGURES) for rows in results]
        cells.append(", ".join(f"{count} of {len(FIGURES)}" for count in counts))
    lines.append("| reached | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _reached(rows: dict[str, dict[str, float]], lens: str, figure: str) -> bool:
    mine, new = rows[lens][figure], rows["fitted anew"][figure]
    return mine >= new if FIGURES[figure] else mine <= new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=900, help="of a fit in full")
    parser.add_argument("--fresh", action="store_true", help="measure again what the cache holds")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", xlens.errors.XlensWarning)
    task, results = pair(), []
    for seed in chosen.seeds:
        kept = CACHE / f"warm-start-{chosen.backend}-{chosen.steps}-{seed}.json"
        if chosen.fresh or not kept.exists():
            kept.write_text(json.dumps(measure(task, chosen.backend, chosen.steps, seed)))
        results.append(json.loads(kept.read_text()))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
