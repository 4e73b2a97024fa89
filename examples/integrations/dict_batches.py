"""Batches that are dicts, as MONAI's loaders give them: `{"image": ..., "label": ...}` beside whatever else.

    python examples/integrations/dict_batches.py

The same lines take `monai.data.DataLoader(monai.data.Dataset(items, transform))`.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import xlens
from xlens.datasets import load_images, small_cnn


def main() -> None:
    """Train, fit and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=900, help="of fitting the lens")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    digits = load_images("digits")
    items = [
        {"image": image, "label": label, "patient": f"p{i}"}
        for i, (image, label) in enumerate(zip(digits.train, digits.train_labels, strict=True))
    ]
    loader = DataLoader(items, batch_size=32, shuffle=True)
    torch.manual_seed(0)
    model = small_cnn((1, 8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(12):
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    classifier = xlens.Classifier(model, class_names=digits.class_names)
    explainer = xlens.fit(classifier, loader, "svae", steps=chosen.steps)
    explanation = explainer.explain(digits.test[:8])
    explanation.plot(0).savefig(chosen.out / "dict-batches.png", dpi=60)
    print(explanation)


if __name__ == "__main__":
    main()
