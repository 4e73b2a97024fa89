"""A Hugging Face image classifier: `pixel_values` in, `.logits` out, class names from its config.

    pip install transformers
    python examples/integrations/hugging_face.py

Nothing is downloaded: a small ViT is made from a config and trained here. A model from `from_pretrained` goes in
the same way, with a data set of dicts as its image processor makes them.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import ViTConfig, ViTForImageClassification

import xlens
from xlens.datasets import load_images


def main() -> None:
    """Train, fit and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=900, help="of fitting the lens")
    parser.add_argument("--epochs", type=int, default=15, help="of training the classifier")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    digits = load_images("digits")
    items = [
        {"pixel_values": 2 * image - 1, "labels": label}
        for image, label in zip(digits.train, digits.train_labels, strict=True)
    ]
    torch.manual_seed(0)
    model = ViTForImageClassification(
        ViTConfig(
            image_size=8, patch_size=2, num_channels=1, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=96, id2label=dict(enumerate(digits.class_names)),
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(items, batch_size=32, shuffle=True)
    for _ in range(chosen.epochs):
        for batch in loader:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    # The loader goes in as it is; so do the model, whose output object is unwrapped, and its class names.
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    explainer = xlens.fit(xlens.Classifier(model, class_names=names), loader, "svae", steps=chosen.steps)
    explanation = explainer.explain(2 * digits.test[:8] - 1)
    explanation.plot(0).savefig(chosen.out / "hugging-face.png", dpi=60)
    print(explanation)


if __name__ == "__main__":
    main()
