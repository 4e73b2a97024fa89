"""Classifiers, judges and lenses of the ground-truth benchmark, kept in the cache folder."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable

from torch import nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import trained
from benchmarks.common.tasks import Task, cups, pair, planted, solar

TASKS: dict[str, Callable[[int], Task]] = {
    "blob": lambda seed: planted(seed, "blob"),
    "scratch": lambda seed: planted(seed, "scratch"),
    "texture": lambda seed: planted(seed, "texture"),
    "cups": cups,
    "pair": lambda seed: pair(),
    "solar": lambda seed: solar(),
}
EPOCHS = {"solar": 15, "cups": 4, "pair": 6}
#: Every lens has its defaults, but for these: principal components as a direct path draw a planted cause into the
#: counterfactual, and solar cells have the steps of their own page.
OPTIONS: dict[str, dict[str, dict]] = {
    "medxgan": {
        **{name: {"linear": False} for name in ("blob", "scratch", "texture", "cups")},
        "solar": {"steps": 250, "batch_size": 32},
    }
}


def networks(name: str, task: Task, seed: int) -> dict[str, nn.Module]:
    """Return the classifier and both judges."""
    return trained(task, seed, EPOCHS.get(name, 8))


def lens(name: str, task: Task, model: nn.Module, backend: str, seed: int) -> tuple[xlens.LensExplainer, float]:
    """Return the fitted lens, and the CPU seconds that the fit took; from the cache where it is there."""
    folder = CACHE / "ground_truth" / f"{name}-{seed}-{backend}"
    classifier = xlens.Classifier(model, class_names=task.class_names)
    if (folder / "seconds.json").exists():
        return xlens.load(folder, classifier), json.loads((folder / "seconds.json").read_text())
    began = time.process_time()
    options = OPTIONS.get(backend, {}).get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xlens.errors.XlensWarning)
        explainer = xlens.fit(classifier, task.train, backend, seed=seed, progress=False, **options)
    seconds = time.process_time() - began
    explainer.save(folder)
    (folder / "seconds.json").write_text(json.dumps(round(seconds, 1)))
    return explainer, seconds
