"""The flow as a generative classifier: which class makes an input likeliest, and where the classifier disagrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import xlens
from xlens.contracts import check_count, seeded
from xlens.data import as_inputs
from xlens.errors import OptionError, UnsupportedError
from xlens_flow.lens import FlowLens
from xlens_flow.likelihood import all_directions, log_likelihoods, random_directions

__all__ = ["SecondOpinion", "generative_classifier"]

_BATCH = 32
#: Dimensions up to which every direction may be asked.
_EXACT_UP_TO = 1024
#: Standard errors that a difference has to exceed to count as one.
_CERTAIN = 2.0


@dataclass(frozen=True)
class SecondOpinion:
    """What a generative classifier finds of inputs, beside the classifier's own decision.

    All differences are log-likelihood ratios in nats, with equal priors of the classes.

    Args:
        classes: ``(C,)`` the classes that were compared.
        log_likelihoods: ``(N, C)`` log p(x | class) in units of the data.
        decided: ``(N,)`` the classifier's class.
        likeliest: ``(N,)`` the class that makes the input likeliest.
        differences: ``(N,)`` log p(x | decided) - log p(x | the likeliest other class).
        standard_errors: ``(N,)`` of the differences, over the probes; 0 where the trace is exact.
        class_names: of all classes.
    """

    classes: Tensor
    log_likelihoods: Tensor
    decided: Tensor
    likeliest: Tensor
    differences: Tensor
    standard_errors: Tensor
    class_names: tuple[str, ...]

    @property
    def disagrees(self) -> Tensor:
        """Whether another class is likelier than the classifier's by more than two standard errors, ``(N,)``."""
        return self.differences < -_CERTAIN * self.standard_errors

    def verdict(self) -> list[str]:
        """Return a sentence for each input on which the two disagree, and one for all."""
        lines = [
            f"input {i}: the classifier says {self.class_names[int(self.decided[i])]}, and "
            f"{self.class_names[int(self.likeliest[i])]} makes it likelier by "
            f"{-float(self.differences[i]):.1f} nats (standard error {float(self.standard_errors[i]):.1f})"
            for i in self.disagrees.nonzero()[:, 0].tolist()
        ]
        share = float((~self.disagrees).float().mean())
        return [
            *lines,
            f"the generative classifier does not contradict it on {share:.0%} of the inputs",
        ]


def generative_classifier(
    explainer: xlens.Explainer,
    inputs: Any,
    *,
    classes: Sequence[int] | None = None,
    probes: int | None = 4,
    steps: int = 8,
    seed: int = 0,
) -> SecondOpinion:
    """Generative classifier: exact log p(x | c) of the flow for each class, as a second opinion on the classifier.

    It never sees the classifier's output on these inputs, but was fitted on its decisions: where it disagrees, the
    input does not look like what the classifier otherwise puts in that class. It takes some hundred passes of the
    network an input and class, and no part in explanations.

    Args:
        explainer: of a flow lens.
        inputs: ``(N, *S)``.
        classes: to compare; None for all. The classifier's class has to be among them.
        probes: random directions that the divergence is estimated with (Hutchinson), at least 2; None for the exact
            trace, one pass for each dimension of the data.
        steps: of the ODE.
        seed: seeds the probes.

    Raises:
        UnsupportedError: its lens is of another backend, or the data have too many dimensions for the exact trace.
        OptionError: there is no such class, or fewer than two; probes, steps or seed are wrong.
        DataError: inputs of another shape, none, or values that are not finite.

    References:
        Grathwohl et al. (2019), FFJORD. Li, Prabhudesai, Duggal, Brown, Pathak (2023), Your Diffusion Model is
        Secretly a Zero-Shot Classifier.
    """
    with xlens.asking(explainer, FlowLens, "generative_classifier") as lens:
        device = lens.low.device
        compared = _classes(lens, classes)
        check_count("generative_classifier", steps, "steps")
        given = as_inputs(inputs, lens.spec.shape).to(device)
        directions = _directions(lens, probes, seeded(seed, device))
        parts = [_found(lens, part, compared, steps, directions) for part in given.split(_BATCH)]
        by_probe = torch.cat([part for part, _ in parts])
        decided = torch.cat([part for _, part in parts])
    return _opinion(by_probe, decided, torch.tensor(compared, device=device), probes is None, lens.class_names)


def _found(
    lens: FlowLens, inputs: Tensor, compared: list[int], steps: int, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log-likelihoods by class and probe ``(N, C, P)``, and the classifier's classes ``(N,)``."""
    flow, rows = lens.flow, []
    for chosen in compared:
        one = F.one_hot(torch.full((len(inputs),), chosen, device=inputs.device), lens.spec.num_classes)
        conditions = F.pad(one.to(inputs.dtype), (0, 2 * flow.num_attributes))
        rows.append(log_likelihoods(flow, inputs, conditions, steps, directions))
    return torch.stack(rows, 1), lens.classifier(inputs).argmax(1)


def _opinion(
    by_probe: Tensor, decided: Tensor, compared: Tensor, exact: bool, names: tuple[str, ...]
) -> SecondOpinion:
    """Compare the classifier's class with the likeliest other; the probes are the same, so their noise cancels."""
    means = by_probe.mean(2)
    own = decided[:, None] == compared
    if not bool(own.any(1).all()):
        missing = names[int(decided[~own.any(1)][0])]
        raise OptionError(
            f"generative_classifier: the classifier says {missing!r} of an input, which is not compared",
            given=f"classes={compared.tolist()}",
            do="name that class too, or leave out classes",
        )
    rows = torch.arange(len(means), device=means.device)
    mine = own.float().argmax(1)
    other = means.masked_fill(own, -torch.inf).argmax(1)
    apart = by_probe[rows, mine] - by_probe[rows, other]
    error = apart.std(1) / apart.shape[1] ** 0.5
    return SecondOpinion(
        classes=compared,
        log_likelihoods=means,
        decided=decided,
        likeliest=compared[means.argmax(1)],
        differences=apart.mean(1),
        standard_errors=torch.zeros_like(error) if exact else error,
        class_names=names,
    )


def _classes(lens: FlowLens, classes: Sequence[int] | None) -> list[int]:
    known = range(lens.spec.num_classes)
    compared = list(known) if classes is None else [int(c) for c in classes]
    if len(set(compared)) < 2 or len(set(compared)) < len(compared) or not set(compared) <= set(known):
        raise OptionError(
            "generative_classifier: classes are wrong",
            given=repr(classes),
            allowed=f"two or more different ones of 0 to {len(known) - 1}",
        )
    return compared


def _directions(lens: FlowLens, probes: int | None, generator: torch.Generator) -> Tensor:
    shape = tuple(lens.spec.shape)
    if probes is not None:
        check_count("generative_classifier", probes, "probes")
        if probes < 2:
            raise OptionError(
                "generative_classifier: one probe has no standard error",
                given="probes=1",
                allowed="at least 2, or None for the exact trace",
            )
        return random_directions(probes, shape, generator)
    if lens.noise > _EXACT_UP_TO:
        raise UnsupportedError(
            "generative_classifier: too many dimensions for the exact trace",
            given=f"{lens.noise} values an input",
            allowed=f"up to {_EXACT_UP_TO}",
            do="set probes=8",
        )
    return all_directions(shape, lens.low.device)
