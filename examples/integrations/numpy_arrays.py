"""Arrays in, arrays out: a table with a scikit-learn scaler before a small network.

    python examples/integrations/numpy_arrays.py

Wisconsin breast cancer, 30 measurements a case: what would have to be different for the other diagnosis?
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

import xlens
from xlens.datasets import train_classifier


def main() -> None:
    """Train, fit, ask, and answer in the table's own units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=900, help="of fitting the lens")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    table = load_breast_cancer()
    x_train, x_test, y_train, _ = train_test_split(table.data, table.target, random_state=0, stratify=table.target)
    scaler = StandardScaler().fit(x_train)
    train, test = (scaler.transform(x).astype(np.float32) for x in (x_train, x_test))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
    train_classifier(model, torch.from_numpy(train), torch.from_numpy(y_train), steps=200)

    classifier = xlens.Classifier(model, class_names=table.target_names)
    explainer = xlens.fit(classifier, (train, y_train), "svae", steps=chosen.steps)
    explanation = explainer.explain(test[:8])
    explanation.plot(0).savefig(chosen.out / "numpy-arrays.png", dpi=60)
    print(explanation)

    changed = scaler.inverse_transform(explanation.counterfactual.numpy()) - x_test[:8]
    name, other = (classifier.class_names[int(c[0])] for c in (explanation.target, explanation.contrast))
    print(f"case 0, {name}; for {other}, most of all:")
    for i in np.argsort(-np.abs(changed[0] / scaler.scale_))[:4]:
        print(f"  {table.feature_names[i]}: {x_test[0, i]:.4g} -> {x_test[0, i] + changed[0, i]:.4g}")


if __name__ == "__main__":
    main()
