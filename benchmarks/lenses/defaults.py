"""Every backend with its defaults on data that it was not tuned on.

    python -m benchmarks.lenses.defaults --data digits strokes garments leaves --backends introvac dif
    python -m benchmarks.lenses.defaults --data boards --folder DATA --backends introvac

Prints a table, one line for each fit. Classifiers are small CNNs, trained anew (500 steps). `--residual` leaves out
the mask, whose fit takes longer than some lenses: changes are then carried as they are decoded. ILVM explains the
classifier's last hidden layer.
`--option NAME=VALUE` is for what a default is compared with.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import nn

import xlens
from benchmarks.common.fit import fit
from benchmarks.common.tables import options_of
from benchmarks.common.tasks import Task
from benchmarks.common.unlike import UNLIKE, task_of
from xlens.datasets import small_cnn, train_classifier

BACKENDS = ("dif", "flow", "ilvm", "infill", "introvac", "jlvm", "medxgan", "svae")
#: What ILVM explains: the activations of the classifier's last hidden layer, before its ReLU.
LAYER = "7"
JUDGED = 200
HEAD = (
    "data",
    "lens",
    "agrees on reconstructions",
    "absolute error, of the mean input's",
    "flips on G(z0)",
    "flips on x'",
    "trustworthy",
    "CPU s",
    "warnings of the fit",
)


def network(task: Task, seed: int = 0) -> nn.Module:
    """Train the classifier."""
    torch.manual_seed(seed)
    model = small_cnn(tuple(task.train.shape[1:]), len(task.class_names))
    return train_classifier(model, task.train, task.train_labels, steps=500, seed=seed, progress=False)


def line(task: Task, model: nn.Module, backend: str, seed: int, masked: bool, options: dict) -> str:
    """Fit one lens, and return its line of the table."""
    layer = LAYER if backend == "ilvm" else None
    found = fit(task, model, backend, seed, mask=masked, layer=layer, **options)
    # A lens whose changes are small by themselves has no mask of its own, and they are added as they are.
    carry = None if masked else "residual"
    x = task.test[:JUDGED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = found.explainer.explain(x, carry=carry, attributions=(), n_steps=4)
    fidelity = explanation.fidelity
    with torch.no_grad():
        mean = (task.train.mean(0) - x).abs().mean()
    # What stands for a point of a layer are real inputs, whose distance says nothing of the lens.
    error = (explanation.reconstruction - x).abs().mean() / mean if layer is None else torch.nan
    said = [text for text in found.said if text.startswith(("fit: ", f"{backend}: ")) and "mask" not in text]
    figures = (
        fidelity.agrees.float().mean(),
        error,
        fidelity.decoding_flips.float().mean(),
        fidelity.flips.float().mean(),
        explanation.trustworthy.float().mean(),
    )
    cells = [task.name, backend, *(f"{float(figure):.2f}" for figure in figures), f"{found.seconds:.0f}"]
    return "| " + " | ".join([*cells, "; ".join(said) or "none"]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=UNLIKE, default=UNLIKE[:4])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--folder", type=Path, default=Path("data"), help="holds deeppcb/, for the boards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--residual", action="store_true", help="no mask: changes are carried as decoded")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
    for name in given.data:
        task = task_of(name, given.folder)
        model = network(task)
        for backend in given.backends:
            try:
                options = options_of(given.option)
                print(line(task, model, backend, given.seed, not given.residual, options), flush=True)
            except xlens.errors.XlensError as refused:
                print(f"| {name} | {backend} |{' - |' * 6} refused: {str(refused).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()
