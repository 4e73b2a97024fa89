"""Lenses fitted to the end at 224 pixels behind an autoencoder: what a fit takes, and what judges say of its edits.

    python -m benchmarks.engine.large_fits svae medxgan introvac dif --data coffee --seed 0

Coffee leaves in colour (see benchmarks/common/leaves.py). The classifier is the ResNet-18 of timm, at the full
size; the judges are the two EfficientNets. Lenses are fitted on the half of the leaves that the ResNet-18 was not
trained on, and asked about leaves that no network was trained on. The autoencoder is trained once and kept in the
cache; CPU minutes are those of one thread, of autoencoder, lens and mask together.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch
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
ASKED = 16
#: Options of a fit, beside the backend's own defaults: a step's batch is half as large where that is 128.
OPTIONS: dict[str, dict[str, Any]] = {
    "svae": {"steps": 800, "batch_size": 64},
    "medxgan": {"steps": 500, "batch_size": 32},
    "introvac": {"steps": 800, "batch_size": 48, "mask": xlens.MaskOptions(pool=96)},
    "dif": {"steps": 800, "batch_size": 64, "mask": xlens.MaskOptions(pool=96)},
}
#: Steps of which passes without a surrogate are counted, and leaves of each class that they are taken with.
COUNTED, FEW = 2, 24


def autoencoder(classifier: xlens.Classifier, seen: Tensor, spec: Spec, seed: int) -> tuple[ConvCodec, float]:
    """Return the autoencoder of xlens for these leaves, and the CPU seconds that its training took."""
    path = CACHE / f"leaves-codec-{seed}.safetensors"
    if not path.exists():
        begun = time.process_time()
        torch.manual_seed(seed)
        run = Run(seed=seed, device=torch.device("cpu"), spec=spec, progress=False)
        found, _ = fit_codec(classifier, as_data(seen), run, CodecOptions())
        seconds = torch.tensor(time.process_time() - begun)
        save_file({**found.state_dict(), "seconds": seconds}, path)
    state = load_file(path)
    seconds = float(state.pop("seconds"))
    codec = ConvCodec(spec, state["shift"].shape[1], CodecOptions().width)
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


def without_surrogate(
    net: torch.nn.Module, codec: ConvCodec, few: Tensor, name: str, seed: int
) -> dict[str, float]:
    """Return the images that one step of the lens asks the classifier itself about, by direction."""
    passes = []
    options = {"warm_up": 0.0} if name == "medxgan" else {}
    for steps in (1, 1 + COUNTED):
        fitted = xlens.fit(
            net, few, name, codec=codec, surrogate="none", steps=steps, seed=seed,
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


def fit(
    data: Leaves, nets: dict[str, torch.nn.Module], name: str, seed: int, pictures: Path | None
) -> dict[str, Any]:
    """Return the figures of one lens."""
    net = Resized(nets["judge B (ResNet-18)"].net).eval()
    judges = {"judge Lite0": nets["classifier"], "judge Lite1": nets["judge A (Lite1)"]}
    seen = images(data.folder, "leaf", data.of_classifier)
    with torch.no_grad():
        spec = survey(xlens.Classifier(net), as_data(seen), progress=False).spec
    codec, seconds = autoencoder(xlens.Classifier(net), seen, spec, seed)
    begun = time.process_time()
    phases: dict[str, float] = {}

    def follow(event: xlens.StepEvent) -> None:
        phases.setdefault(f"{event.phase} from", time.process_time() - begun)
        phases[f"{event.phase} to"] = time.process_time() - begun

    fitted = xlens.fit(net, seen, name, codec=codec, seed=seed, progress=False, on_step=follow, **OPTIONS[name])
    minutes = (time.process_time() - begun + seconds) / 60
    figures: dict[str, Any] = {"CPU minutes of the fit": minutes, "of these the autoencoder": seconds / 60}
    figures["CPU minutes, by stage"] = ", ".join(f"{stage} {at / 60:.1f}" for stage, at in phases.items())
    for key in ("passes", "codec", "surrogate"):
        figures[key] = str(fitted.provenance.get(key, "none"))
    figures |= judged(
        fitted, asked_about(data, fitted.classifier), judges, pictures and pictures / f"{name}-{seed}.png"
    )
    kinds = torch.tensor([data.labels[one] for one in data.of_classifier])
    rows = torch.cat([(kinds == kind).nonzero()[:FEW, 0] for kind in (0, 1)])
    for kind, count in without_surrogate(net, codec, seen[rows], name, seed).items():
        figures[f"images {kind} a step of the lens, without a surrogate"] = count
        figures[f"images {kind} in all of these steps, without a surrogate"] = count * OPTIONS[name]["steps"]
    return figures


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
        for key, value in fit(data, nets, name, chosen.seed, chosen.pictures).items():
            print(f"| {key} | {f'{value:.4g}' if isinstance(value, float) else value} |", flush=True)


if __name__ == "__main__":
    main()
