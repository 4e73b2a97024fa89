"""A torchvision model, and a torch Dataset whose transform is the model's own.

    python examples/integrations/torchvision_model.py

Nothing is downloaded: the network is trained here, on enlarged digits. With `weights=...` the lines are the same,
and the transform is `weights.transforms()`.
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import Dataset
from torchvision.models import squeezenet1_1
from torchvision.transforms import v2

import xlens
from xlens.datasets import load_images, train_classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRANSFORM = v2.Compose(
    [
        v2.Resize(32),
        v2.Lambda(lambda image: image.expand(3, -1, -1)),
        v2.Normalize(MEAN, STD),
    ]
)


class Digits(Dataset):
    """Images with labels, transformed one by one, as torchvision's own data sets are."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Keep the images as they are."""
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        """Return one transformed image ``(3, 32, 32)`` and its label."""
        return TRANSFORM(self.images[i]), int(self.labels[i])


def main() -> None:
    """Train, fit and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=400, help="of fitting the lens")
    parser.add_argument("--training-steps", type=int, default=150, help="of training the classifier")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    digits = load_images("digits")
    train, test = Digits(digits.train, digits.train_labels), Digits(digits.test, digits.test_labels)
    torch.manual_seed(0)
    model = squeezenet1_1(weights=None, num_classes=2)
    images = torch.stack([image for image, _ in train])
    train_classifier(model, images, digits.train_labels, steps=chosen.training_steps)

    # What the transform did to the colours, which pictures undo.
    classifier = xlens.Classifier(model, class_names=digits.class_names, normalization=(MEAN, STD))
    explainer = xlens.fit(classifier, train, "svae", steps=chosen.steps)
    explanation = explainer.explain(torch.stack([test[i][0] for i in range(8)]))
    explanation.plot(0).savefig(chosen.out / "torchvision-model.png", dpi=60)
    print(explanation)


if __name__ == "__main__":
    main()
