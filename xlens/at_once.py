"""``explain``: from a classifier and images to their explanation, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes
from xlens.contracts.backend import Backend
from xlens.data import as_data
from xlens.errors import DataError
from xlens.explaining.explain import explain as explain_inputs
from xlens.explanation import Explanation
from xlens.fitting.saying import say

__all__ = ["explain"]

#: Inputs after which the bar moves on.
_ROWS = 8


def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: str | Backend | None = None,
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Explanation:
    """Explanation of a classifier's decisions on images ``(N, *S)`` in one call: a lens is fitted, and asked.

    Whoever asks more than once fits once: ``explainer = xlens.fit(model, data)`` and ``explainer.explain(images)``.

    Args:
        model: the trained classifier, or an :class:`xlens.Classifier` around it.
        images: inputs ``(N, *S)`` in the classifier's own normalisation, in any form that ``fit`` takes.
        data: what the lens is fitted on, as for ``fit``; the images themselves if None. They have to hold inputs of
            at least two predicted classes, and a few dozen of each are better than one.
        backend: name of an installed backend, or a backend object; None chooses by the data, and says what, why and
            at what cost.
        target: a class by index or name, ``(N,)`` of them, or None for the classifier's prediction.
        contrast: as `target`; None for the lens's reference class, or else the runner-up.
        attributions: names of attribution methods, as for ``explainer.explain``.
        seed: seeds everything random.
        device: where the lens works; the classifier's device if None.
        progress: show bars, and what was chosen; None shows them on a terminal, and logs what was chosen under
            ``xlens`` elsewhere. False is silent.
        **options: fields of the backend.

    Returns:
        the explanation: ``.plot()`` draws one, ``.save_html("why.html")`` writes a page of all.

    Raises:
        XlensError: as for ``fit`` and for ``explainer.explain``.

    >>> import xlens
    >>> xlens.explain(classifier, images[:20], backend="medxgan", steps=2, progress=False)
    Explanation(20 of 1x8x8; attributions: lig; trustworthy: ...)
    """
    try:
        explainer = fit(
            model,
            images if data is None else data,
            backend,
            seed=seed,
            device=device,
            progress=progress,
            **options,
        )
    except DataError as fault:
        if data is None:
            fault.add_note(
                "explain: the lens was to be fitted on the images themselves. Pass data=, some hundreds of those "
                "that the classifier was trained on, and any number of images."
            )
        raise
    inputs = torch.cat([batch.inputs for batch in as_data(images).batches()])
    say(f"explain: {len(inputs)} inputs through a lens of {explainer.backend.name!r}", progress)
    return explain_inputs(
        explainer.fitted,
        inputs,
        target=target,
        contrast=contrast,
        attributions=attributions,
        rows=_ROWS,
        progress=progress,
    )
