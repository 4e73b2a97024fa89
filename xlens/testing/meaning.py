"""Checks of whether a lens that has learned the toy world tells the truth about it.

They run on ``Candidate.learned``, fitted by ``xlens.fit`` with its mask, and on pictures that it has not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.margins import margin_over_rest
from xlens.contracts.lens import Lens
from xlens.testing.bench import Bench, quiet
from xlens.testing.checking import NotCheckedError, check, require
from xlens.testing.correctness import features_name_the_code
from xlens.testing.manners import fits_a_lens
from xlens.testing.world import patch_of

_FLIPS = 0.8
_EXPLAINED = 0.5
_AGREES = 0.8
#: Of the pictures of one pair of classes, of which there are eight.
_FLIPS_OF_A_PAIR = 0.5
_ON_THE_CAUSE = 0.5
_ADVICE = (
    "pass options with which it learns this world: Candidate(backend, learned=MyBackend(steps=500)); where it "
    "cannot, expected_failures={this check: why}"
)


@check(needs=(fits_a_lens,), decoding=True)
def codes_decode_to_what_was_encoded(bench: Bench) -> None:
    """The decoding of an input's code resembles the input, for the eye and for the classifier."""
    explanation = bench.explanation
    inputs = explanation.inputs
    whole, found = inputs, explanation.reconstruction
    if found is None:
        with bench.learned.classifier.frozen(), torch.no_grad():
            whole = bench.learned.classifier.activations(inputs)
            found = bench.learned.lens.decode(explanation.codes)
    error = (found - whole).square().mean() / (whole - whole.mean(0)).square().mean()
    require(
        float(error) <= 1 - _EXPLAINED,
        f"{bench.backend.name}: decode(encode(x)) is not like x",
        given=f"{1 - float(error):.0%} of the variance of the pictures, or of the layer, is explained",
        allowed=f"at least {_EXPLAINED:.0%}",
        do=_ADVICE,
    )
    agrees = float(explanation.fidelity.agrees.float().mean())
    require(
        agrees >= _AGREES,
        f"{bench.backend.name}: the classifier sees another class in decode(encode(x)) than in x",
        given=f"the same class in {agrees:.0%}",
        allowed=f"at least {_AGREES:.0%}",
        do=_ADVICE,
    )


@check(needs=(fits_a_lens,))
def counterfactuals_flip_f(bench: Bench) -> None:
    """The classifier puts the counterfactual in the contrast class, decoded and as an edited input, from each class
    to each."""
    fidelity = bench.explanation.fidelity
    pairs = torch.stack([bench.explanation.target, bench.explanation.contrast], 1)
    for what, flips in (("decoding", fidelity.decoding_flips), ("edited input", fidelity.flips)):
        share = float(flips.float().mean())
        require(
            share >= _FLIPS,
            f"{bench.backend.name}: counterfactuals do not flip the classifier ({what})",
            given=f"{share:.0%} of {len(flips)} pictures flip",
            allowed=f"at least {_FLIPS:.0%}",
            do=_ADVICE,
        )
        for pair in pairs.unique(dim=0):
            rows = (pairs == pair).all(1)
            share = float(flips[rows].float().mean())
            require(
                share >= _FLIPS_OF_A_PAIR,
                f"{bench.backend.name}: counterfactuals do not flip it ({what}) from class {pair[0]} to {pair[1]}",
                given=f"{share:.0%} of {int(rows.sum())} pictures flip",
                allowed=f"at least {_FLIPS_OF_A_PAIR:.0%} of each pair, {_FLIPS:.0%} in all",
                do="move to the contrast that is given, not to the classifier's runner-up; else " + _ADVICE,
            )


@check(needs=(fits_a_lens, features_name_the_code))
def features_are_of_their_class(bench: Bench) -> None:
    """Features with a ``class_index`` hold the evidence for that class: without them it is gone."""
    explainer = bench.learned
    owned = {
        c: [dim for feature in explainer.lens.features if feature.class_index == c for dim in feature.dims]
        for c in range(3)
    }
    owned = {c: dims for c, dims in owned.items() if dims}
    if not owned:
        raise NotCheckedError("no feature has a class_index")
    inputs = bench.world.held_out.clone()
    own: list[float] = []
    others: list[float] = []
    with quiet(), torch.no_grad(), explainer.classifier.frozen(seed=0), bench.classifier.frozen(seed=0):
        codes = explainer.lens.encode(inputs)
        predicted = bench.classifier(inputs).argmax(1)
        for c in owned:
            whole = codes[predicted == c]
            before = _score(bench, explainer.lens, whole, c)
            # From a third class, so that nothing else comes in than what is said to be taken away.
            for third in {0, 1, 2} - {c}:
                donors = codes[predicted == third]
                donors = donors.repeat(len(whole) // len(donors) + 1, 1)[: len(whole)]
                for owner in owned.keys() - {third}:
                    moved = whole.clone()
                    moved[:, owned[owner]] = donors[:, owned[owner]]
                    lost = before - _score(bench, explainer.lens, moved, c)
                    (own if owner == c else others).append(float(lost.mean()))
    gone, other = _mean(own), max(_mean(others), 0.0)
    require(
        gone > other,
        f"{bench.backend.name}: features do not hold the evidence of the class that they are said to",
        given=f"replaced by those of a third class, the score of their class falls by {gone:.3g}, and by "
        f"{_mean(others):.3g} where features of another class are replaced",
        allowed="more than for those of another class, and more than 0",
        do="class_index is the class that grows with the feature; None where there is no such class",
    )


@check(needs=(counterfactuals_flip_f,))
def attributions_lie_on_the_cause(bench: Bench) -> None:
    """At least half of the attribution mass lies on the patch that decides, where it is taken away."""
    explanation = bench.explanation
    # Toward the class without a patch: toward the other, where the new one comes is a cause as well.
    caused = (explanation.target != 0) & (explanation.contrast == 0)
    share = _share_on_the_cause(explanation.attributions["lig"][caused], explanation.inputs[caused])
    require(
        float(share) >= _ON_THE_CAUSE,
        f"{bench.backend.name}: attributions lie beside the cause",
        given=f"{float(share):.0%} of their mass on the patch (median)",
        allowed=f"at least {_ON_THE_CAUSE:.0%}",
        do=_ADVICE,
    )


def _score(bench: Bench, lens: Lens, codes: Tensor, c: int) -> Tensor:
    logits = bench.logits(lens, codes.clone())
    return margin_over_rest(logits, torch.full((len(logits),), c))


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _share_on_the_cause(attributions: Tensor, inputs: Tensor) -> Tensor:
    mass = attributions.abs()
    share = (mass * patch_of(inputs)).flatten(1).sum(1) / mass.flatten(1).sum(1).clamp_min(1e-12)
    return torch.median(share)
