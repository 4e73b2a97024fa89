"""A plain PyTorch loop that explains a fixed panel of images after every epoch.

    python examples/integrations/pytorch_loop.py

The first lens is fitted in full; each later one begins with the last (`start_from`) and takes a third of the steps.
"""

import argparse
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import xlens
from xlens.datasets import load_images, small_cnn


def main() -> None:
    """Train, and look at the same images after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the pictures")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=900, help="of fitting the first lens")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", xlens.errors.XlensWarning)  # early lenses do not hold; the table says so

    digits = load_images("digits")
    panel = digits.test[:4]
    torch.manual_seed(0)
    model = small_cnn((1, 8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(TensorDataset(digits.train, digits.train_labels), batch_size=32, shuffle=True)

    explainer = None
    for epoch in range(chosen.epochs):
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        # The three lines: the model comes back exactly as it was, and so do the global random numbers.
        steps = chosen.steps if explainer is None else max(1, chosen.steps // 3)
        classifier = xlens.Classifier(model, class_names=digits.class_names)
        explainer = xlens.fit(classifier, digits.train, "svae", steps=steps, start_from=explainer)

        explanation = explainer.explain(panel)
        explanation.plot(0).savefig(chosen.out / f"pytorch-loop-{epoch + 1}.png", dpi=60)
        held = explainer.explain(digits.test)
        print(
            f"epoch {epoch + 1}: loss {loss.item():.3f}, lens of {steps} steps: "
            f"the classifier agrees on {held.fidelity.agrees.float().mean():.0%}, "
            f"flips on {held.fidelity.flips.float().mean():.0%}, trustworthy {held.trustworthy.float().mean():.0%}"
        )


if __name__ == "__main__":
    main()
