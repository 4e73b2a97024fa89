"""From a trained classifier to an answer that opens in a browser; about a minute on a laptop.

    python examples/quickstart.py

Handwritten digits from scikit-learn, 3 against 8: what would have to be different in this 3 for the classifier to
see an 8, and the other way round?
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import xlens
from xlens.datasets import load_images, small_cnn, train_classifier
from xlens.report import save_report


def main() -> None:
    """Train, fit, ask, and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for picture, report and lens")
    parser.add_argument("--steps", type=int, default=700, help="of fitting the lens")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    # Any trained classifier will do; this one stands for yours.
    digits = load_images("digits")
    torch.manual_seed(0)
    model = train_classifier(small_cnn((1, 8, 8)), digits.train, digits.train_labels, steps=300)

    # The lens is fitted once. The model stays exactly as it is.
    classifier = xlens.Classifier(model, class_names=digits.class_names)
    explainer = xlens.fit(classifier, digits.train, backend="medxgan", steps=chosen.steps)
    explainer.save(chosen.out / "lens")

    # Then it answers.
    explanation = explainer.explain(digits.test[:24], attributions=("lig", "ig_counterfactual"))
    print(explanation)
    for i, problems in enumerate(explanation.problems):
        if problems:
            print(f"  do not trust explanation {i}: {'; '.join(problems)}")
    explanation.plot(0).savefig(chosen.out / "why.png", dpi=110)
    save_report(explainer, explanation, chosen.out / "why.html", title="3 or 8?")
    print(f"open {chosen.out / 'why.html'} in a browser")


if __name__ == "__main__":
    main()
