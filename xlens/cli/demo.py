"""The demonstration on digits or clothes: a small CNN, a lens around it, pictures, a report and a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.contracts.explainer import Explainer
from xlens.datasets.examples import load_images, small_cnn, train_classifier
from xlens.errors import PluginError
from xlens.explanation import Explanation
from xlens.registry.default import registered_default
from xlens.report.lens import save_report

__all__ = ["default_backend", "run_demo"]


def run_demo(
    data: str = "digits",
    backend: str | None = None,
    *,
    out: Path = Path("demo"),
    seed: int = 0,
    show: Callable[[Path], object] | None = None,
) -> tuple[Explainer, Explanation]:
    """Train a classifier, fit a lens around it, explain held-out images; write pictures, a report and a table.

    Args:
        data: ``"digits"`` or ``"fashion-mnist"``, as for :func:`load_images`.
        backend: name of a backend; the one that the installation names for this if None.
        out: folder for the pictures.
        seed: seeds everything.
        show: called with the report when it is written.

    Returns:
        the explainer and the explanation of the held-out images.
    """
    images = load_images(data)
    torch.manual_seed(seed)
    model = small_cnn(tuple(images.train.shape[1:]))
    train_classifier(model, images.train, images.train_labels, steps=300 if data == "digits" else 900, seed=seed)
    with torch.no_grad():
        right = (model(images.test).argmax(1) == images.test_labels).float().mean()
    names = " against ".join(images.class_names)
    print(f"classifier: {names}, {right:.1%} right on {len(images.test)} held-out images")
    began = time.perf_counter()
    classifier = Classifier(model, class_names=images.class_names)
    explainer = fit(classifier, images.train, backend or default_backend(), seed=seed)
    print(f"lens: {explainer!r}, fitted in {time.perf_counter() - began:.0f} s")
    explanation = explainer.explain(images.test[:200], attributions=("lig", "ig_counterfactual"))
    out.mkdir(parents=True, exist_ok=True)
    from xlens.plot.figure import save_figure  # matplotlib takes its time

    shown = _one_per_class(explanation)
    for index in shown:
        name = images.class_names[int(explanation.target[index])]
        path = out / f"{data}-{name}.png"
        save_figure(explanation.plot(index), path, dpi=110)
        print(f"picture: {path}")
    page = out / f"{data}.html"
    save_report(explainer, explanation[:64], page, title=f"{images.class_names[0]} against {images.class_names[1]}")
    print(f"report: {page}")
    if show is not None:
        show(page)
    print(f"\nfidelity over {len(explanation)} held-out images (docs/guide/trust.md says what the figures mean):")
    print(explanation.fidelity.to_markdown())
    held = int(explanation.trustworthy.sum())
    print(f"\ntrustworthy: {held} of {len(explanation)}")
    return explainer, explanation


def default_backend() -> str:
    """Return the backend that the installed distribution names for demonstrations.

    Raises:
        PluginError: none is named.
    """
    if (name := registered_default()) is None:
        raise PluginError("demo: no installed backend is named for it", do="pass --backend NAME")
    return name


def _one_per_class(explanation: Explanation) -> list[int]:
    """Return the first held-out image of each class, as it comes: nothing is picked."""
    targets = explanation.target.tolist()
    return sorted(targets.index(value) for value in set(targets))
