"""A timm model by name, with its own normalisation and its own map from indices to class names.

    python examples/integrations/timm_model.py --name resnet10t

Nothing is downloaded: the network is trained here, on enlarged digits. With `pretrained=True` the lines are the
same.
"""

import argparse
from pathlib import Path

import timm
import torch
from timm.data import resolve_model_data_config
from torch.nn.functional import interpolate

import xlens
from xlens.datasets import load_images, train_classifier

CLASS_MAP = {0: "three", 1: "eight"}


def main() -> None:
    """Train, fit and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the picture")
    parser.add_argument("--name", default="test_resnet", help="any name from timm.list_models()")
    parser.add_argument("--steps", type=int, default=400, help="of fitting the lens")
    parser.add_argument("--training-steps", type=int, default=150, help="of training the classifier")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    model = timm.create_model(chosen.name, pretrained=False, num_classes=len(CLASS_MAP))

    # The lens lives in the model's own normalisation, whatever that is.
    config = resolve_model_data_config(model)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    digits = load_images("digits")

    def prepare(images: torch.Tensor) -> torch.Tensor:
        return (interpolate(images, scale_factor=4, mode="bilinear").expand(-1, 3, -1, -1) - mean) / std

    train, test = prepare(digits.train), prepare(digits.test)
    train_classifier(model, train, digits.train_labels, steps=chosen.training_steps)

    classifier = xlens.Classifier(
        model,
        class_names=[CLASS_MAP[i] for i in range(len(CLASS_MAP))],
        normalization=(config["mean"], config["std"]),
    )
    explainer = xlens.fit(classifier, train, "svae", steps=chosen.steps)
    explanation = explainer.explain(test[:8])
    explanation.plot(0).savefig(chosen.out / "timm-model.png", dpi=60)
    print(explanation)


if __name__ == "__main__":
    main()
