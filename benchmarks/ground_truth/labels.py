"""Many labels, one label: the four diseases of coffee leaves, each explained alone by infill.

    python -m benchmarks.ground_truth.labels --data coffee --seed 0

`--data` is a folder with labels.csv and leaf/ (BRACOL, repository esgario/lara2018, MIT). A small network is
trained from scratch on one half of the leaves at 96 pixels, with one logit per disease. Of the other half the first
leaves are explained that have the disease and on which the network says so: the disease against its absence, with
the other three as they are. A second table is of leaves with drawn symptoms, which neither the network nor a judge
of another topology, trained on the other half, has seen: of those with this disease alone, on which both say so, it
tells whether the judge too finds the disease gone, and how much of the edit lies on symptoms. `--picture` draws the
first leaves of each disease that are explained: the input, where it was filled, and the counterfactual.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import xlens
from benchmarks.common.diseases import SIDE, Diseases, Patches, diseases, trained
from benchmarks.common.leaves import DISEASES, grown, images, leaves, surfaces, symptoms
from benchmarks.common.pictures import sheet

#: Leaves of each disease in the picture, and so many a row.
SHOWN, WIDE = 6, 3
GREEN, ORANGE, GREY = (0.1, 0.7, 0.2), (0.95, 0.6, 0.0), (0.6, 0.6, 0.6)


def area_under_curve(scores: Tensor, has: Tensor) -> float:
    """Return the chance that a leaf with the disease scores above one without."""
    pairs = scores[has][:, None] - scores[~has][None]
    return float((pairs > 0).float().mean() + 0.5 * (pairs == 0).float().mean())


def removed(explainer: xlens.Explainer, inputs: Tensor, name: str) -> xlens.Explanation:
    """Explain a disease against its absence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.UntrustworthyWarning)
        return explainer.explain(inputs, target=name, contrast=f"no {name}", attributions=())


def turned_labels(found: xlens.Explanation) -> tuple[Tensor, Tensor]:
    """Return which other labels are decided otherwise, ``(N, 3)``, and the change of their probabilities."""
    others = torch.stack(list(found.other_labels.values()), 1)
    return (others[..., 0] > 0.5) != (others[..., 1] > 0.5), others[..., 1] - others[..., 0]


def drawn_rows(found: xlens.Explanation) -> list[tuple[Tensor, Tensor, Tensor, tuple[float, float, float]]]:
    """Return the first leaves, where they were filled (red), and counterfactuals.

    The colour is grey where the label does not turn alone, else green where the explanation holds and orange where
    it does not. A disease of fewer leaves is made up to as many with white.
    """
    alone = found.fidelity.flips & ~turned_labels(found)[0].any(1)
    rows = []
    for i in range(min(SHOWN, len(found.inputs))):
        red = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
        marked = torch.where(found.mask[i] > 0.5, red, found.inputs[i])
        colour = GREY if not bool(alone[i]) else GREEN if bool(found.trustworthy[i]) else ORANGE
        rows.append((found.inputs[i], marked, found.counterfactual[i], colour))
    empty = torch.ones(3, SIDE, SIDE)
    return rows + [(empty, empty, empty, (1.0, 1.0, 1.0))] * (SHOWN - len(rows))


def row_of(
    name: str, found: xlens.Explanation, inputs: Tensor, auc: float, fitting: float, explaining: float
) -> list[str]:
    """Return one disease's figures on leaves without drawn symptoms, as cells."""
    turned, moved = turned_labels(found)
    flips = found.fidelity.flips
    area = found.mask.flatten(1).mean(1)[flips]
    appears = turned & (moved > 0)
    more, less = (part[flips].float().mean(0).tolist() for part in (appears, turned & ~appears))
    which = [f"{other} +{more[i]:.2f} -{less[i]:.2f}" for i, other in enumerate(found.other_labels)]
    return [
        name,
        f"{auc:.3f}",
        str(len(inputs)),
        share(flips),
        share(flips & ~turned.any(1)),
        share(found.trustworthy),
        f"{float(moved[flips].abs().mean()):.3f}",
        ", ".join(which),
        f"{float(area.median()):.3f}" if len(area) else "-",
        f"{fitting:.0f} / {explaining / max(1, len(inputs)):.1f}",
    ]


def share(held: Tensor) -> str:
    """Return the share that holds, as a cell."""
    return f"{float(held.float().mean()):.2f}" if len(held) else "-"


def row_of_drawn(
    explainer: xlens.Explainer, judge: nn.Module, k: int, inputs: Tensor, spots: Tensor, leaf: Tensor
) -> list[str]:
    """Return one disease's figures on leaves with drawn symptoms of it alone, as cells.

    Args:
        explainer: of the disease.
        judge: the other network.
        k: number of the disease.
        inputs: ``(N, 3, H, W)``.
        spots: ``(N, 1, H, W)`` bool, what is drawn as a symptom.
        leaf: ``(N, 1, H, W)`` bool, the leaf with its symptoms.
    """
    if not len(inputs):
        return [DISEASES[k], "0", *["-"] * 7]
    found = removed(explainer, inputs, DISEASES[k])
    flips, mask = found.fidelity.flips, found.mask > 0.5
    with torch.no_grad():
        confirmed = judge(found.counterfactual)[:, k] < 0
    near = grown(spots, 1)
    hit = [float(mask[i][near[i]].sum() / mask[i].sum()) for i in flips.nonzero()[:, 0].tolist()]
    taken = [float(mask[i][spots[i]].float().mean()) for i in flips.nonzero()[:, 0].tolist()]
    chance = [float(near[i][leaf[i]].float().mean()) for i in flips.nonzero()[:, 0].tolist()]
    return [
        DISEASES[k],
        str(len(inputs)),
        share(flips),
        share(flips & ~turned_labels(found)[0].any(1)),
        share(found.trustworthy),
        share(confirmed[flips]),
        *(f"{sum(one) / len(one):.2f}" if one else "-" for one in (hit, chance, taken)),
    ]


HEAD = (
    "disease",
    "AUC, unseen",
    "explained",
    "flips",
    "flips alone",
    "trustworthy",
    "others move, mean",
    "others that appear (+), vanish (-), of flips",
    "area, median",
    "CPU s: fit / leaf",
)
HEAD_OF_DRAWN = (
    "disease",
    "leaves of it alone",
    "flips",
    "flips alone",
    "trustworthy",
    "judge agrees, of flips",
    "of the edit, on symptoms",
    "by chance",
    "of the symptoms, edited",
)


def said(cells: Sequence[str]) -> None:
    """Print one line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--leaves", type=int, default=30, help="explained of each disease, at most")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    split = leaves(chosen.data, chosen.seed)
    seen, unseen = (images(chosen.data, "leaf", names, SIDE) for names in (split.of_classifier, split.of_judges))
    has = diseases(chosen.data, split.of_judges)
    net = trained(Diseases, seen, diseases(chosen.data, split.of_classifier), chosen.seed)
    judge = trained(Patches, unseen, has, chosen.seed)
    every = xlens.Classifier(net, outputs="multilabel", labels=DISEASES)
    with every.frozen(), torch.no_grad():
        logits = torch.cat([every(part) for part in unseen.split(64)])
    drawn = split.held_out
    ill, whole = diseases(chosen.data, drawn), images(chosen.data, "masked", drawn, SIDE)
    spots, leaf = symptoms(chosen.data, drawn, SIDE), surfaces(chosen.data, drawn, SIDE)
    with every.frozen(), torch.no_grad():
        agreed = torch.cat([(every(part) > 0) & (judge(part) > 0) for part in whole.split(64)])
    of_drawn, pictures = [], []
    said(HEAD)
    said(["---"] * len(HEAD))
    for k, name in enumerate(DISEASES):
        begun = time.process_time()
        explainer = xlens.fit(every.about(name), seen, "infill", seed=chosen.seed, progress=False)
        fitting = time.process_time() - begun
        rows = (has[:, k] & (logits[:, k] > 0)).nonzero()[: chosen.leaves, 0]
        begun = time.process_time()
        found = removed(explainer, unseen[rows], name)
        explaining = time.process_time() - begun
        auc = area_under_curve(logits[:, k], has[:, k])
        said(row_of(name, found, unseen[rows], auc, fitting, explaining))
        pictures += drawn_rows(found)
        alone = ill[:, k] & (ill.sum(1) == 1) & agreed[:, k] & spots.flatten(1).any(1)
        of_drawn.append(row_of_drawn(explainer, judge, k, whole[alone], spots[alone], leaf[alone]))
    print()
    said(HEAD_OF_DRAWN)
    said(["---"] * len(HEAD_OF_DRAWN))
    for row in of_drawn:
        said(row)
    if chosen.picture is not None:
        sheet(pictures, chosen.picture, side=SIDE, wide=WIDE)


if __name__ == "__main__":
    main()
