"""A fit with its CPU seconds and everything that it warned of."""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

from torch import nn

import xlens
from benchmarks.common.tasks import Task

#: For figures in which the mask plays no part: it is there, and not really fitted.
UNFITTED = xlens.MaskOptions(steps=1, pool=512)


class Fit(NamedTuple):
    """What a fit gave: `seconds` of CPU time of the lens, without the mask, and the texts of all warnings."""

    explainer: xlens.LensExplainer
    seconds: float
    said: list[str]


def fit(
    task: Task,
    model: nn.Module,
    backend: str,
    seed: int,
    *,
    mask: bool | xlens.MaskOptions = True,
    layer: str | None = None,
    **options,
) -> Fit:
    """Fit a lens; without `mask`, for figures in which it plays no part, the mask is not really fitted.

    On a hidden `layer`, where one is named, there is none.
    """
    wanted = mask if isinstance(mask, xlens.MaskOptions) else None if mask else UNFITTED
    first: dict[str, float] = {}
    last: dict[str, float] = {}

    def note(event: xlens.StepEvent) -> None:
        now = time.process_time()
        first.setdefault(event.phase, now)
        last[event.phase] = now

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainer = xlens.fit(
            xlens.Classifier(model, class_names=task.class_names, layer=layer),
            task.train,
            backend,
            mask=wanted if layer is None else None,
            seed=seed,
            progress=False,
            on_step=note,
            **options,
        )
    # From the end of the first step on: what comes before it, as f's outputs on the data, is the same for all.
    seconds = sum(last[phase] - first[phase] for phase in first if phase.startswith(backend))
    return Fit(explainer, seconds, [str(warning.message) for warning in caught])
