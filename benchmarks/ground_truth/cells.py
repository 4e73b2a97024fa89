"""One cell of the ground-truth benchmark: a lens, or none, on one task and seed, scored and kept as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import xlens
from benchmarks.common.cache import CACHE
from benchmarks.common.judges import predicted
from benchmarks.common.tasks import Task
from benchmarks.ground_truth.lenses import TASKS, lens, networks
from xlens.data import as_data
from xlens.fitted import Fitted
from xlens.training import survey

FOLDER = CACHE / "ground_truth"
#: Inputs, in the data's order, that f gets right and that have the cause: the first choose, the rest are scored.
VALIDATION, TEST = 50, 100
REFERENCES = 2000
SMOOTHING = 1.0
#: Points of the curves of deletion and insertion.
STEPS = 10

OF_LENSES = ("lig", "ig_counterfactual", "idgi", "ig_ensemble", "occlusion")
LENS_FREE = (
    "integrated_gradients:black", "integrated_gradients:mean", "integrated_gradients:blurred",
    "integrated_gradients:nearest", "gradient_shap:mean", "saliency", "layer_grad_cam", "occlusion:mean",
    "random", "edges", "constant",
)  # fmt: skip
CEILING = "integrated_gradients:clean"


class Identity(xlens.Lens):
    """Stands where there is no lens: it changes nothing, and none of its figures is kept."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def encode(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        return codes.view(-1, *self.shape)

    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        return codes

    @property
    def features(self) -> tuple[xlens.Feature, ...]:
        return (xlens.Feature("pixels", tuple(range(torch.Size(self.shape).numel())), "nuisance"),)


class NoLens(xlens.Backend):
    """The configuration of a lens that is not there."""

    name = "none"

    def fit(self, classifier: Any, data: Any, run: Any) -> xlens.Lens:
        return Identity(run.spec.shape)

    def build(self, classifier: Any, spec: xlens.Spec) -> xlens.Lens:
        return Identity(spec.shape)


def path(name: str, seed: int, backend: str) -> Path:
    return FOLDER / f"{name}-{seed}-{backend}.json"


def cell(name: str, seed: int, backend: str) -> dict[str, Any]:
    """Return the scores of a cell; computed where they are not kept yet."""
    kept = path(name, seed, backend)
    if kept.exists():
        return json.loads(kept.read_text())
    task = TASKS[name](seed)
    nets = networks(name, task, seed)
    accuracy = {n: float((predicted(net, task.test) == task.test_labels).float().mean()) for n, net in nets.items()}
    model = nets.pop("f")
    chosen = ((predicted(model, task.test) == 1) & (task.test_labels == 1)).nonzero()[: VALIDATION + TEST, 0]
    found: dict[str, Any] = {
        "task": name, "seed": seed, "lens": backend, "accuracy": accuracy,
        "count": len(chosen), "seconds": 0.0, "carry": {}, "f_on_original": original(task, model, chosen),
    }  # fmt: skip
    if backend == "none":
        explainer = no_lens(task, model)
        methods = LENS_FREE if task.test_clean is None else (*LENS_FREE, CEILING)
        found["figures"] = [row for row in scored(explainer, task, nets, chosen, methods) if row["who"] in methods]
    else:
        explainer, found["seconds"] = lens(name, task, model, backend, seed)
        found["figures"] = scored(explainer, task, nets, chosen, OF_LENSES)
        for carry in ("residual", "none"):
            found["carry"][carry] = scored(explainer, task, nets, chosen, (), carry=carry)
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    return found


def original(task: Task, model: nn.Module, chosen: Tensor) -> list[int]:
    """Return the classifier's class of true originals: where it is 1, it sees the cause before it was planted."""
    return [] if task.test_clean is None else predicted(model, task.test_clean[chosen]).tolist()


def scored(
    explainer: xlens.LensExplainer,
    task: Task,
    judges: dict[str, nn.Module],
    chosen: Tensor,
    methods: tuple[str, ...],
    carry: str | None = None,
) -> list[dict[str, Any]]:
    """Return every figure as plain numbers: who, name, better, value, and values with their index."""
    evaluation = xlens.evaluate(
        explainer,
        task.test[chosen],
        masks=None if task.test_masks is None else task.test_masks[chosen],
        clean=None if task.test_clean is None else task.test_clean[chosen],
        oracle=judges,
        references=task.train[:REFERENCES],
        methods=methods,
        carry=carry,
        smoothing=SMOOTHING,
        steps=STEPS,
        progress=False,
    )
    return [
        {
            "who": figure.contender.rpartition(": ")[2] if figure.contender in evaluation.maps else "lens",
            "name": figure.name,
            "better": figure.better,
            "value": round(figure.value, 5),
            "values": [round(value, 4) for value in figure.values.tolist()],
            "index": figure.index.tolist(),
        }
        for figure in evaluation.figures
    ]


def no_lens(task: Task, model: nn.Module) -> xlens.LensExplainer:
    classifier = xlens.Classifier(model, class_names=task.class_names)
    with classifier.frozen(seed=0):
        spec = survey(classifier, as_data(task.train[:REFERENCES]), progress=False, use_labels=False).spec
    return xlens.LensExplainer(Fitted(classifier, Identity(spec.shape), spec, None, NoLens(), {}))
