"""What is asked of an explanation, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xlens.attr.captum_methods import captum_names, check_captum
from xlens.attr.paths import PATHS, CodePath
from xlens.contracts.additions import AttributionMethod, Carrier
from xlens.contracts.capabilities import SupportsDivergence
from xlens.contracts.lens import Lens
from xlens.contracts.numbers import is_count, is_number
from xlens.contracts.options import make
from xlens.counterfactual.carry import CARRIES, Carry, carry_faults, default_carry
from xlens.errors import DataError, OptionError, did_you_mean
from xlens.explaining.divergences import method_faults
from xlens.registry.added import additions, load_addition
from xlens.registry.loading import offering

__all__ = [
    "DECODED_ONLY",
    "DIVERGENCES",
    "DRAWN_ONLY",
    "FEATURE_MAPS",
    "FRAMES",
    "OWN",
    "References",
    "Request",
    "check_attributions",
    "check_explain",
    "lens_faults",
    "named_carry",
]

#: xlens's own attributions, and what they are in a few words.
OWN = {
    "lig": "the line integral along the generative path",
    "ig_counterfactual": "the line integral along the straight line from the counterfactual",
    "idgi": "important-direction gradients along the generative path",
    "lig_paper": "equation 7 of Dravid et al. (2022) as printed, not complete",
    "guided_ig": "the line integral along the pixel path that the classifier responds to least",
    "ig_ensemble": "the mean of straight lines from the counterfactual and real inputs of the contrast class",
    "latent_shift": "mean absolute change along the gradient in codes",
    "difference": "|G(z) - G(z0)|, what the lens changes",
    "accumulated": "the sum of the absolute changes along the path",
    "divergence_class": "what makes the counterfactual's class evidence differ from the input's",
    "divergence_nuisance": "what makes everything else of its code differ from the input's",
}
#: Those that attribute a divergence, and of which part of the code; their option `method` names one of Captum's.
DIVERGENCES = {"divergence_class": "class", "divergence_nuisance": "nuisance"}


#: Attributions that go through decoded inputs, which not every kind of lens has.
DECODED_ONLY = ("lig_paper", "latent_shift")
#: Those that need something of the input's own kind for a counterfactual, which another real input is not.
DRAWN_ONLY = (*DECODED_ONLY, "difference", "accumulated")
#: Frames of a path that are shown.
FRAMES = 11
#: One map for each named part of the code, and so no attribution of its own.
FEATURE_MAPS = "lig_features"


#: Options of xlens's own attributions, with their defaults.
_OPTIONS: dict[str, dict[str, int]] = {"ig_ensemble": {"k": 4}}


@dataclass(frozen=True)
class References:
    """Real inputs to explain against.

    Args:
        inputs: ``(M, *S)``.
        classes: ``(M,)`` the classifier's predictions on them.
    """

    inputs: Tensor
    classes: Tensor

    def nearest(self, points: Tensor, contrast: Tensor, k: int) -> Tensor:
        """Return the `k` inputs of each row's contrast class that are nearest to its point, ``(N, k, *S)``.

        Raises:
            DataError: there are fewer of a class that is needed.
        """
        chosen = []
        for point, wanted in zip(points, contrast.tolist(), strict=True):
            candidates = self.inputs[self.classes == wanted]
            if len(candidates) < k:
                raise DataError(
                    "explain: too few references of a contrast class",
                    given=f"{len(candidates)} that the classifier puts in class {wanted}",
                    allowed=f"{k} or more for 'ig_ensemble'",
                    do="pass more real inputs as references",
                )
            distance = (candidates - point).flatten(1).norm(dim=1)
            chosen.append(candidates[distance.argsort()[:k]])
        return torch.stack(chosen)


@dataclass(frozen=True)
class Request:
    """What is asked of each batch.

    Args:
        attributions: name -> its options.
        n_steps, tolerance: of path integrals.
        path: the path between the codes.
        batch, code_batch: points in flight, of the classifier alone and of the classifier behind the generator.
        references: real inputs, where there are any.
    """

    attributions: Mapping[str, Mapping[str, Any]]
    n_steps: int
    tolerance: float
    path: CodePath | str
    batch: int = 1
    code_batch: int = 1
    references: References | None = None

    @property
    def straight(self) -> bool:
        """Whether a lens may go its own way between codes: no path through them is asked for, nor maps of parts."""
        return self.path in ("linear", "pixel") and FEATURE_MAPS not in self.attributions


def check_attributions(attributions: Any) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the attributions by name with their options, and what is wrong with them."""
    if isinstance(attributions, Mapping):
        wanted = dict(attributions)
    elif isinstance(attributions, str) or not isinstance(attributions, Sequence):
        message = "attributions must be a mapping of names to options or a sequence of names"
        return {}, [f"{message}, got {attributions!r}"]
    elif strange := [name for name in attributions if not isinstance(name, str)]:
        return {}, [f"unknown attribution {strange[0]!r}: names are strings"]
    else:
        wanted = {name: {} for name in attributions}
    faults = []
    own = (*OWN, FEATURE_MAPS)
    others = set(wanted) - set(own)
    captums = captum_names() if others else ()
    added = additions("attribution") if others - set(captums) else ()
    known = (*own, *added, *captums)
    for name, options in wanted.items():
        if not isinstance(options, Mapping):
            faults.append(f"the options of {name!r} must be a mapping, got {options!r}")
        elif name in own:
            faults += _own_faults(name, options)
        elif name in added:
            faults += _added_faults(name, options)
        else:
            wrong = check_captum(str(name), options)
            if wrong and name not in known:
                wrong[0] += f".{did_you_mean(str(name), known)} Known: {', '.join(known)}"
            faults += wrong
    return wanted, faults


def _own_faults(name: str, options: Mapping[str, Any]) -> list[str]:
    if name in DIVERGENCES:
        own = dict(options)
        method = own.pop("method", "gradient_shap")
        return [f"{name!r}: {fault}" for fault in method_faults(method, own)]
    known = _OPTIONS.get(name, {})
    takes = ", ".join(known) or "none"
    faults = [f"{name!r} has no option {key!r}; it takes {takes}" for key in options if key not in known]
    k = options.get("k", 1)
    if "k" in known and not is_count(k):
        faults.append(f"k of {name!r} must be an int >= 1, got {k!r}")
    return faults


def _added_faults(name: str, options: Mapping[str, Any]) -> list[str]:
    try:
        make(load_addition(AttributionMethod, name), options)
    except OptionError as fault:
        return [f"{name!r}: {fault}"]
    return []


def named_carry(carry: Any) -> Any:
    """Return a carry that a third party brings, where one of that name is installed; else what was given."""
    if isinstance(carry, str) and carry not in CARRIES and carry in additions("carrier"):
        return load_addition(Carrier, carry)()
    return carry


def lens_faults(lens: Lens, attributions: Mapping[str, Any]) -> list[str]:
    """Return, in words, which attributions need what this lens cannot do, and the backends that can."""
    asked = [name for name in attributions if name in DIVERGENCES]
    if not asked or isinstance(lens, SupportsDivergence):
        return []
    able = ", ".join(offering("divergence")) or "none is installed"
    return [
        f"attribution {name!r} needs a lens that says how far codes are apart; these can: {able}" for name in asked
    ]


def check_explain(
    method: str,
    masked: bool,
    *,
    carry: Carry | None = None,
    n_steps: int = 1,
    tolerance: float = 1.0,
    internal_batch_size: int | None = None,
    path: str = "linear",
    faults: Sequence[str] = (),
) -> Carry:
    """Check the options of `method`, and return the carry to use.

    Args:
        method: names the caller.
        masked: whether there is a mask.
        carry, n_steps, tolerance, internal_batch_size, path: the options.
        faults: what was found wrong already.

    Raises:
        OptionError: all faults in one error.
    """
    faults = list(faults)
    if path not in PATHS and path not in (added := additions("path")):
        faults.append(f"path must be one of {', '.join((*PATHS, *added))}, got {path!r}")
    faults += carry_faults(carry, masked)
    if not is_count(n_steps):
        faults.append(f"n_steps must be an int >= 1, got {n_steps!r}")
    if not is_number(tolerance) or not 0 < tolerance <= 1:
        faults.append(f"tolerance must be in (0, 1], got {tolerance!r}")
    if internal_batch_size is not None and not is_count(internal_batch_size):
        faults.append(f"internal_batch_size must be an int >= 1 or None, got {internal_batch_size!r}")
    if faults:
        raise OptionError(f"{method}: " + "; ".join(faults))
    return carry or default_carry(masked)
