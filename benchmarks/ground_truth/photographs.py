"""Local evidence in photographs: coffee leaves whose symptoms are drawn, at 224 pixels.

    python -m benchmarks.ground_truth.photographs --data coffee --seeds 0

`--data` is a folder with labels.csv, leaf/, masked/ and masks/ (BRACOL, repository esgario/lara2018, MIT). The
classifier is EfficientNet-Lite0 with a linear head; the judges are EfficientNet-Lite1 with a head of its own and a
ResNet-18 trained from scratch, both on leaves that the classifier has not seen. Nobody has seen the leaves that are
explained. `--half development` is for choosing, `--half held-out` for reporting. `--picture` draws twelve of them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import torch
from scipy import ndimage
from torch import Tensor, nn

import xlens
from benchmarks.common.leaves import Leaves, grown, images, leaves, networks, surfaces, symptoms
from benchmarks.common.pictures import sheet
from benchmarks.common.tables import table

#: An edited pixel is right within so many pixels of a symptom.
NEAR = 8
ILL, HEALTHY = 1, 0
#: Places that a mask is tried at, of which the one that keeps most of it inside the object is the placebo.
PLACES = 60
SHOWN = 12


class Passes:
    """Counts the inputs that a network is asked about, by a hook on it."""

    def __init__(self, net: nn.Module) -> None:
        self.count = 0
        net.register_forward_hook(self._see)

    def _see(self, _: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
        self.count += len(given[0])


@torch.no_grad()
def healthy(net: nn.Module, inputs: Tensor) -> Tensor:
    """Return whether a network calls each input healthy, ``(N,)``."""
    return torch.cat([net(part).argmax(1) == HEALTHY for part in inputs.split(8)])


def moved(mask: Tensor, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask ``(1, H, W)``, mirrored and moved to where it lies inside `allowed` and off itself."""
    free = allowed & ~grown(mask[None], 4)[0]
    best, most = torch.zeros_like(mask), -1
    for _ in range(PLACES):
        down, right = torch.randint(-90, 91, (2,), generator=generator).tolist()
        axes = [axis for axis in (1, 2) if torch.rand((), generator=generator) < 0.5]
        tried = mask.flip(axes).roll((down, right), (1, 2)) & free
        if int(tried.sum()) > most:
            best, most = tried, int(tried.sum())
    return best


def fitted(data: Leaves, net: nn.Module, seed: int, **options: object) -> tuple[xlens.LensExplainer, float]:
    """Return the explainer of a classifier, fitted on the leaves of its own half, and its CPU seconds."""
    classifier = xlens.Classifier(net, class_names=("healthy", "diseased"))
    begun = time.process_time()
    seen = images(data.folder, "leaf", data.of_classifier)
    explainer = xlens.fit(classifier, seen, "infill", seed=seed, progress=False, **options)
    return explainer, time.process_time() - begun


def figures(
    data: Leaves, nets: dict[str, nn.Module], names: list[str], explainer: xlens.LensExplainer, seed: int
) -> tuple[dict[str, float], xlens.Explanation, Tensor]:
    """Return figures on leaves with drawn symptoms, their explanation, and where the symptoms are."""
    net, *judges = nets.values()
    inputs, true = images(data.folder, "masked", names), symptoms(data.folder, names)
    counted = ~healthy(net, inputs)
    inputs, true, leaf = inputs[counted], true[counted], surfaces(data.folder, names)[counted]
    passes = Passes(net)
    begun = time.process_time()
    explainer.counterfactual(inputs, target=ILL, contrast=HEALTHY)
    searching, asked = time.process_time() - begun, passes.count
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.UntrustworthyWarning)
        found = explainer.explain(inputs, target=ILL, contrast=HEALTHY)
    explaining = time.process_time() - begun
    after, mask = found.counterfactual, found.mask > 0.5
    edited = mask.flatten(1).any(1)
    truth = _filled(explainer, inputs, grown(true))
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([moved(one, on, generator) for one, on in zip(mask, leaf, strict=True)])
    placebo = _filled(explainer, inputs, places)
    flips, possible = found.verdicts["flips"], healthy(net, truth)
    figure = {
        "leaves": float(len(inputs)),
        "the classifier flips": _share(flips),
        "the classifier flips, true mask filled": _share(possible),
        "flips, of those that the true mask flips": _share(flips[possible]),
        "no local counterfactual": _share(~edited),
    }
    figure |= _where(mask[edited], true[edited])
    for name, judge in zip(list(nets)[1:], judges, strict=True):
        ill = ~healthy(judge, inputs)
        sees, sees_truth = healthy(judge, after), healthy(judge, truth)
        figure[f"{name}: healthy, of all"] = _share(sees[ill])
        figure[f"{name}: healthy, true mask filled"] = _share(sees_truth[ill])
        figure[f"{name}: of edited"] = _share(sees[ill & edited])
        figure[f"{name}: of edited, true mask filled"] = _share(sees_truth[ill & edited])
        figure[f"{name}: of edited whose true mask convinces it"] = _share(sees[ill & edited & sees_truth])
        figure[f"{name}: of trustworthy"] = _share(sees[ill & found.trustworthy])
        figure[f"{name}: placebo"] = _share(healthy(judge, placebo)[ill & edited])
    figure["the classifier: placebo"] = _share(healthy(net, placebo)[edited])
    figure |= _confirmed(found, inputs, judges)
    for name, held in found.verdicts.items():
        if held is not None:
            figure[f"verdict {name}, of all"] = _share(held)
            figure[f"verdict {name}, of edited"] = _share(held[edited])
    figure["trustworthy, of all"] = _share(found.trustworthy)
    figure["CPU seconds an image, search"] = searching / len(inputs)
    figure["passes of the classifier an image, search"] = asked / len(inputs)
    figure["CPU seconds an image, explain"] = explaining / len(inputs)
    return figure, found, true


def _filled(explainer: xlens.LensExplainer, inputs: Tensor, masks: Tensor) -> Tensor:
    with xlens.asking(explainer, xlens.contracts.EditingLens, "photographs") as lens:
        pairs = zip(inputs.split(1), masks.split(1), strict=True)
        return torch.cat([torch.where(mask, lens.fill(one, mask.float()), one) for one, mask in pairs])


def _where(mask: Tensor, true: Tensor) -> dict[str, float]:
    """Return how edits ``(N, 1, H, W)`` lie on symptoms."""
    near = [torch.from_numpy(ndimage.distance_transform_edt(~one[0].numpy()) <= NEAR) for one in true]
    close = torch.stack(near)[:, None] if near else mask
    area, size = mask.flatten(1).sum(1), true.flatten(1).sum(1)
    return {
        f"precision within {NEAR} pixels": _mean((mask & close).flatten(1).sum(1) / area),
        f"chance of that: image within {NEAR} pixels": _mean(close.flatten(1).float().mean(1)),
        "recall": _mean((mask & true).flatten(1).sum(1) / size),
        "edited area, median": float(mask.flatten(1).float().mean(1).median()) if len(mask) else float("nan"),
        "edited area over true area, median": float((area / size).median()) if len(mask) else float("nan"),
    }


def _confirmed(found: xlens.Explanation, inputs: Tensor, judges: list[nn.Module]) -> dict[str, float]:
    """Return what share of edits the judges confirm: those that they call ill before, and healthy after."""
    each = torch.stack([~healthy(j, inputs) & healthy(j, found.counterfactual) for j in judges])
    trusted, flipped = found.trustworthy, found.verdicts["flips"] & ~found.trustworthy
    return {
        "trustworthy, at least one judge confirms": _share(each.any(0)[trusted]),
        "trustworthy, both judges confirm": _share(each.all(0)[trusted]),
        "flips and is not trustworthy, at least one judge confirms": _share(each.any(0)[flipped]),
        "flips and is not trustworthy, both judges confirm": _share(each.all(0)[flipped]),
    }


def _share(held: Tensor) -> float:
    return _mean(held.float())


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")


def draw(found: xlens.Explanation, true: Tensor, path: Path) -> None:
    """Draw leaf by leaf: the input, the same with the edit's outline and the symptoms' beside it, and x'."""
    rows = []
    for i in range(min(SHOWN, len(true))):
        image, mask = found.inputs[i], found.mask[i] > 0.5
        lined = _outlined(_outlined(image, true[i], (1.0, 1.0, 0.0)), mask, (1.0, 0.0, 0.0))
        colour = (0.6, 0.6, 0.6)
        if bool(found.verdicts["flips"][i]):
            colour = (0.1, 0.7, 0.2) if bool(found.trustworthy[i]) else (0.95, 0.6, 0.0)
        rows.append((image, lined, found.counterfactual[i], colour))
    sheet(rows, path)


def _outlined(image: Tensor, mask: Tensor, colour: tuple[float, float, float]) -> Tensor:
    edge = grown(mask[None], 2)[0] & ~mask
    return torch.where(edge, torch.tensor(colour)[:, None, None], image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--half", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--leaves", type=int, help="the first so many by ID; all without")
    parser.add_argument("--fill", choices=("harmonic", "nearest", "learned"), help="the backend's default without")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    options = {"fill": chosen.fill} if chosen.fill else {}
    results = []
    for seed in chosen.seeds:
        data = leaves(chosen.data, seed)
        nets = networks(data, seed)
        names = data.development if chosen.half == "development" else data.held_out
        explainer, seconds = fitted(data, nets["classifier"], seed, **options)
        found, explanation, true = figures(data, nets, names[: chosen.leaves], explainer, seed)
        results.append({**found, "CPU seconds of the fit": seconds})
        if chosen.picture and seed == chosen.seeds[0]:
            draw(explanation, true, chosen.picture)
    print(table(results, chosen.seeds))


if __name__ == "__main__":
    main()
