"""The attribution engine against Captum: equal where it should be, complete, cheap.

    python -m benchmarks.engine.attribution --part exact complete cost layer memory

The classifier is timm's resnet18, trained for one epoch on Fashion-MNIST coats and shirts at 64x64 (cached), the
generator a small autoencoder of the same images; 224x224 are the same images, upsampled. Ratios are of measurements
in one run; each memory figure comes from a process of its own. One thread, so that a run repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from captum.attr import IntegratedGradients
from captum.attr import LayerIntegratedGradients as CaptumLayer
from captum.attr._utils.approximation_methods import approximation_parameters
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from benchmarks.common.cache import CACHE
from benchmarks.common.tasks import pair
from benchmarks.engine.memory import measured
from xlens.attr import (
    LatentIntegratedGradients,
    LayerIntegratedGradients,
    Segment,
    integral,
    path_integral,
)
from xlens.classifier import score_margin
from xlens.counterfactual import CarriedCurve

CPU = torch.device("cpu")


class Autoencoder(nn.Module):
    """A generator with curvature: 64x64 in 24 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(4096, 256), nn.SiLU(), nn.Linear(256, 24))
        self.decode = nn.Sequential(
            nn.Linear(24, 256), nn.SiLU(), nn.Linear(256, 4096), nn.Sigmoid(), nn.Unflatten(1, (1, 64, 64))
        )


def sized(images: Tensor, side: int) -> Tensor:
    return interpolate(images, size=side, mode="bilinear", align_corners=False)


def kept(name: str, net: nn.Module, train: Callable[[], None]) -> nn.Module:
    """Return `net` with its weights from the cache, or trained."""
    path = CACHE / f"{name}.safetensors"
    if path.exists():
        net.load_state_dict(load_file(path))
    else:
        train()
        CACHE.mkdir(exist_ok=True)
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    return net.eval().requires_grad_(False)


def networks(task: Any) -> tuple[nn.Module, Autoencoder]:
    torch.manual_seed(0)
    model, auto = timm.create_model("resnet18", in_chans=1, num_classes=2), Autoencoder()

    def train_model() -> None:
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for index in torch.randperm(len(task.train))[:6000].split(32):
            loss = cross_entropy(model(sized(task.train[index], 64)), task.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def train_auto() -> None:
        optimizer = torch.optim.Adam(auto.parameters(), 1e-3)
        for _ in range(600):
            x = sized(task.train[torch.randint(0, len(task.train), (128,))], 64)
            loss = (auto.decode(auto.encode(x)) - x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return kept("attribution-resnet18", model, train_model), kept("attribution-autoencoder", auto, train_auto)


def resnet(side: int, n: int) -> tuple[nn.Module, Tensor]:
    task = pair()
    model, _ = networks(task)
    return model, sized(task.test[:n], side)


def exact() -> None:
    """Identity generator: the same numbers as Captum's, whose rounding of nodes and weights to float32 is shared.

    Without sharing it, the float64 differences are those of the last column.
    """
    model, images = resnet(64, 4)
    print("| dtype | n_steps | method | internal_batch_size | baselines | difference | relative | own nodes |")
    print("|---|---|---|---|---|---|---|---|")
    exact_nodes = integral.nodes_and_weights
    for dtype in (torch.float32, torch.float64):
        net, x = model.to(dtype), images.to(dtype)
        for n, method, size, baseline in (
            (50, "gausslegendre", None, None),
            (20, "riemann_left", 8, 0.5),
            (20, "riemann_right", 4, x[:1] * 0.3),
            (33, "riemann_middle", None, x.flip(0)),
            (20, "gausslegendre", 5, x.flip(0)),
        ):
            target = torch.tensor([0, 1, 1, 0])
            given = {"target": target, "n_steps": n, "method": method, "internal_batch_size": size}
            theirs = IntegratedGradients(net).attribute(x, baseline, **given)
            integral.nodes_and_weights = captums_nodes
            ours = LatentIntegratedGradients(net, lambda z: z).attribute(x, baseline, **given)
            integral.nodes_and_weights = exact_nodes
            unrounded = LatentIntegratedGradients(net, lambda z: z).attribute(x, baseline, **given)
            kind = type(baseline).__name__ if not isinstance(baseline, Tensor) else str(tuple(baseline.shape))
            gap = (ours - theirs).abs().max()
            share, free = gap / theirs.abs().max(), (unrounded - theirs).abs().max()
            row = f"| {str(dtype)[6:]} | {n} | {method} | {size} | {kind} | {gap:.1e} | {share:.1e} | {free:.1e} |"
            print(row, flush=True)
    model.float()


def captums_nodes(method: str, n: int, _device: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    weights, nodes = (torch.tensor(rule(n), dtype=dtype) for rule in approximation_parameters(method))
    return nodes, weights.float().to(dtype)


class Paths:
    """64 test images, each with the code of the nearest image of the other class as counterfactual."""

    def __init__(self, n: int = 64) -> None:
        task = pair()
        self.model, self.auto = networks(task)
        pool, found = sized(task.test[:1000], 64), None
        with torch.no_grad():
            logits = torch.cat([self.model(part) for part in pool.split(64)])
            codes = self.auto.encode(pool)
            found = logits.argmax(1)
            self.x, self.target = pool[:n], found[:n]
            self.contrast = 1 - self.target
            distance = torch.cdist(codes[:n], codes)
            distance[self.target.unsqueeze(1) == found.unsqueeze(0)] = torch.inf
            z, z0 = codes[:n], codes[distance.argmin(1)]
        self.curve = CarriedCurve(
            self.x, Segment(z0, z), self.auto.decode(z), self.auto.decode, "residual", None,
            torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1),
        )  # fmt: skip
        self.black = Segment(torch.zeros_like(self.x), self.x)

    def score(self, points: Tensor, rows: Tensor) -> Tensor:
        return score_margin(self.model(points), self.target[rows], self.contrast[rows])

    def errors(self, curve: Any, n_steps: int, tolerance: float | None = None, **options: Any) -> Tensor:
        """Return the relative completeness errors, and count evaluations of the classifier's gradient."""
        n = len(self.x)
        self.gradients = 0

        def counted(points: Tensor, rows: Tensor) -> Tensor:
            self.gradients += len(points) if torch.is_grad_enabled() else 0
            return self.score(points, rows)

        _, delta = path_integral(
            counted, curve, n, device=CPU, n_steps=n_steps, tolerance=tolerance, internal_batch_size=64, **options
        )
        rows = torch.arange(n)
        with torch.no_grad():
            ends = [self.score(curve(rows, torch.full((n,), at)), rows) for at in (0.0, 1.0)]
        return (delta / (ends[1] - ends[0])).abs()


def complete() -> None:
    """Completeness of the line integral, and what it costs to reach it."""
    paths = Paths()
    print("| integrator | n_steps | tolerance | median error | worst of 64 | gradients an image |")
    print("|---|---|---|---|---|---|")
    for name, curve, n, tolerance, options in (
        ("lig", paths.curve, 64, None, {}),
        ("lig", paths.curve, 64, 0.01, {}),
        ("lig", paths.curve, 16, 0.01, {}),
        ("lig", paths.curve, 64, None, {"placement": "decision"}),
        ("idgi", paths.curve, 16, None, {"integrator": "idgi"}),
        ("lig_paper", paths.curve, 16, None, {"integrator": "lig_paper"}),
        ("lig_paper", paths.curve, 64, None, {"integrator": "lig_paper"}),
        ("lig_paper", paths.curve, 256, None, {"integrator": "lig_paper"}),
    ):
        error = paths.errors(curve, n, tolerance, **options)
        kind = f"{name}, {options['placement']} steps" if "placement" in options else name
        print(
            f"| {kind} | {n} | {tolerance} | {100 * error.median():.3f}% | {100 * error.max():.2f}% | "
            f"{paths.gradients / len(error):.0f} |", flush=True,
        )  # fmt: skip
    print("\n| median error at n_steps | " + " | ".join(map(str, STEPS)) + " | first <= 1% |")
    print("|---" * (len(STEPS) + 2) + "|")
    for name, curve, options in (
        ("lig from the counterfactual", paths.curve, {}),
        ("IG from black, Captum's nodes (Gauss-Legendre)", paths.black, {"method": "gausslegendre"}),
    ):
        medians = [paths.errors(curve, n, **options).median().item() for n in STEPS]
        first = next((str(n) for n, m in zip(STEPS, medians, strict=True) if m <= 0.01), f"> {STEPS[-1]}")
        print(f"| {name} | " + " | ".join(f"{100 * m:.2f}%" for m in medians) + f" | {first} |", flush=True)


STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cost() -> None:
    """Time of one lig at 50 steps, as a multiple of Captum's IG plus the generator's own passes."""
    paths = Paths(8)
    rows = torch.arange(8)
    lig = LatentIntegratedGradients(paths.model, paths.auto.decode)
    captum = IntegratedGradients(paths.model)
    given = {"target": paths.target, "n_steps": 50, "internal_batch_size": 50}

    def generator() -> None:
        with torch.no_grad():
            for part in torch.arange(8 * 101).split(101):
                paths.auto.decode(paths.curve.codes(rows[part % 8], part / 808))

    with torch.no_grad():
        start = paths.auto.decode(paths.curve.codes.start)
    calls = {
        "lig": lambda: lig.attribute(paths.curve.codes.end, paths.curve.codes.start, **given),
        "captum": lambda: captum.attribute(paths.x, start, method="riemann_middle", **given),
        "generator": generator,
    }
    for call in calls.values():
        call()
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(7)]
    ratios = sorted(r["lig"] / (r["captum"] + r["generator"]) for r in rounds)
    print("| 64x64, N=8, 50 steps | median of 7 rounds |\n|---|---|")
    for name in calls:
        print(f"| {name} | {statistics.median(r[name] for r in rounds):.2f} s |")
    print(f"| lig / (captum + generator) | {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) |")


def layer_call(who: str) -> Callable[[], Any]:
    torch.set_num_threads(1)
    model, images = resnet(224, 2)
    x, start = images[:1], images[1:]
    if who == "captum":
        method = CaptumLayer(model, model.layer4)
        method.attribute(x, start, target=0, n_steps=2)
        return lambda: method.attribute(x, start, target=0, n_steps=50)
    if who == "forward":
        with torch.inference_mode():
            model(x)
        return lambda: torch.inference_mode()(model)(x)
    method = LayerIntegratedGradients(model, "layer4")
    method.attribute(x, start, target=0, n_steps=2)
    # A new one cuts the model again, which is part of what is measured.
    method = LayerIntegratedGradients(model, "layer4") if who == "xlens, first call" else method
    budget = 4 * 2**20 if who == "xlens, memory_budget of 4 MiB" else None
    return lambda: method.attribute(x, start, target=0, n_steps=50, memory_budget=budget)


LAYER_CALLS = ("captum", "xlens, first call", "xlens", "xlens, memory_budget of 4 MiB", "forward")


def layer() -> None:
    """A late hidden layer: resnet18's layer4 at 224x224, N=1, 50 steps."""
    found = {who: measured(layer_call, who) for who in LAYER_CALLS}
    gap = (layer_call("captum")() - layer_call("xlens")()).abs().max()
    print("| layer4, 224x224, N=1, 50 steps | seconds | Captum / this | extra MiB | Captum / this |")
    print("|---|---|---|---|---|")
    captum = found["captum"]
    for who, (took, extra) in found.items():
        name = "one forward pass of the classifier, for comparison" if who == "forward" else who
        print(f"| {name} | {took:.3f} | {captum[0] / took:.1f} | {extra:.1f} | {captum[1] / extra:.1f} |")
    print(f"\nLargest difference of the values: {gap:.1e}.")


def input_call(who: str, n: int) -> Callable[[], Any]:
    torch.set_num_threads(1)
    model, images = resnet(224, n)
    ours = LatentIntegratedGradients(model, lambda z: z)
    method = IntegratedGradients(model) if who == "captum" else ours
    method.attribute(images[:1], target=0, n_steps=2)
    return lambda: method.attribute(images, target=0)


def memory() -> None:
    """Defaults at 224x224."""
    print("| 224x224, defaults | seconds | extra MiB |\n|---|---|---|")
    found = []
    for who, n in (("captum", 8), ("xlens", 8), ("xlens", 64)):
        took, extra = measured(input_call, who, n)
        print(f"| {who}, N={n} | {took:.1f} | {extra:.0f} |", flush=True)
        found.append((took, extra))
    theirs, ours, many = found
    ratios = theirs[1] / ours[1], ours[0] / theirs[0]
    print(f"\nAt N=8: memory, Captum / xlens {ratios[0]:.0f}; time, xlens / Captum {ratios[1]:.2f}.")
    result = 64 * 224 * 224 * 4 / 2**20
    print(
        f"Memory at N=64 / N=8: {many[1] / ours[1]:.2f}; without the results themselves "
        f"({result:.0f} and {result / 8:.0f} MiB): {(many[1] - result) / (ours[1] - result / 8):.2f}."
    )


def main() -> None:
    parts = {"exact": exact, "complete": complete, "cost": cost, "layer": layer, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    torch.set_num_threads(1)
    for name in parser.parse_args().part:
        print(f"\n{parts[name].__doc__}\n")
        parts[name]()


if __name__ == "__main__":
    main()
