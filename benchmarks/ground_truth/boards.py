"""Defects of printed circuit boards, against the true template: the counterfactual is known pixel by pixel.

    python -m benchmarks.ground_truth.boards --data deeppcb --half held-out

`--data` is a folder with ID_test.png, ID_temp.png and ID.txt (DeepPCB, repository tangsanli5201/DeepPCB). The
classifier sees crops of 160 pixels of some boards; crops of other boards are explained, one of each pair that it
calls defective, and free of defects where the template is shown. Beside infill: the drawn boxes, and the strongest
places of Occlusion and of Grad-CAM, each filled by the same fill and cut where the classifier first turns.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor

import xlens
from benchmarks.common.boards import SIDE, Boards, Crops, Seer, boards, classifier, crops, right
from benchmarks.common.pictures import sheet
from xlens.contracts import EditingLens

DEFECT, FREE = 1, 0
#: Shares of a crop that the strongest places of a map may take, tried in this order.
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08)
SURVEYED = 130
SHOWN = 6


def seen(data: Boards) -> Tensor:
    """Return crops of the classifier's boards with their defects and without, for the survey."""
    found = crops(data.folder, data.of_classifier[:: max(1, len(data.of_classifier) // SURVEYED)])
    return torch.cat([found.inputs, found.templates])


def asked(data: Boards, net: Seer, names: list[str]) -> Crops:
    """Return the crops that the classifier gets right, with the defects and without."""
    found = crops(data.folder, names)
    with torch.no_grad():
        kept = (net(found.inputs).argmax(1) == DEFECT) & (net(found.templates).argmax(1) == FREE)
    return Crops(found.inputs[kept], found.templates[kept], found.boxed[kept])


def figures(name: str, found: Crops, mask: Tensor, after: Tensor, net: Seer, seconds: float) -> str:
    """Return a row: how far counterfactuals ``(N, 1, H, W)`` are the templates."""
    with torch.no_grad():
        flips = net(after).argmax(1) == FREE
    same = (after > 0.5) == (found.templates > 0.5)
    defect = (found.inputs != found.templates) & found.boxed
    fixed = _count(same & defect) / _count(defect).clamp(min=1)
    wrong = _count(~same & (found.inputs == found.templates))
    edited = _count(mask) > 0
    inside = _count(mask & found.boxed)[edited] / _count(mask)[edited]
    cells = [
        name,
        f"{_mean(flips):.2f}",
        f"{_mean(fixed):.2f}",
        f"{_mean(fixed[flips]):.2f}",
        f"{_mean(wrong):.0f}",
        f"{_mean(inside):.2f}",
        f"{_mean(_count(mask & defect) / _count(defect).clamp(min=1)):.2f}",
        f"{_mean(mask.flatten(1)):.3f}",
        f"{seconds / len(mask):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


COLUMNS = ("flips", "defect's pixels right, of all", "of flipped", "pixels made wrong", "mask inside boxes")
HEAD = f"| method | {' | '.join(COLUMNS)} | defect in mask | area | CPU s |\n" + "|---" * 9 + "|"


def _count(where: Tensor) -> Tensor:
    return where.flatten(1).sum(1).float()


def _mean(values: Tensor) -> float:
    return float(values.float().mean()) if values.numel() else float("nan")


Score = Callable[[Tensor], Tensor]


def occlusion(net: Seer) -> Score:
    window, stride = (1, SIDE // 10, SIDE // 10), (1, SIDE // 13, SIDE // 13)

    def score(x: Tensor) -> Tensor:
        return Occlusion(net).attribute(
            x, window, strides=stride, baselines=0.5, target=DEFECT, perturbations_per_eval=32
        )

    return score


def grad_cam(net: Seer) -> Score:
    def score(x: Tensor) -> Tensor:
        found = LayerGradCam(net, net.features[-4]).attribute(x, target=DEFECT, relu_attributions=True)
        return LayerAttribution.interpolate(found, (SIDE, SIDE), "bilinear")

    return score


def filled_by(score: Score, found: Crops, net: Seer, lens: EditingLens) -> tuple[Tensor, Tensor]:
    """Return masks of the strongest places, as few as turn the classifier, and what they are filled to."""
    masks, after = [], []
    for x in found.inputs.split(1):
        order = score(x).detach().flatten().argsort(descending=True)
        for share in SHARES:
            mask = torch.zeros(x.numel(), dtype=torch.bool)
            mask[order[: round(share * x.numel())]] = True
            mask = mask.view_as(x)
            with torch.no_grad():
                tried = torch.where(mask, lens.fill(x, mask.float()), x)
                if int(net(tried).argmax()) == FREE:
                    break
        masks.append(mask)
        after.append(tried)
    return torch.cat(masks), torch.cat(after)


def explained(explainer: xlens.LensExplainer, found: Crops) -> xlens.Explanation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.UntrustworthyWarning)
        return explainer.explain(found.inputs, target=DEFECT, contrast=FREE, attributions=())


def draw(explanation: xlens.Explanation, found: Crops, path: Path) -> None:
    """Draw crop by crop the input, the counterfactual, and the template."""
    rows = []
    for i in range(min(SHOWN, len(found.inputs))):
        colour = (0.6, 0.6, 0.6)
        if bool(explanation.verdicts["flips"][i]):
            colour = (0.1, 0.7, 0.2) if bool(explanation.trustworthy[i]) else (0.95, 0.6, 0.0)
        shown = (found.inputs[i], explanation.counterfactual[i], found.templates[i])
        rows.append((*(one.expand(3, -1, -1) for one in shown), colour))
    sheet(rows, path, side=SIDE)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--crops", type=int, help="so many pairs, evenly spread; all without")
    parser.add_argument("--fills", nargs="+", default=["harmonic", "nearest"])
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = boards(chosen.data)
    net = classifier(data, chosen.seed)
    names = data.development if chosen.half == "development" else data.held_out
    names = names[:: max(1, len(names) // chosen.crops)][: chosen.crops] if chosen.crops else names
    share = right(net, crops(data.folder, names))
    found = asked(data, net, names)
    print(f"right on {share[0]:.3f} of the templates, {share[1]:.3f} of the defects; {len(found.inputs)} explained")
    print(HEAD, flush=True)
    for fill in chosen.fills:
        begun = time.process_time()
        options = {"fill": fill, "seed": chosen.seed, "progress": False}
        explainer = xlens.fit(net, seen(data), "infill", **options)
        fitted = time.process_time() - begun
        begun = time.process_time()
        with xlens.asking(explainer, EditingLens, "boards") as lens:
            target = torch.full((len(found.inputs),), DEFECT)
            edit = lens.edit(found.inputs, target, torch.full_like(target, FREE))
            spent = time.process_time() - begun
            mask = edit.parts.sum(1, keepdim=True) > 0
            apart = float(getattr(lens, "separation", torch.tensor(float("nan"))))
            name = f"infill, {fill} (separation {apart:.2f})"
            print(figures(name, found, mask, edit.filled, net, spent), flush=True)
            for name, score in {"Occlusion": occlusion(net), "Grad-CAM": grad_cam(net)}.items():
                begun = time.process_time()
                mask, after = filled_by(score, found, net, lens)
                seconds = time.process_time() - begun
                print(figures(f"{name}, {fill}", found, mask, after, net, seconds), flush=True)
            boxed = torch.where(found.boxed, lens.fill(found.inputs, found.boxed.float()), found.inputs)
            print(figures(f"drawn boxes, {fill}", found, found.boxed, boxed, net, 0.0), flush=True)
        print(f"fit: {fitted:.0f} CPU s", flush=True)
        if chosen.picture and fill == chosen.fills[0]:
            explanation = explained(explainer, Crops(*(part[:SHOWN] for part in vars(found).values())))
            draw(explanation, found, chosen.picture)


if __name__ == "__main__":
    main()
