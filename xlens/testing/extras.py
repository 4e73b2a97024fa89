"""Checks of what ``fit`` takes beside the data: side information, another lens, and a hidden layer."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.api import fit
from xlens.classifier.classifier import Classifier
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.testing.bench import Bench, FitRecord, quiet
from xlens.testing.checking import CheckFailedError, check, require, same
from xlens.testing.correctness import shapes_are_right


@check(needs=(shapes_are_right,), capability="side_info")
def side_information_is_taken(bench: Bench) -> None:
    """A table with gaps, a yes-or-no column and a number beside each input, is learned from."""
    inputs = bench.world.inputs
    # In double precision, as the core hands a table on.
    brightness = inputs.flatten(1).median(1).values.double()
    table = torch.stack([(brightness > brightness.median()).double(), brightness], 1)
    table[::3, 0] = float("nan")
    fitted = bench.fit(side_info=table)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
        decoded = bench.decoded(fitted.lens, codes.clone())
    require(
        bool(codes.isfinite().all() and decoded.isfinite().all()),
        f"{bench.backend.name}: with side_info codes or decodings are not finite",
        do="NaN in side_info means not observed; leave those entries out of the loss",
    )
    require(
        _differ(bench.base, fitted),
        f"{bench.backend.name}: side_info changes nothing of the lens",
        do="learn from run.side_info, or take 'side_info' out of capabilities",
    )
    upside_down = bench.fit(side_info=table.flip(0))
    require(
        _differ(fitted, upside_down),
        f"{bench.backend.name}: it does not matter which row of side_info belongs to which input",
        do="row i of run.side_info belongs to the input of index i, batch.index",
    )


@check(needs=(shapes_are_right,), capability="over")
def another_lens_is_built_upon(bench: Bench) -> None:
    """A lens over the codes of another one works, and is another than without it."""
    fitted = bench.fit(over=bench.base.explainer)
    with bench.asking():
        codes = fitted.lens.encode(bench.inputs.clone())
    require(
        codes.dim() == 2 and bool(codes.isfinite().all()),
        f"{bench.backend.name}: fitted over another lens, codes are wrong",
        given=tuple(codes.shape),
        allowed="(N, d), finite",
    )
    require(
        _differ(bench.base, fitted),
        f"{bench.backend.name}: the lens that it is fitted over changes nothing",
        do="work on the codes of run.over.lens, or take 'over' out of capabilities",
    )


#: Layers of the toy world's classifier: vectors, and small maps.
_VALUES = {"body.6": "vectors (N, 32)", "body.5": "maps (N, 8, 2, 2)"}
#: Inputs that are fitted on there, and that are explained.
_FITTED_ON, _EXPLAINED = 96, 3


@check(needs=(shapes_are_right,), capability="representations")
def a_hidden_layer_is_fitted_on(bench: Bench) -> None:
    """Where a hidden layer is named, it is fitted on vectors and on small maps, and its lens explains there."""
    name = bench.backend.name
    for layer, kind in _VALUES.items():
        try:
            explainer, explanation = _on_layer(bench, layer)
        except Exception as fault:
            raise CheckFailedError(
                f"{name}: it cannot be fitted on a hidden layer, or explain there",
                given=f"{kind}: {type(fault).__name__}: {(str(fault).splitlines() or [''])[0]}",
                do="model values of whatever shape run.spec has, by the classifier that fit is handed, or take "
                "'representations' out of capabilities",
            ) from fault
        found = {"codes": explanation.codes, "attributions": explanation.attributions["lig"]}
        found["scores of the counterfactual"] = explanation.counterfactual_scores
        wrong = [part for part, values in found.items() if not bool(values.isfinite().all())]
        require(not wrong, f"{name}: on {kind} of a hidden layer {' and '.join(wrong)} are not finite")
        require(
            explainer.on_layer and len(explanation) == _EXPLAINED,
            f"{name}: its lens on {kind} of a hidden layer does not decode there",
            do="leave decodes_to as it is: what is fitted on values decodes to values",
        )


def _on_layer(bench: Bench, layer: str) -> tuple[LensExplainer, Explanation]:
    classifier = Classifier(bench.world.model(), layer=layer)
    with quiet():
        explainer = fit(classifier, bench.world.inputs[:_FITTED_ON].clone(), bench.backend, progress=False)
        return explainer, explainer.explain(bench.inputs[:_EXPLAINED].clone(), n_steps=2, tolerance=1.0)


def _differ(first: FitRecord, second: FitRecord) -> bool:
    one, other = first.lens.state_dict(), second.lens.state_dict()
    return one.keys() != other.keys() or not all(_same(one[key], other[key]) for key in one)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and same(first, second, exactly=True)
