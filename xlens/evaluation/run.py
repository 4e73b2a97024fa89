"""``evaluate``: one suite of figures for several lenses and attribution methods on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes, named_classes
from xlens.classifier.quiet import quiet
from xlens.classifier.turns import Turn
from xlens.contracts.explainer import Explainer
from xlens.contracts.numbers import plain
from xlens.counterfactual.carry import Carry
from xlens.deprecated import renamed
from xlens.errors import XlensWarning
from xlens.evaluation.checks import (
    added_metrics,
    check_nearest,
    check_oracles,
    check_shapes,
    lens_faults,
    name_faults,
    named_explainers,
    named_oracles,
    number_faults,
    oracle_of,
)
from xlens.evaluation.contenders import Asked, parse_methods, usual_methods
from xlens.evaluation.inputs import check_order, chosen_inputs, real_inputs, rows_of
from xlens.evaluation.judge import Judge, possible
from xlens.evaluation.suite import Suite
from xlens.evaluation.table import Evaluation
from xlens.explaining.asking import asks
from xlens.explaining.explain import references_of
from xlens.explaining.request import check_explain
from xlens.fitted import Fitted

__all__ = ["evaluate"]

_BATCH = 64

Methods = Sequence[str] | Mapping[str, Mapping[str, Any]]


@renamed(steps="points")
def evaluate(
    explainers: Explainer | Fitted | Mapping[str, Explainer | Fitted] | Sequence[Explainer | Fitted],
    data: Any,
    *,
    masks: Any = None,
    clean: Any = None,
    oracle: nn.Module | Classifier | Mapping[str, nn.Module | Classifier] | None = None,
    relabelled: nn.Module | Classifier | None = None,
    references: Any = None,
    factors: Any = None,
    methods: Methods | None = None,
    metrics: Methods = (),
    target: Classes | None = None,
    contrast: Classes | None = None,
    carry: Carry | None = None,
    n: int | None = None,
    smoothing: float = 0.0,
    share: float = 0.05,
    points: int = 20,
    restarts: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool | None = None,
) -> Evaluation:
    """Evaluation of lenses and attribution methods by one suite of figures, against the truth where it is known.

    Args:
        explainers: one, several, or names with explainers; all around one classifier, of which they may name other
            hidden layers.
        data: the N inputs to explain, as for :func:`xlens.fit`.
        masks: ``(N, 1, *spatial)`` bool, where the cause of each input is. Inputs whose mask is empty do not count
            for what needs one.
        clean: ``(N, *S)`` each input without its cause: the true counterfactual. Inputs that do not differ from it
            do not count for what needs one.
        oracle: an independently trained classifier of the same classes, or several by name.
        relabelled: the classifier's model trained anew on labels that were shuffled, for the check of that name.
        references: M other real inputs, in any form of data, for baselines and for realism.
        factors: ``(N, A)`` known factors of each input, for figures of codes; NaN where one says nothing of it.
        methods: attributions, or names with options; None for lig, ig_counterfactual, IG and Occlusion from the
            mean, saliency, a random map, Grad-CAM where the model has convolutions, and IG from the nearest of
            `references`. xlens's own, and Captum's in snake case with the lens's counterfactual as baseline, are
            another map for each lens. ``"METHOD:BASELINE"`` is Captum's from a baseline that
            needs no lens: ``black`` (the smallest value), ``mean`` (of the data), ``blurred``, ``nearest`` (of
            `references` that the classifier puts in the contrast class) or ``clean``. ``"random"``, ``"edges"`` and
            ``"constant"`` do not look at the classifier.
        metrics: figures of maps that third parties bring, by name, or names with options.
        target, contrast: an index, a name, or ``(N,)`` of either, as in :meth:`xlens.Explainer.explain`; None for
            what the first explainer takes.
        carry: how lenses' changes reach the inputs, as in :meth:`xlens.Explainer.explain`.
        n: so many inputs, drawn by `seed`; None for all.
        smoothing: standard deviation in pixels under which every map is located once more; 0 for not.
        share: of the pixels that become grey for ``drop``.
        points: of the curves of deletion, insertion and COUT.
        restarts: inversions from random starts to compare (2 or more), where a lens can search; 0 for none.
        confidence: of the bootstrap intervals, over inputs.
        seed: decides which inputs, and everything random.
        progress: show a progress bar; None shows it on a terminal.

    Returns:
        the figures. Those of attributions take the magnitude where they locate, and the sign where pixels are
        exchanged: for the data's mean, for a lens's own counterfactual, and for `clean` where it is given.
        ``randomised`` is the rank correlation with the map for the classifier with shuffled weights, on the first
        32 inputs: near 1, a map does not look at what the classifier has learnt. ``relabelled`` is the same with
        the map for a classifier that learnt shuffled labels by heart (Adebayo et al., 2018): near 1, a map does not
        look at what labels have to do with inputs.

    Raises:
        OptionError: an unknown method or a number out of range, all faults in one error; or an oracle of other
            classes.
        DataError: inputs, masks or others that do not fit, or a loader that shuffles beside them.
        ModelError: one of Captum's methods cannot do this model.

    >>> import xlens
    >>> found = xlens.evaluate(explainer, images, methods=("lig", "random"), n=12, progress=False)
    >>> found.count, 0 <= found.get("flips", "medxgan").value <= 1
    (12, True)
    """
    with Turn():
        named = named_explainers(explainers, data)
        first = next(iter(named.values()))
        given = {"references": references, "clean": clean}
        asked_for = usual_methods(references, first.classifier, first.spec.is_image) if methods is None else methods
        contenders, faults = parse_methods(asked_for, given, first.spec.is_image)
        added, wrong = added_metrics(metrics)
        faults += wrong + number_faults(n, smoothing, share, points, restarts, confidence, seed)
        faults += name_faults(named, contenders) + lens_faults(named, contenders, carry)
        check_explain("evaluate", any(asks(one).masked for one in named.values()), carry=carry, faults=faults)
        n, smoothing, share, points, restarts, confidence, seed = plain(
            (n, smoothing, share, points, restarts, confidence, seed)
        )
        beside = {"masks": masks, "clean": clean, "factors": factors}
        beside = {name: value for name, value in beside.items() if value is not None}
        own = {
            name: named_classes("evaluate", name, value, first.class_names)
            for name, value in (("target", target), ("contrast", contrast))
        }
        target, contrast = own["target"], own["contrast"]
        own = {name: value for name, value in own.items() if value is not None and np.ndim(value)}
        check_order(data, [*beside, *own])
        chosen = chosen_inputs(data, n, seed, first.spec.shape)
        rows = {name: rows_of(name, value, chosen) for name, value in (beside | own).items()}
        check_shapes(rows, chosen.inputs)
        real = None if references is None else real_inputs(references, first.spec.shape, seed)
        oracles = {name: oracle_of(model, first.classifier) for name, model in named_oracles(oracle).items()}
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            # What does not hold is a figure here.
            stack.enter_context(quiet(XlensWarning))
            other = None if relabelled is None else oracle_of(relabelled, first.classifier)
            others = {} if other is None else {"relabelled": other}
            for classifier in (first.classifier, *oracles.values(), *others.values()):
                stack.enter_context(classifier.frozen(seed=0))
            inputs = chosen.inputs.to(first.device)
            clean, masks = (
                None if name not in rows else rows[name].to(inputs.device) for name in ("clean", "masks")
            )
            classes = first.classes(
                inputs, rows.get("target", target), rows.get("contrast", contrast), _BATCH, "evaluate"
            )
            known = None if real is None else references_of(first, real, _BATCH)
            asked = Asked(
                first.classifier,
                first.spec,
                inputs,
                *classes,
                references=None if known is None else (known.inputs, known.classes),
                clean=None if clean is None else clean.to(inputs),
                seed=seed,
            )
            check_oracles(oracles | others, asked)
            check_nearest(contenders, asked)
            suite = Suite(asked, None if masks is None else masks.bool(), oracles, smoothing, share, points, added)
            contenders = possible(suite, contenders, must=methods is not None)
            judge = Judge(
                suite,
                contenders,
                None if other is None else other.model,
                rows.get("factors"),
                real,
                carry,
                restarts,
                confidence,
                progress,
            )
            figures = judge.all(named)
        return Evaluation(
            figures=tuple(figures),
            count=len(inputs),
            index=chosen.index,
            confidence=confidence,
            seed=seed,
            notes=tuple(suite.notes),
        )
