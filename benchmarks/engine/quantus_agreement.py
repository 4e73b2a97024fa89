"""xlens's figures of maps beside Quantus's, on the same maps, masks and model.

    pip install quantus
    python -m benchmarks.engine.quantus_agreement

Prints the largest difference over 64 inputs for each figure that both have. Maps have no ties, because Quantus
breaks them by position.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn

from xlens import metrics

N, SIDE, STEPS = 64, 12, 12


def main() -> None:
    try:
        import quantus
    except ImportError:
        raise SystemExit("this benchmark needs: pip install quantus") from None
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 3)).eval()
    inputs = torch.rand(N, 1, SIDE, SIDE, generator=generator)
    maps = torch.randn(N, 1, SIDE, SIDE, generator=generator)
    masks = torch.rand(N, 1, SIDE, SIDE, generator=generator) < 0.2
    target = torch.randint(0, 3, (N,), generator=generator)
    quiet = {"disable_warnings": True, "display_progressbar": False}
    given = {"model": model, "x_batch": inputs.numpy(), "y_batch": target.numpy()}
    size = {"abs": True, "normalise": False}
    theirs = {
        "pointing game": quantus.PointingGame(**size, **quiet),
        "relevance mass": quantus.RelevanceMassAccuracy(**size, **quiet),
        "relevance rank": quantus.RelevanceRankAccuracy(**size, **quiet),
        "sparseness": quantus.Sparseness(**size, **quiet),
    }
    ours = {
        "pointing game": metrics.pointing_game(maps, masks),
        "relevance mass": metrics.relevance_mass(maps, masks),
        "relevance rank": metrics.relevance_rank(maps, masks),
        "sparseness": metrics.sparseness(maps),
    }
    print(f"Quantus {quantus.__version__}\n")
    print("| figure | xlens, mean | Quantus, mean | largest difference |\n|---|---|---|---|")
    for name, metric in theirs.items():
        beside = {} if name == "sparseness" else {"s_batch": masks.numpy()}
        report(name, ours[name], metric(**given, a_batch=maps.numpy(), **beside))
    pixels = SIDE * SIDE // STEPS
    flipping = quantus.PixelFlipping(
        features_in_step=pixels, perturb_baseline="black", abs=False, normalise=False, **quiet
    )
    curves = flipping(**given, a_batch=maps.numpy(), softmax=True)
    # Quantus's black is the smallest value of the image.
    black = inputs.amin((1, 2, 3), keepdim=True).expand_as(inputs)
    found = metrics.transition(model, inputs, black, maps, points=STEPS)
    rows = torch.arange(N)
    report("deletion, each point of the curve", found[rows, 1:, target], curves)
    other = torch.randn(N, 1, SIDE, SIDE, generator=generator)
    flat = [(a.abs().flatten().numpy(), b.abs().flatten().numpy()) for a, b in zip(maps, other, strict=True)]
    spearman = [quantus.similarity_func.correlation_spearman(a, b) for a, b in flat]
    report("Spearman of magnitudes", metrics.rank_correlation(maps, other), spearman)


def report(name: str, ours: torch.Tensor, theirs: object) -> None:
    other = torch.as_tensor([[float(v) for v in row] if hasattr(row, "__len__") else float(row) for row in theirs])
    difference = (ours.double() - other.double().view_as(ours)).abs().max()
    print(f"| {name} | {ours.mean():.5f} | {other.mean():.5f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
