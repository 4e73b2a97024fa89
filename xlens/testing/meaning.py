"""Checks of whether a lens that has learned the toy world tells the truth about it.

They run on ``Candidate.learned``, fitted by ``xlens.fit`` with its mask, and on pictures that it has not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.testing.bench import Bench
from xlens.testing.checking import check, require
from xlens.testing.manners import fits_a_lens
from xlens.testing.world import patch_of

_FLIPS = 0.8
_EXPLAINED = 0.5
_AGREES = 0.8
_ON_THE_CAUSE = 0.5
_ADVICE = (
    "pass options with which it learns this world: Candidate(backend, learned=MyBackend(steps=500)); where it "
    "cannot, expected_failures={this check: why}"
)


@check(needs=(fits_a_lens,))
def codes_decode_to_what_was_encoded(bench: Bench) -> None:
    """The decoding of an input's code resembles the input, for the eye and for f."""
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
        f"{bench.backend.name}: f sees another class in decode(encode(x)) than in x",
        given=f"the same class in {agrees:.0%}",
        allowed=f"at least {_AGREES:.0%}",
        do=_ADVICE,
    )


@check(needs=(fits_a_lens,))
def counterfactuals_flip_f(bench: Bench) -> None:
    """f puts the counterfactual in the contrast class: the lens's decoding of it, and the edited input."""
    fidelity = bench.explanation.fidelity
    for what, flips in (("decoding", fidelity.decoding_flips), ("edited input", fidelity.flips)):
        share = float(flips.float().mean())
        require(
            share >= _FLIPS,
            f"{bench.backend.name}: counterfactuals do not flip f ({what})",
            given=f"{share:.0%} of {len(flips)} pictures flip",
            allowed=f"at least {_FLIPS:.0%}",
            do=_ADVICE,
        )


@check(needs=(counterfactuals_flip_f,))
def attributions_lie_on_the_cause(bench: Bench) -> None:
    """At least half of the attribution mass lies on the patch that decides, a ninth of the picture."""
    explanation = bench.explanation
    caused = explanation.target != 0
    share = _share_on_the_cause(explanation.attributions["lig"][caused], explanation.inputs[caused])
    require(
        float(share) >= _ON_THE_CAUSE,
        f"{bench.backend.name}: attributions lie beside the cause",
        given=f"{float(share):.0%} of their mass on the patch (median)",
        allowed=f"at least {_ON_THE_CAUSE:.0%}",
        do=_ADVICE,
    )


def _share_on_the_cause(attributions: Tensor, inputs: Tensor) -> Tensor:
    mass = attributions.abs()
    share = (mass * patch_of(inputs)).flatten(1).sum(1) / mass.flatten(1).sum(1).clamp_min(1e-12)
    return torch.median(share)
