"""What ``carry="masked"`` should mean: two formulas on images whose true original is known.

Run as ``python -m benchmarks.ground_truth.carry``; docs/benchmarks/carry.md holds its last output.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import xlens
from xlens.codes.moves import moved_codes
from xlens.counterfactual.carry import clamped
from xlens.datasets import KnownCause, load_images, planted, small_cnn, train_classifier
from xlens.explaining.on_inputs import OnInputs

_BATCH = 64


def networks(cause: KnownCause, steps: int) -> list[nn.Module]:
    """Return the classifier and a judge, each trained on one half of the images."""
    half = len(cause.images) // 2
    found = []
    for seed, rows in enumerate((slice(0, half), slice(half, 2 * half))):
        torch.manual_seed(seed)
        model = small_cnn(tuple(cause.images.shape[1:]))
        images, labels = cause.images[rows], cause.labels[rows]
        found.append(train_classifier(model, images, labels, steps=steps, seed=seed, progress=False))
    return found


def compare(name: str, most: int) -> None:
    """Print both formulas for one planted cause: taken away whole, and in shares by name."""
    images = load_images("fashion-mnist")
    train, test = planted(images.train[:6000], name, seed=0), planted(images.test, name, seed=1)
    classifier, judge = networks(train, 700)
    options = xlens.MaskOptions(steps=300)
    explainer = xlens.fit(classifier, train.images[:3000], "medxgan", steps=350, mask=options, progress=False)
    with torch.no_grad():
        sure = (test.labels == 1) & (classifier(test.images).argmax(1) == 1) & (judge(test.images).argmax(1) == 1)
    x, mask, clean = (part[sure][:most] for part in (test.images, test.masks, test.clean))

    def row(formula: str, edited: Tensor) -> None:
        edited = clamped(edited, x, *fitted.limits(x))
        change = (edited - x).abs().sum(1, keepdim=True)
        inside = (change * (mask > 0)).flatten(1).sum(1) / change.flatten(1).sum(1).clamp_min(1e-9)
        flips, convinced = ((net(edited).argmax(1) == 0).float().mean() for net in (classifier, judge))
        off = (edited - clean).square().mean()
        print(
            f"| {name} | {formula} | {flips:.3f} | {convinced:.3f} | {inside.mean():.3f} | {off:.5f} |", flush=True
        )

    fitted = explainer.fitted
    with fitted.asking():
        ill, well = torch.ones(len(x), dtype=torch.long), torch.zeros(len(x), dtype=torch.long)
        edits = [
            OnInputs(fitted).carry(*part, "masked")
            for part in zip(*(t.split(_BATCH) for t in (x, ill, well)), strict=True)
        ]
        decoded, rebuilt = (torch.cat([getattr(e, part) for e in edits]) for part in ("decoded", "reconstruction"))
        opened = torch.cat([e.mask for e in edits if e.mask is not None])
        row("x + m (G(z0) - x)", x + opened * (decoded - x))
        row("x + m (G(z0) - G(z))", x + opened * (decoded - rebuilt))
        row("x + G(z0) - G(z)", x + decoded - rebuilt)
        row("the true original", clean)
        evidence = next(feature.name for feature in explainer.features if feature.role == "class")
        for amount in (-0.25, -0.5, -1.0):
            codes = fitted.encode(x)
            decoded = fitted.lens.decode(moved_codes(fitted.lens, codes, {evidence: amount}, ()))
            rebuilt, seen = fitted.lens.decode(codes), classifier(decoded).argmax(1)
            rows = zip(*(t.split(_BATCH) for t in (x, rebuilt, decoded, seen)), strict=True)
            opened = torch.cat([fitted.mask(*part).sigmoid() for part in rows if fitted.mask is not None])
            row(f"edit by {amount:g}: x + m (G(z') - x)", x + opened * (decoded - x))
            row(f"edit by {amount:g}: x + m (G(z') - G(z))", x + opened * (decoded - rebuilt))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--causes", nargs="+", default=["blob", "scratch"])
    parser.add_argument("--most", type=int, default=250, help="inputs that are judged")
    chosen = parser.parse_args()
    print("| cause | formula | the classifier flips | judge | change inside the cause | MSE to the true original |")
    print("|---|---|---|---|---|---|")
    for name in chosen.causes:
        compare(name, chosen.most)


if __name__ == "__main__":
    main()
