"""ILVM and JLVM on Fashion-MNIST: how well attributes are read off single dimensions of a code.

    python -m benchmarks.lenses.ilvm --seeds 0 1 2
    python -m benchmarks.lenses.ilvm --seeds 0 --rows coupling

Prints tables. Figures of a seed and row are kept in the cache folder; --fresh makes them again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.layer import MEASURED, Layer, layer_of
from benchmarks.common.tasks import fashion
from xlens.metrics import interpretability

#: Share of the side information that is observed, on the same rows for all columns.
OBSERVED = 0.05
#: Test rows that the metric's own classifier is fitted on; it is scored on the others.
FITTED = 4000
FLOWS = {
    "linear lens": {"flow": "linear"},
    "coupling": {"flow": "coupling"},
    "planar, 16 layers": {"flow": "planar", "layers": 16},
    "planar, 32 layers": {"flow": "planar", "layers": 32},
    "spline": {"flow": "spline", "steps": 1100},
}
VAES = {
    "JLVM": {},
    "beta-VAE (beta = 4, no side information)": {"prior": "fixed", "beta": 3.0, "label_weight": 0.0},
    "VAE (no side information)": {"prior": "fixed", "beta": 0.0, "label_weight": 0.0},
}
OVER = "coupling over that VAE's codes"
CEILING = "logistic regression on the whole layer"
ROWS = ("raw layer", "PCA", CEILING, *FLOWS, *VAES, OVER)
#: Fewer steps than the default, for the sake of the machine.
VAE_STEPS = 1500
FIGURES = {
    "class, a dimension each": ("each", slice(0, 10)),
    "measured": ("each", slice(10, 13)),
    "class in one dimension": ("line", slice(0, 1)),
    "class in one dimension, and measured": ("line", slice(0, 4)),
}


def observed(side: Tensor, seed: int) -> Tensor:
    """Hide all but 5% of the rows of side information."""
    hidden = torch.rand(len(side), generator=torch.Generator().manual_seed(seed)) >= OBSERVED
    return side.masked_fill(hidden[:, None], torch.nan)


def as_columns(side: Tensor, way: str) -> Tensor:
    """Return the attributes to score: the class as ten yes-or-no columns, or as one."""
    if way == "line":
        return side
    return torch.cat([torch.nn.functional.one_hot(side[:, 0].long(), 10).float(), side[:, 1:]], 1)


def fitted(layer: Layer, row: str, way: str, seed: int) -> xlens.LensExplainer:
    """Fit a lens: a flow on the layer's activations, or a VAE on the images."""
    options = {
        "side_info": observed(layer.train_side, seed),
        "attributes": ("class", *MEASURED),
        "kinds": ("classes" if way == "each" else "single", *["measured"] * 3),
        "seed": seed,
        "progress": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row in FLOWS:
            classifier = xlens.Classifier(layer.tail(), layer="0")
            return xlens.fit(classifier, layer.train, "ilvm", **{**options, **FLOWS[row]})
        images = fashion().train.flatten(1)  # as vectors, which need no mask
        model = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 28, 28)), layer.model)
        vae = VAES["VAE (no side information)" if row == OVER else row]
        found = xlens.fit(model, images, "jlvm", **{**options, "steps": VAE_STEPS, **vae})
        return xlens.fit(model, images, "ilvm", over=found, **options) if row == OVER else found


@torch.no_grad()
def codes_of(layer: Layer, row: str, way: str, seed: int) -> tuple[Tensor, dict[str, float]]:
    """Return codes of the test images, and what else is to be said of the lens."""
    if row == "raw layer":
        return layer.test, {}
    if row == "PCA":
        _, _, components = torch.pca_lowrank(layer.train, layer.train.shape[1])
        return (layer.test - layer.train.mean(0)) @ components, {}
    began = time.process_time()
    with torch.enable_grad():
        explainer = fitted(layer, row, way, seed)
    said = {"seconds": time.process_time() - began}
    lens = explainer.lens
    with xlens.asking(explainer):
        if row in VAES or row == OVER:
            return lens.encode(fashion().test.flatten(1)), said
        codes = lens.encode(layer.test)
        tail = explainer.classifier.model
        logits, again = tail(layer.test), tail(lens.decode(codes))
        said |= {
            "float32": float((logits - again).abs().max()),
            "same": float((logits.argmax(1) == again.argmax(1)).float().mean()),
        }
        wide = layer.test.double()
        said["float64"] = float((lens.decode(lens.encode(wide)) - wide).abs().max())
    return codes, said


def ceiling(layer: Layer, way: str, seed: int) -> list[float]:
    """Return exp(mean log p) of logistic regression on the whole layer, from the same side information."""
    side = observed(layer.train_side, seed)
    known = ~side[:, 0].isnan()
    mean, spread = layer.train.mean(0), layer.train.std(0)
    train, test = ((part - mean) / spread for part in (layer.train[known], layer.test[FITTED:]))
    found = []
    columns = [as_columns(part, way).T for part in (side[known], layer.test_side[FITTED:])]
    for values, wanted in zip(*columns, strict=True):
        if len(values.unique()) > 20:
            edges = values.quantile(torch.tensor([0.25, 0.5, 0.75])).unique()
            values, wanted = (torch.searchsorted(edges, part.contiguous(), right=True) for part in (values, wanted))
        model = LogisticRegression(max_iter=300).fit(train.numpy(), values.numpy().astype(int))
        p = model.predict_proba(test.numpy())
        own = torch.from_numpy(p)[torch.arange(len(wanted)), wanted.long()]
        found.append(float(own.clamp_min(1e-6).log().mean().exp()))
    return found


def row_of(layer: Layer, row: str, seed: int) -> dict[str, float]:
    """Return all figures of a row."""
    parts: dict[str, list[float]] = {}
    means: dict[str, list[float]] = {}
    said: dict[str, float] = {}
    # What has no side information is the same whichever way the class is written.
    without = row in ("raw layer", "PCA") or VAES.get(row, {}).get("label_weight") == 0
    kept = codes_of(layer, row, "each", seed) if without else None
    for way in ("each", "line"):
        if row == CEILING:
            parts[way] = ceiling(layer, way, seed)
            continue
        codes, more = kept or codes_of(layer, row, way, seed)
        side = as_columns(layer.test_side, way)
        found = interpretability(
            codes[:FITTED], side[:FITTED], test_codes=codes[FITTED:], test_side_info=side[FITTED:], max_rows=2000
        )
        parts[way], means[way] = found.likelihood.tolist(), found.probability.tolist()
        for name, value in more.items():
            worst = min if name == "same" else max
            said[name] = worst(value, said.get(name, value))
    figures = {name: sum(parts[way][part]) / len(parts[way][part]) for name, (way, part) in FIGURES.items()}
    if means:
        figures |= {f"{name}, mean p": sum(means[w][p]) / len(means[w][p]) for name, (w, p) in FIGURES.items()}
    return {**figures, **said}


def kept(seed: int, row: str, fresh: bool = False) -> dict[str, float]:
    """Return the figures of a row, from the cache folder where they are there."""
    path = CACHE / f"ilvm-{seed}-{ROWS.index(row)}.json"
    if fresh or not path.exists():
        path.write_text(json.dumps(row_of(layer_of(seed), row, seed)))
    return json.loads(path.read_text())


def interpreted(seeds: list[int], rows: list[str], fresh: bool) -> None:
    """Print the table of interpretability, and what is lost on the way."""
    table: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        layer_of(seed)  # says how good f is, also where every row is kept
        for row in rows:
            table.setdefault(row, []).append(kept(seed, row, fresh))
            print(seed, row, {k: round(v, 6) for k, v in table[row][-1].items()}, flush=True)
    for names, title in (
        (list(FIGURES), "exp(mean log p) on rows that no lens saw"),
        ([f"{name}, mean p" for name in FIGURES], "mean p, the paper's figure"),
        (["float32", "float64", "same", "seconds"], "what is lost: logits, activations, classes; CPU seconds"),
    ):
        print(f"\n{title}\n\n| |", " | ".join(names), "|\n|" + "---|" * (len(names) + 1))
        for row, found in table.items():
            cells = [_cell([one[name] for one in found if name in one]) for name in names]
            if any(cells):
                print(f"| {row} |", " | ".join(cells), "|")


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    shown = "{:.1e}" if max(values) < 1e-2 else "{:.3f}" if max(values) <= 2 else "{:.0f}"
    middle = sorted(values)[len(values) // 2]
    spread = f" ({shown.format(min(values))} to {shown.format(max(values))})" if len(values) > 1 else ""
    return shown.format(middle) + spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--fresh", action="store_true")
    chosen = parser.parse_args()
    interpreted(chosen.seeds, chosen.rows, chosen.fresh)


if __name__ == "__main__":
    main()
