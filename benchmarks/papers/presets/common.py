"""The digits that the presets are measured on, their classifiers, and fits with their figures."""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import residual_judge
from benchmarks.common.tasks import Task, digits
from benchmarks.lenses.defaults import network
from xlens.datasets import train_classifier

__all__ = ["PAIR", "PRESETS", "UNFITTED", "eyes", "fitted", "network", "pair"]

#: What is compared: the paper's own settings, and the backend's.
PRESETS = ("paper", "defaults")
#: The paper's pair of digits; the second is the positive class.
PAIR = (3, 8)
#: The mask plays no part in the papers' figures: it is there, and not really fitted.
UNFITTED = xlens.MaskOptions(steps=1, pool=16)
#: Steps of the network whose features Frechet distances are taken in.
_EYES_STEPS = 600


def pair() -> Task:
    """Return 3 (class 0) against 8 (class 1): 275 images for training and 82 for the test."""
    whole = digits()
    parts: list[Tensor] = []
    for images, labels in ((whole.train, whole.train_labels), (whole.test, whole.test_labels)):
        chosen = (labels == PAIR[0]) | (labels == PAIR[1])
        parts += [images[chosen], (labels[chosen] == PAIR[1]).long()]
    return Task("three-eight", tuple(map(str, PAIR)), *parts)


def eyes(seed: int) -> nn.Sequential:
    """Return a network that knows all ten digits and takes no part in any fit."""
    task = digits()
    torch.manual_seed(1000 + seed)
    net = residual_judge(tuple(task.train.shape[1:]), 10)
    train_classifier(net, task.train, task.train_labels, steps=_EYES_STEPS, seed=1000 + seed, progress=False)
    assert isinstance(net, nn.Sequential)
    return net.eval().requires_grad_(False)


def fitted(
    task: Task,
    model: nn.Module,
    backend: xlens.Backend,
    seed: int,
    figures: dict[str, float],
    label: str,
    *,
    layer: str | None = None,
    **options: Any,
) -> xlens.LensExplainer:
    """Fit a lens; note its CPU seconds, the seconds of the classifier's questions among them."""
    began = time.process_time()
    if layer is None:
        options["mask"] = UNFITTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = xlens.fit(
            xlens.Classifier(model, class_names=task.class_names, layer=layer),
            task.train,
            backend,
            seed=seed,
            progress=False,
            **options,
        )
    figures[f"{label}: CPU seconds"] = time.process_time() - began
    print(f"{label}: {figures[f'{label}: CPU seconds']:.0f} CPU s", flush=True)
    CACHE.mkdir(exist_ok=True)
    return explainer
