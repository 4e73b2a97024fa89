"""Every lens on inputs, on a pooled layer, on a spatial map and on a transformer's tokens: Fashion-MNIST.

    python -m benchmarks.lenses.layers --steps 300

Prints a table of coats against shirts, by a ResNet and a ViT; `--only svae:tokens` does one cell. Cells are kept
in the cache, and printed again without being measured again. A decoder depends on layer and seed alone, and not
on the lens: it is trained once for each layer.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import predicted, residual_judge, wide_judge
from benchmarks.common.tasks import Task, pair
from xlens.data import as_data
from xlens.datasets import small_cnn, train_classifier
from xlens.errors import XlensError
from xlens.stages.decoder import DecoderOptions, fit_decoder

LENSES = ("svae", "dif", "introvac", "flow", "medxgan", "jlvm", "ilvm", "infill")
#: Where -> the network, and its layer.
SPACES = {
    "pixels": ("resnet", None),
    "pooled": ("resnet", "9"),
    "spatial": ("resnet", "5"),
    "tokens": ("vit", "blocks.1"),
}
#: Inputs that lenses are fitted on, that counterfactuals are judged on, and that are explained.
FITTED, JUDGED, EXPLAINED = 1500, 100, 3
COLUMNS = ("flips", "image flips", "judge", "judge, real", "left out", "error", "fit, s", "explain, s")


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norms[0](x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.layers(self.norms[1](x))


class ViT(nn.Module):
    """Three blocks on 16 patches of 7x7 pixels and a class token."""

    def __init__(self, width: int = 48, num_classes: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, 7)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(Block(width), Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def networks(task: Task) -> dict[str, nn.Module]:
    """Return both classifiers and a judge for each, of another topology, trained once and kept."""
    shape = tuple(task.train.shape[1:])
    makers = {
        "resnet": lambda: residual_judge(shape),
        "vit": ViT,
        "judge of resnet": lambda: wide_judge(shape),
        "judge of vit": lambda: small_cnn(shape),
    }
    found = {}
    for seed, (name, make) in enumerate(makers.items()):
        torch.manual_seed(seed)
        net, path = make(), CACHE / f"layers-{name.replace(' ', '-')}.safetensors"
        if path.exists():
            net.load_state_dict(load_file(path))
        else:
            train_classifier(net, task.train, task.train_labels, steps=300, seed=seed, progress=False)
            CACHE.mkdir(exist_ok=True)
            save_file(net.state_dict(), path)
        found[name] = net.eval().requires_grad_(False)
        right = (predicted(net, task.test) == task.test_labels).float().mean()
        print(f"{name}: right on {right:.3f} of test images", flush=True)
    return found


def cell(task: Task, nets: dict[str, nn.Module], lens: str, space: str, steps: int) -> dict[str, Any]:
    """Return the figures of one lens in one place, or the reason why there are none."""
    network, layer = SPACES[space]
    classifier = xlens.Classifier(nets[network], layer=layer, class_names=task.class_names)
    options: dict[str, Any] = {} if lens == "infill" else {"steps": steps}
    if layer is None and lens != "infill":
        # A lens on a layer edits no image, and infill brings a mask of its own.
        options["mask"] = xlens.MaskOptions(steps=60, pool=256)
    begun = time.process_time()
    try:
        explainer = xlens.fit(
            classifier,
            task.train[:FITTED],
            lens,
            progress=False,
            **options,
        )
    except XlensError as fault:
        return {"reason": str(fault).splitlines()[0]}
    fitted = time.process_time() - begun
    staged = layer is not None and lens != "ilvm"
    if staged:
        decode(explainer, task, space, steps)
    judge, images = nets[f"judge of {network}"], task.test[:JUDGED]
    target = predicted(nets[network], images)
    found: dict[str, Any] = {"fit, s": fitted}
    # Judges are asked about images that they see as the classifier does.
    counted = predicted(judge, images) == target

    def seen(net: nn.Module, shown: Tensor, rows: Tensor) -> float:
        return float((predicted(net, shown)[rows] == 1 - target[rows]).float().mean())

    every = torch.ones_like(counted)
    real = explainer.counterfactual(images)
    if layer is None:
        found |= {"flips": seen(nets[network], real, every), "judge": seen(judge, real, counted)}
    else:
        with xlens.asking(explainer) as asked, torch.no_grad():
            moved = asked.counterfactual(asked.encode(images), target, 1 - target)
            said = classifier.tail(asked.decode(moved), images).argmax(1)
        found["flips"] = float((said == 1 - target).float().mean())
        found["judge, real"] = seen(judge, real, counted)
        if staged:
            decoded = explainer.counterfactual(images, show="decode")
            found["image flips"] = seen(nets[network], decoded, every)
            found["judge"] = seen(judge, decoded, counted)
    begun = time.process_time()
    explanation = explainer.explain(images[:EXPLAINED])
    found["explain, s"] = (time.process_time() - begun) / EXPLAINED
    difference = (explanation.scores - explanation.counterfactual_scores).double()
    missed = explanation.convergence_delta["lig"].double().abs()
    found["error"] = float((missed / difference.abs().clamp_min(0.1)).max())
    if "not in the code" in explanation.feature_names:
        # Of everything that parts contribute, in magnitude.
        sizes = explanation.feature_contributions.abs()
        found["left out"] = float((sizes[:, -1] / sizes.sum(1)).mean())
    return found


def decode(explainer: xlens.LensExplainer, task: Task, space: str, steps: int) -> None:
    """Give the lens the decoder of its layer, trained where it was not yet."""
    chosen, spec, stage = DecoderOptions(steps=steps, batch_size=32), explainer.spec, explainer.lens.stage
    path = CACHE / f"layers-decoder-{space}-{steps}.safetensors"
    with explainer.classifier.frozen(seed=0), torch.enable_grad():
        network = stage.begin_decoder(spec, chosen)
        if path.exists():
            network.load_state_dict(load_file(path))
        else:
            begun = time.process_time()
            run = xlens.Run(seed=0, device=torch.device("cpu"), spec=spec, progress=False)
            fit_decoder(network, stage.encode, as_data(task.train[:FITTED]), run, chosen)
            save_file(network.state_dict(), path)
            print(f"decoder of {space}: {time.process_time() - begun:.0f} s of CPU time", flush=True)
    network.eval().requires_grad_(False)


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a markdown table, and below it why cells are empty."""
    lines = ["| lens | where | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    empty = []
    for lens in LENSES:
        for space in SPACES:
            if (one := cells.get(f"{lens}:{space}")) is None:
                continue
            if "reason" in one:
                empty.append(f"- `{lens}` on {space}: {one['reason']}")
            values = [_said(name, one.get(name)) for name in COLUMNS]
            lines.append(f"| `{lens}` | {space} | " + " | ".join(values) + " |")
    return "\n".join([*lines, "", *empty])


def _said(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if name.endswith(", s") else f"{value:.4f}" if name == "error" else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="training steps of lenses, and of decoders")
    parser.add_argument("--only", nargs="*", default=[], metavar="LENS:WHERE", help="these cells alone")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, path = pair(), CACHE / f"layers-{chosen.steps}.json"
    nets = networks(task)
    cells = json.loads(path.read_text()) if path.exists() else {}
    # All lenses in one place before the next, so that a run that is stopped leaves whole columns.
    for space in ("pooled", "tokens", "spatial", "pixels"):
        for lens in LENSES:
            name = f"{lens}:{space}"
            if name in cells or (chosen.only and name not in chosen.only):
                continue
            cells[name] = cell(task, nets, lens, space, chosen.steps)
            print(name, json.dumps(cells[name]), flush=True)
            path.write_text(json.dumps(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
