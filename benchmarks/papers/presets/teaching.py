"""Which images to ask about: ILVM over a VAE is taught digit and thickness (Adel et al. 2018, figure 8)."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from xlens_ilvm import ILVM

import xlens
from benchmarks.common.tasks import Task
from benchmarks.papers.cells import Figures
from benchmarks.papers.presets.common import UNFITTED
from xlens.metrics import interpretability

#: Rows observed to begin with, asked for in each round, and rounds.
BEGIN, ROUND, ROUNDS = 50, 50, 3
STRATEGIES: tuple[Literal["random", "max_entropy", "mutual_information", "power_mutual_information"], ...] = (
    "random",
    "max_entropy",
    "mutual_information",
    "power_mutual_information",
)
STEPS, TEACHING_STEPS = 150, 30


def taught(
    task: Task,
    model: nn.Module,
    below: xlens.LensExplainer,
    side: Tensor,
    test_side: Tensor,
    backend: ILVM,
    seed: int,
) -> Figures:
    """Return the metric after each way of asking, the mean over rounds, from the same beginning."""
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(seed))
    pool, told = task.train[order], side[order]
    known = told.clone()
    known[BEGIN:] = torch.nan
    settings = dataclasses.replace(
        backend, steps=STEPS, teaching_steps=TEACHING_STEPS, attributes=(), kinds=("single", "measured")
    )
    classifier = xlens.Classifier(model, class_names=task.class_names)
    figures: Figures = {}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        began = xlens.fit(
            classifier, pool, settings, over=below, side_info=known, mask=UNFITTED, seed=seed, progress=False
        )
        began.save(folder)
        figures["teaching: to begin with"] = figure(began, task, side, test_side)
        for strategy in STRATEGIES:
            explainer = xlens.load(folder, classifier)
            left, line = torch.arange(BEGIN, len(pool)), []
            for turn in range(ROUNDS):
                rows = left[explainer.teaching.query(pool[left], ROUND, strategy, seed=100 * seed + turn)]
                explainer.teaching.teach(pool[rows], told[rows], seed=seed, progress=False)
                left = left[~torch.isin(left, rows)]
                line.append(figure(explainer, task, side, test_side))
            figures[f"teaching: {strategy}"] = sum(line) / len(line)
    return figures


@torch.no_grad()
def figure(explainer: xlens.LensExplainer, task: Task, side: Tensor, test_side: Tensor) -> float:
    """Return mean p of digit and thickness on the test images, each read off one dimension."""
    with xlens.asking(explainer) as lens:
        train, test = (lens.encode(images).float() for images in (task.train, task.test))
    found = interpretability(train, side, test_codes=test, test_side_info=test_side, max_rows=500)
    return float(found.probability.mean())
