"""Checks of a lens that edits inputs directly: where, with what, and what it says where it cannot."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor

from xlens.contracts.lens import EditingLens, LocalEdit
from xlens.testing.bench import Bench
from xlens.testing.checking import check, require, same
from xlens.testing.correctness import shapes_are_right

#: By which parts may add up to more than 1, for rounding.
_ROUNDING = 1e-5


@check(needs=(shapes_are_right,), capability="edits")
def edits_keep_to_their_parts(bench: Bench) -> None:
    """Parts lie in [0, 1], add up to no more than 1, one for each feature, and nothing changes outside of them."""
    n, name = len(bench.inputs), bench.backend.name
    with bench.asking() as lens:
        features = len(lens.features)
        for target, contrast in itertools.permutations(range(3), 2):
            local = _edit(bench, target, contrast)
            shapes = tuple(local.filled.shape), tuple(local.parts.shape), len(local.problems)
            wanted = tuple(bench.inputs.shape), (n, features, *bench.inputs.shape[2:]), n
            require(
                shapes == wanted,
                f"{name}: edit returns wrong shapes",
                given=f"filled {shapes[0]}, parts {shapes[1]}, {shapes[2]} problems",
                allowed=f"filled {wanted[0]}, parts {wanted[1]}, one dimension for each feature, {n} problems",
                do="a part that is not there is zero; a problem that is not there is None",
            )
            low, total = float(local.parts.min()), float(local.parts.sum(1).max())
            require(
                low >= -_ROUNDING and total <= 1 + _ROUNDING,
                f"{name}: the parts of an edit are no shares",
                given=f"from {low:.3g}, adding up to {total:.3g}",
                allowed="in [0, 1], and nowhere adding up to more than 1",
                do="let each pixel belong to one part",
            )
    found = bench.explain(bench.base.explainer)
    outside = (cast(Tensor, found.mask) <= 0) & (found.counterfactual != found.inputs)
    require(
        not bool(outside.any()),
        f"{name}: the counterfactual changes what no part covers",
        given=f"{int(outside.sum())} values",
        do="mark in parts whatever filled changes",
    )


@check(needs=(edits_keep_to_their_parts,), capability="edits")
def edits_do_not_depend_on_the_batch(bench: Bench) -> None:
    """An input alone is edited as it is in a batch, and the same way each time."""
    n = len(bench.inputs)
    with bench.asking() as lens:
        zero = torch.zeros(n, dtype=torch.long)
        together = _rendered(_edit(bench, 1, 0), bench.inputs)
        again = _rendered(_edit(bench, 1, 0), bench.inputs)
        alone = []
        for i in range(n):
            one = slice(i, i + 1)
            local = cast(EditingLens, lens).edit(bench.inputs[one].clone(), zero[one] + 1, zero[one])
            alone.append(_rendered(local, bench.inputs[one]))
    for what, other in (("asked twice", again), ("alone", torch.cat(alone))):
        require(
            same(other, together),
            f"{bench.backend.name}: edit gives another result {what}",
            given=f"a difference of up to {float((other - together).abs().max()):.3g}",
            do="no statistics over the batch, and draws from a generator seeded anew in each call",
        )


@check(needs=(edits_keep_to_their_parts,), capability="edits")
def fills_do_not_ask_the_classifier(bench: Bench) -> None:
    """What is filled into a region is the same for a classifier of other weights, and so not adversarial."""
    mask = torch.zeros_like(bench.inputs[:, :1])
    height, width = mask.shape[2:]
    mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
    model = bench.classifier.model
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with bench.asking() as lens:
        before = cast(EditingLens, lens).fill(bench.inputs.clone(), mask.clone())
        try:
            for value in model.parameters():
                value.data.mul_(-1)
            after = cast(EditingLens, lens).fill(bench.inputs.clone(), mask.clone())
        finally:
            model.load_state_dict(kept)
    off = float(((before - after) * mask).abs().max())
    require(
        same(before * mask, after * mask),
        f"{bench.backend.name}: fill depends on the classifier",
        given=f"a difference of up to {off:.3g} where its weights are negated",
        do="make fill a function of the input, the mask and what fit has found in the data",
    )


@check(needs=(edits_keep_to_their_parts,), capability="edits")
def problems_are_said_where_nothing_flips(bench: Bench) -> None:
    """An edit that does not convince the classifier says so in words, from each class to each."""
    for target, contrast in itertools.permutations(range(3), 2):
        with bench.asking():
            local = _edit(bench, target, contrast)
            flips = bench.classifier(_rendered(local, bench.inputs)).argmax(1) == contrast
        silent = [i for i, said in enumerate(local.problems) if not (said or bool(flips[i]))]
        require(
            not silent,
            f"{bench.backend.name}: an edit that does not flip the classifier says nothing of it",
            given=f"{len(silent)} of {len(flips)} pictures, from class {target} to {contrast}",
            do="ask the classifier about the edited input, and give it a problem: 'no local counterfactual: ...'",
        )


def _edit(bench: Bench, target: int, contrast: int) -> LocalEdit:
    zero = torch.zeros(len(bench.inputs), dtype=torch.long)
    return cast(EditingLens, bench.base.lens).edit(bench.inputs.clone(), zero + target, zero + contrast)


def _rendered(local: LocalEdit, inputs: Tensor) -> Tensor:
    return inputs + local.parts.sum(1, keepdim=True) * (local.filled - inputs)
