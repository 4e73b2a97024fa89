"""Lenses fitted to the end at 224 pixels behind an autoencoder: what a fit takes, and what judges say of its edits.

    python -m benchmarks.engine.large_fits svae medxgan introvac dif --data coffee --seed 0

Coffee leaves in colour (see benchmarks/common/leaves.py). The classifier is the ResNet-18 of timm, at the full
size; the judges are the two EfficientNets. Lenses are fitted on the half of the leaves that the ResNet-18 was not
trained on, and asked about leaves that no network was trained on. The autoencoder is trained once and kept in the
cache; CPU minutes are those of one thread, of autoencoder, lens and mask together.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.leaves import Leaves, images, leaves, networks
from benchmarks.engine.size import Resized
from xlens.codec import CodecOptions, ConvCodec, fit_codec
from xlens.contracts import Run, Spec
from xlens.data import as_data
from xlens.explainer import LensExplainer
from xlens.training import survey

#: Leaves that the classifier calls ill, and such as it calls healthy, that are asked about.
ASKED = 8
#: Options of a fit, beside the backend's own defaults: fewer and smaller steps, for two CPU cores.
_MASK = xlens.MaskOptions(steps=80, batch_size=8, pool=96)
OPTIONS: dict[str, dict[str, Any]] = {
    "svae": {"steps": 400, "batch_size": 64, "mask": _MASK},
    "medxgan": {"steps": 400, "batch_size": 32, "mask": _MASK},
    "introvac": {"steps": 400, "batch_size": 48, "mask": _MASK},
    "dif": {"steps": 400, "batch_size": 64, "mask": _MASK},
}
#: Steps of which passes without a surrogate are counted, leaves of each class that they are taken with, and their
#: side, on which the number of passes does not depend.
COUNTED, FEW, SIDE = 2, 24, 64


def autoencoder(classifier: xlens.Classifier, seen: Tensor, seed: int) -> tuple[ConvCodec, float]:
    """Return the autoencoder of xlens for these leaves, and the CPU seconds that its training took."""
    path = CACHE / f"leaves-codec-{seed}.safetensors"
    if not path.exists():
        spec = survey(classifier, as_data(seen), progress=False).spec
        begun = time.process_time()
        torch.manual_seed(seed)
        run = Run(seed=seed, device=torch.device("cpu"), spec=spec, progress=False)
        found, _ = fit_codec(classifier, as_data(seen), run, CodecOptions())
        seconds = torch.tensor(time.process_time() - begun)
        save_file({**found.state_dict(), "seconds": seconds}, path)
    state = load_file(path)
    seconds = float(state.pop("seconds"))
    like = Spec(
        shape=tuple(seen.shape[1:]), num_classes=2, minimum=(0.0,) * 3, maximum=(1.0,) * 3, mean=(0.5,) * 3,
        std=(0.2,) * 3, class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    codec = ConvCodec(like, state["shift"].shape[1], CodecOptions().width)
    codec.load_state_dict(state)
    return codec.eval(), seconds


def asked_about(data: Leaves, classifier: xlens.Classifier) -> Tensor:
    """Return leaves that nobody has seen: so many that the classifier calls ill, then such as it calls healthy."""
    seen = {*data.of_classifier, *data.of_judges}
    rest = [name for name in sorted(data.labels, key=int) if name not in seen]
    found: dict[int, list[Tensor]] = {0: [], 1: []}
    for start in range(0, len(rest), 16):
        part = images(data.folder, "leaf", rest[start : start + 16])
        with torch.no_grad():
            classes = classifier(part).argmax(1)
        for image, kind in zip(part, classes.tolist(), strict=True):
            found[kind].append(image)
        if min(map(len, found.values())) >= ASKED:
            break
    return torch.stack(found[1][:ASKED] + found[0][:ASKED])


def without_surrogate(net: torch.nn.Module, few: Tensor, name: str, seed: int) -> dict[str, float]:
    """Return the images that one step of the lens asks the classifier itself about, by direction."""
    passes = []
    options = {"warm_up": 0.0} if name == "medxgan" else {}
    for steps in (1, 1 + COUNTED):
        fitted = xlens.fit(
            net, few, name, codec=CodecOptions(steps=1, growths=0), surrogate="none", steps=steps, seed=seed,
            mask=xlens.MaskOptions(steps=1, batch_size=2, pool=4), progress=False,
            batch_size=OPTIONS[name]["batch_size"], **options,
        )  # fmt: skip
        passes.append(fitted.provenance["passes"])
    return {kind: (passes[1][kind] - passes[0][kind]) / COUNTED for kind in ("forward", "backward")}


@torch.no_grad()
def judged(
    fitted: LensExplainer, inputs: Tensor, judges: dict[str, torch.nn.Module], path: Path | None
) -> dict[str, Any]:
    """Return what the classifier, the judges and the verdict say of reconstructions and edits."""
    classifier = fitted.classifier
    found = fitted.explain(inputs, attributions=())
    figures: dict[str, Any] = {}
    again = torch.cat([fitted.lens.decode(fitted.lens.encode(part)) for part in inputs.split(8)])
    target, edits = found.target, found.counterfactual
    for name, one in {"classifier": classifier, **judges}.items():
        before, after, made = (
            torch.cat([one(part).argmax(1) for part in each.split(8)]) for each in (inputs, edits, again)
        )
        if one is classifier:
            figures["agrees on the lens's reconstructions"] = float((made == before).float().mean())
        for kind, way in ((1, "removed"), (0, "added")):
            rows = (target == kind) & (before == target)
            confirmed = float((after[rows] == 1 - kind).float().mean())
            figures[f"disease {way}, {name}"] = f"{confirmed:.2f} of {int(rows.sum())}"
    for kind, way in ((1, "removed"), (0, "added")):
        figures[f"trustworthy, {way}"] = float(found.trustworthy[target == kind].float().mean())
    figures["change, mean over pixels"] = float((edits - inputs).abs().mean())
    if path is not None:
        from torchvision.utils import save_image

        some = [*range(4), *range(ASKED, ASKED + 4)]
        save_image(torch.cat([inputs[some], again[some], edits[some]]), path, nrow=len(some))
    return figures


def figures_of(
    data: Leaves, nets: dict[str, torch.nn.Module], name: str, seed: int, pictures: Path | None
) -> Iterator[tuple[str, Any]]:
    """Fit one lens, and yield its figures as they come."""
    net = Resized(nets["judge B (ResNet-18)"].net).eval()
    judges = {"judge Lite0": nets["classifier"], "judge Lite1": nets["judge A (Lite1)"]}
    seen = images(data.folder, "leaf", data.of_classifier)
    codec, seconds = autoencoder(xlens.Classifier(net), seen, seed)
    begun = time.process_time()
    ended: dict[str, float] = {}

    def follow(event: xlens.StepEvent) -> None:
        if event.step == 1:
            ended[f"until {event.phase}"] = time.process_time() - begun
        ended[event.phase] = time.process_time() - begun
        print(f"  {event.phase} {event.step} {time.process_time() - begun:.0f}", file=sys.stderr, flush=True)

    options = OPTIONS[name]
    fitted = xlens.fit(net, seen, name, codec=codec, seed=seed, progress=False, on_step=follow, **options)
    yield "CPU minutes of the fit, the autoencoder's among them", (time.process_time() - begun + seconds) / 60
    yield "of the autoencoder", seconds / 60
    yield (
        "of what follows, when each stage had ended",
        ", ".join(f"{one} {at / 60:.1f}" for one, at in ended.items()),
    )
    for key in ("passes", "codec", "surrogate"):
        yield key, str(fitted.provenance.get(key, "none"))
    path = None if pictures is None else pictures / f"{name}-{seed}.png"
    yield from judged(fitted, asked_about(data, fitted.classifier), judges, path).items()
    kinds = torch.tensor([data.labels[one] for one in data.of_classifier])
    rows = torch.cat([(kinds == kind).nonzero()[:FEW, 0] for kind in (0, 1)])
    few = F.interpolate(seen[rows], (SIDE, SIDE), mode="area")
    for kind, count in without_surrogate(net, few, name, seed).items():
        yield f"images {kind} in all steps of the lens, without a surrogate", count * options["steps"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lenses", nargs="+", choices=tuple(OPTIONS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="folder for inputs, reconstructions and edits, row by row")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = leaves(chosen.data, chosen.seed)
    nets = networks(data, chosen.seed)
    for name in chosen.lenses:
        print(f"\n| {name} | {OPTIONS[name]} |\n|---|---|", flush=True)
        for key, value in figures_of(data, nets, name, chosen.seed, chosen.pictures):
            print(f"| {key} | {f'{value:.4g}' if isinstance(value, float) else value} |", flush=True)


if __name__ == "__main__":
    main()
