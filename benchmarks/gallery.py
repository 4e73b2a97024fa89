"""Pictures for docs/gallery.md: one backend on one data set, the first held-out images as they come.

    python benchmarks/gallery.py --backend medxgan --data digits
    python benchmarks/gallery.py --backend medxgan --data fashion-mnist

Nothing is picked: a picture that does not hold says so itself.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from xlens.demo import load_images, run_demo
from xlens.errors import XlensWarning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/gallery"))
    chosen = parser.parse_args()
    name = f"gallery-{chosen.backend}-{chosen.data}"
    warnings.simplefilter("ignore", XlensWarning)
    explainer, explanation = run_demo(chosen.data, chosen.backend, out=chosen.cache / name, seed=chosen.seed)
    test = load_images(chosen.data).test
    explanation.plot(0).savefig(chosen.pictures / f"{name}.png", dpi=80)
    for feature in explainer.features:
        if feature.role == "class":
            figure = explainer.plot_traversal(
                test[:3], feature.name, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25], target=feature.class_index
            )
            figure.savefig(chosen.pictures / f"{name}-traversal.png", dpi=80)
            break
    if "invariances" in explainer.backend.capabilities:
        explainer.plot_invariances(test[:3], 6).savefig(chosen.pictures / f"{name}-invariances.png", dpi=80)


if __name__ == "__main__":
    main()
