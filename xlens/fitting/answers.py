"""What is asked of the classifier once, before anything is trained: gradients, and what its outputs are."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import default_contrast, score_margin
from xlens.errors import ModelError, XlensWarning, warn

__all__ = ["check_answers", "check_gradient", "check_outputs"]

#: Inputs that a gradient is asked of, and inputs whose outputs are looked at.
_FEW, _SOME = 4, 64
#: How far sums of probabilities may be from 1, which half precision and label smoothing leave room for.
_CLOSE = 5e-3


def check_answers(classifier: Classifier, sample: Tensor) -> None:
    """Ask the classifier, within its frozen context, whether a lens can be fitted around it.

    Args:
        classifier: the classifier.
        sample: ``(n, *S)`` some of the data.

    Raises:
        ModelError: no gradient reaches the inputs, or the outputs are not what was promised.

    Warns:
        XlensWarning: what it says can be explained, but perhaps not as was meant.
    """
    spread = sample[:: max(len(sample) // _SOME, 1)][:_SOME].to(classifier.device)
    with torch.no_grad():
        logits = torch.cat([classifier(part) for part in spread.split(16)])
    check_outputs(classifier.outputs, logits)
    check_gradient(classifier, spread[:_FEW])


def check_outputs(outputs: str, logits: Tensor) -> None:
    """Look at what the classifier says of some inputs, ``(n, K)`` as xlens takes it."""
    values = logits.double().exp() if outputs == "probabilities" else logits.double()
    inside = bool(((values >= 0) & (values <= 1 + _CLOSE)).all())
    sums = (values.sum(1) - 1).abs() <= _CLOSE
    if outputs == "logits" and inside and bool(sums.all()) and len(logits) > 1:
        raise ModelError(
            "fit: the classifier's outputs look like probabilities, and logits were promised",
            given=f"{len(logits)} rows of numbers from 0 to 1, each of which sums to 1",
            do="say so: xlens.fit(xlens.Classifier(model, outputs='probabilities'), ...); or pass the model "
            "without its softmax",
        )
    if outputs == "logits" and inside and not bool((values == values[0]).all()):
        warn(
            "fit: all outputs of the classifier lie between 0 and 1 and do not sum to 1, as those of independent "
            "yes/no labels do after a sigmoid. A lens contrasts one class with another. To explain one label, pass "
            "a model that returns its logit alone, (N, 1); for classes that exclude each other, pass the logits.",
            XlensWarning,
        )
    if outputs == "probabilities" and not bool(sums.all()):
        _refuse_or_warn(values, inside)


def _refuse_or_warn(values: Tensor, inside: bool) -> None:
    found = f"rows that sum to {float(values.sum(1).min()):.3g} to {float(values.sum(1).max()):.3g}"
    if not inside or bool((values.sum(1) < _CLOSE).any()):
        raise ModelError(
            "fit: probabilities were promised, and the classifier's outputs are none",
            given=found,
            allowed="numbers from 0 to 1 that sum to 1 in each row",
            do="leave outputs='logits', or pass a model that ends with a softmax",
        )
    warn(
        f"fit: the classifier's probabilities do not sum to 1 ({found}), as those of independent yes/no labels do "
        "not. A lens contrasts one class with another. To explain one label, pass a model that returns the "
        "probability of that label alone, (N, 1).",
        XlensWarning,
    )


def check_gradient(classifier: Classifier, inputs: Tensor) -> None:
    """Refuse a classifier through which no gradient reaches ``(n, *S)`` inputs."""
    asked = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = classifier(asked)
        target = logits.argmax(1)
        score = score_margin(logits, target, default_contrast(logits, target, None)).sum()
        if not score.requires_grad:
            raise _without_gradient("its outputs are cut off from its inputs")
        try:
            (found,) = torch.autograd.grad(score, asked, allow_unused=True)
        except RuntimeError as fault:
            if isinstance(fault, torch.OutOfMemoryError):
                raise
            raise _without_gradient(str(fault).splitlines()[0]) from fault
    if found is None:
        raise _without_gradient("its outputs are cut off from its inputs")
    finite = found.flatten(1).isfinite().all(1)
    if not bool(finite.any()):
        raise _without_gradient("every gradient is infinite or not a number")
    if not bool(found[finite].any()):
        warn(
            f"fit: the gradient of the classifier's decision is exactly 0 on all of {len(found)} inputs, as after "
            "rounding, or where outputs are saturated. A lens learns from it. Pass a model without rounding, and "
            "logits in the place of probabilities.",
            XlensWarning,
        )


def _without_gradient(why: str) -> ModelError:
    return ModelError(
        "fit: no gradient of the classifier reaches its inputs, and a lens is fitted by it",
        given=why,
        do="pass the model as it was trained: in floating point and not quantised, without torch.no_grad(), "
        "torch.inference_mode() or .detach() in its forward pass, and without a step through numpy",
    )
