"""The size of real classifiers: an autoencoder, the classifier's passes, a lens on a layer, explaining to disk.

    python -m benchmarks.engine.size codec mask layer disk --data coffee --seed 0

Coffee leaves at 224 pixels in colour (see benchmarks/common/leaves.py). `codec` trains an autoencoder on the
classifier's half and reports on leaves that neither has seen, half of them for choosing (`--half development`);
`mask` counts what fitting a mask asks of the classifier; `layer` explains two inputs by an ILVM on a pooled layer;
`disk` explains to a folder and is killed. CPU seconds are those of one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

import xlens
from benchmarks.common.leaves import Leaves, images, leaves, networks
from xlens.codec import CodecOptions, codec_fidelity, fit_codec
from xlens.contracts import Run
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import as_data
from xlens.metrics import lattice_energy
from xlens.storage import ExplanationFolder
from xlens.training import survey

#: Leaves of each class that are asked about.
ASKED = 60
#: Steps of the mask that are run; what the whole takes follows, as each asks the same.
STEPS = 10


class Resized(nn.Module):
    """The ResNet-18 of timm, at the full size."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs * 4 - 2)


def unseen(data: Leaves, half: str) -> Tensor:
    """Return leaves that the classifier was not trained on, as many of both classes as there are."""
    chosen = {"development": 0, "held-out": 1}[half]
    own = [one for one in data.of_judges if int(hashlib.md5(("c" + one).encode()).hexdigest(), 16) % 2 == chosen]
    names = [name for kind in (0, 1) for name in [one for one in own if data.labels[one] == kind][:ASKED]]
    return images(data.folder, "leaf", names)


def codec(data: Leaves, nets: dict[str, nn.Module], seed: int, half: str) -> dict[str, object]:
    """Return the fidelity of the built-in autoencoder, asked of several classifiers, and its lattice."""
    net = xlens.Classifier(nets["classifier"])
    seen = as_data(images(data.folder, "leaf", data.of_classifier))
    torch.manual_seed(seed)
    spec = survey(net, seen, progress=False).spec
    begun = time.process_time()
    run = Run(seed=seed, device=torch.device("cpu"), spec=spec, progress=False)
    found, fidelity = fit_codec(net, seen, run, CodecOptions())
    figures: dict[str, object] = {
        "channels of the latents": found.channels,
        "stride": found.stride,
        "CPU minutes of its fit, fidelity included": (time.process_time() - begun) / 60,
        "on leaves kept out of its training": str(fidelity),
    }
    asked = unseen(data, half)
    for name, one in nets.items():
        figures[f"{half}, {name}"] = str(codec_fidelity(found, xlens.Classifier(one), [asked], spec.span()))
    with torch.no_grad():
        again = torch.cat([found(part) for part in asked.split(8)])
    for period in (2, 4, 8):
        share = lattice_energy(again, period, flat=asked).sum() / lattice_energy(asked, period).sum()
        figures[f"lattice energy of flat regions, period {period}, against the input's"] = float(share)
    return figures


def mask(data: Leaves, nets: dict[str, nn.Module], seed: int) -> dict[str, object]:
    """Return the passes that fitting a mask takes, and took with its settings for small inputs."""
    few = images(data.folder, "leaf", data.of_classifier[:64])
    figures: dict[str, object] = {}
    net = nets["classifier"]
    counts = []
    for steps in (1, 1 + STEPS):
        fitted = xlens.fit(net, few, "medxgan", steps=1, seed=seed, mask=MaskOptions(steps=steps), progress=False)
        counts.append((fitted.provenance["passes"], fitted.spec))
    (before, spec), (after, _) = counts
    large = MaskOptions().plan(spec)
    for kind in ("forward", "backward"):
        step = (after[kind] - before[kind]) / STEPS
        figures[f"images {kind} a step of the mask, now"] = step
        figures[f"images {kind} in all steps of the mask, now"] = step * large.steps
        # The edited inputs, and their feature maps beside them.
        was = 420 * 64 * (2 if kind == "forward" else 1)
        figures[f"images {kind} in all steps of the mask, before"] = was
    return figures


def layer(data: Leaves, nets: dict[str, nn.Module], seed: int) -> dict[str, object]:
    """Return what explaining two inputs by a lens on a pooled layer of a ResNet-18 takes."""
    net = Resized(nets["judge B (ResNet-18)"].net)
    few = images(data.folder, "leaf", data.of_classifier[:96])
    begun = time.process_time()
    classifier = xlens.Classifier(net, layer="net.global_pool")
    fitted = xlens.fit(classifier, few, "ilvm", steps=100, seed=seed, progress=False)
    fitting = time.process_time() - begun
    begun = time.process_time()
    found = fitted.explain(few[:2])
    figures: dict[str, object] = {
        "CPU seconds of an ILVM fit on the pooled layer, 100 steps, 96 inputs": fitting,
        "CPU seconds of explaining 2 inputs": time.process_time() - begun,
        "passes in the fit": str(fitted.provenance["passes"]),
    }
    whole = (found.scores - found.counterfactual_scores).double()
    missed = (found.attributions["lig"].double().flatten(1).sum(1) - whole).abs() / whole.abs()
    figures["what lig misses of the score difference, largest"] = float(missed.max())
    return figures


def disk(data: Leaves, nets: dict[str, nn.Module], seed: int, inputs: int, kills: int) -> dict[str, object]:
    """Return what is lost, doubled and held in memory when explaining to disk is killed again and again."""
    few = images(data.folder, "leaf", data.of_classifier[:64])
    fitted = xlens.fit(nets["classifier"], few, "infill", seed=seed, progress=False)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(few), (inputs,), generator=generator)
    many = _Read(few, rows)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(kills + 1):
            child = os.fork()
            if not child:
                warnings.simplefilter("ignore")
                fitted.explain_to(folder, many, rows=2, attributions=(), progress=False)
                os._exit(0)
            goal = (kill + 1) * (inputs // 2) // (kills + 2)
            peaks.append(_watch(child, Path(folder), goal if kill < kills else None))
        found = ExplanationFolder(folder)
        again = torch.cat([part.inputs for part in found])
    return {
        "inputs explained to disk": len(again),
        "killed": kills,
        "all there, once and in order": found.complete and torch.equal(again, few[rows]),
        "MB of memory, first run": peaks[0] / 1e6,
        "MB of memory, most of any run": max(peaks) / 1e6,
    }


class _Read(torch.utils.data.Dataset):
    def __init__(self, inputs: Tensor, rows: Tensor) -> None:
        self._inputs, self._rows = inputs, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Tensor:
        return self._inputs[self._rows[i]]


def _watch(child: int, folder: Path, goal: int | None) -> int:
    """Return the most memory of a process, and kill it when so many parts are there."""
    peak, process = 0, psutil.Process(child)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            continue
        if goal is not None and len(list(folder.glob("part-*.safetensors"))) >= goal:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.02)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("codec", "mask", "layer", "disk"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", choices=("development", "held-out"), default="held-out")
    parser.add_argument("--inputs", type=int, default=60, help="inputs explained to disk")
    parser.add_argument("--kills", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = leaves(chosen.data, chosen.seed)
    nets = networks(data, chosen.seed)
    for part in chosen.parts:
        if part == "codec":
            figures = codec(data, nets, chosen.seed, chosen.half)
        elif part == "disk":
            figures = disk(data, nets, chosen.seed, chosen.inputs, chosen.kills)
        else:
            figures = {"mask": mask, "layer": layer}[part](data, nets, chosen.seed)
        print(f"\n| {part} | |\n|---|---|")
        for name, value in figures.items():
            print(f"| {name} | {f'{value:.4g}' if isinstance(value, float) else value} |", flush=True)


if __name__ == "__main__":
    main()
