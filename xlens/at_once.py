"""From a classifier and images to their explanation in one call, and to one for each of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes
from xlens.classifier.turns import Turn
from xlens.contracts.backend import Backend
from xlens.data import Data, as_data
from xlens.errors import DataError, ModelError, OptionError
from xlens.explaining.explain import explain as explain_inputs
from xlens.explanation import Explanation
from xlens.fitting.saying import say

__all__ = ["explain", "explain_labels"]

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


def explain_labels(
    model: Classifier, images: Any, *, labels: Sequence[int | str] | None = None, data: Any = None, **options: Any
) -> dict[str, Explanation]:
    """Explanations of independent labels on images ``(N, *S)``, one for each label, in one call.

    For each label a lens is fitted and asked. Each explanation is what :func:`explain` says of
    ``model.about(label)``: the label against its absence, with what becomes of the others in ``.other_labels``.
    Nothing is fitted before it is known that the data suffice for every label.

    Args:
        model: the classifier with ``outputs="multilabel"`` or ``"multilabel_probabilities"``.
        images: as for :func:`explain`.
        labels: some of them, by name or number; None for all.
        data: what the lenses are fitted on, as for :func:`explain`.
        **options: the other arguments of :func:`explain`, for every label alike.

    Returns:
        name of a label -> its explanation, in the order asked.

    Raises:
        ModelError: the outputs are no independent labels, or there is no such label.
        OptionError: no label is asked about, or None.
        DataError: the classifier gives some label to all of the data, or to none.
        XlensError: as :func:`explain`.

    >>> import xlens
    >>> marks = xlens.Classifier(classifier, outputs="multilabel", labels=["three", "eight"])
    >>> [*xlens.explain_labels(marks, images[:20], backend="svae", steps=2, progress=False)]
    ['three', 'eight']
    """
    if not isinstance(model, Classifier):
        raise ModelError(
            "explain_labels: what the outputs are has to be said",
            given=type(model).__name__,
            do="xlens.Classifier(model, outputs='multilabel', labels=[...])",
        )
    every = model.about(None)
    given = _given(every, as_data(images if data is None else data))
    count, of = given.shape
    asked = [*range(count)] if labels is None else [every.about(label).label for label in labels]
    numbers = [number for number in asked if number is not None]
    if not numbers or len(numbers) < len(asked):
        raise OptionError("explain_labels: labels are names or numbers, at least one", given=repr(labels))
    names = every.names(count)
    poor = [
        f"{names[k]!r} ({int(given[k].sum())} of {of})" for k in numbers if given[k].all() or not given[k].any()
    ]
    if poor:
        raise DataError(
            "explain_labels: the classifier gives a label to all of the data, or to none",
            given=", ".join(poor),
            do="pass data= with inputs that have each label and inputs that lack it, or leave these out of labels=",
        )
    return {names[k]: explain(every.about(k), images, data=data, **options) for k in numbers}


def _given(classifier: Classifier, data: Data) -> Tensor:
    """Return ``(L, N)`` whether the classifier gives each of its labels to each of the inputs."""
    with Turn(), torch.no_grad(), classifier.frozen(seed=0):
        logits = [classifier(batch.inputs.to(classifier.device)).cpu() for batch in data.batches()]
    return torch.cat(logits).T > 0
