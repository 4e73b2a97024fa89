"""What is asked of the classifier once, before anything is trained: gradients, and what its outputs are."""

from __future__ import annotations

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import default_contrast, score_margin
from xlens.errors import ModelError, XlensWarning, warn

__all__ = ["check_answers", "check_asked", "check_gradient", "check_outputs"]

#: Inputs that a gradient is asked of, and inputs whose outputs are looked at.
_FEW, _SOME = 4, 64
#: How far sums of probabilities may be from 1, which half precision and label smoothing leave room for.
_CLOSE = 5e-3
#: Rows of which the sums cannot be alike by chance.
_ENOUGH = 8
#: How far down and up trained probabilities go over the data; logits may lie anywhere, also from .4 to .6.
_LOW, _HIGH = 0.1, 0.9


def check_asked(classifier: Classifier) -> None:
    """Refuse independent labels without one that is asked about, which no lens can contrast with its absence."""
    if classifier.reading.independent and classifier.label is None:
        names = classifier.labels
        raise ModelError(
            "fit: which of the classifier's independent labels is explained is not said",
            given=repr(classifier),
            allowed=", ".join(names) if names else "a label, by number",
            do=f"fit a lens for each label: xlens.fit(classifier.about({names[0] if names else 0!r}), ...)",
        )


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
    # Not evenly spread: classes that take turns in the data would be met at one of them.
    order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))
    spread = sample[order[:_SOME].to(sample.device)].to(classifier.device)
    with torch.no_grad():
        # Whether labels are independent shows in all of them, whichever is asked about.
        whole = classifier.about(None) if classifier.reading.independent else classifier
        if classifier.outputs == "multilabel_probabilities":
            # As the model gives them: what lies outside of 0 and 1 is no probability.
            whole = whole.replaced(outputs="multilabel")
        logits = torch.cat([whole(part) for part in spread.split(16)])
    check_outputs(classifier.outputs, logits)
    check_gradient(classifier, spread[:_FEW])


def check_outputs(outputs: str, logits: Tensor) -> None:
    """Look at what the classifier says of some inputs, ``(n, K)`` as xlens takes it; of independent labels, all, as
    the model gives them.

    Raises:
        ModelError: they are visibly something else than was promised.

    Warns:
        XlensWarning: they may be something else.
    """
    if outputs in _LOOKED_AT:
        _LOOKED_AT[outputs](logits.double())


def _check_logits(values: Tensor) -> None:
    if len(values) < 2 or bool((values == values[0]).all()):
        return
    if not _inside(values):
        return _check_shares(values)
    if bool(_whole(values).all()):
        raise ModelError(
            "fit: the classifier's outputs look like probabilities, and logits were promised",
            given=f"{len(values)} rows of numbers from 0 to 1, each of which sums to 1",
            do="say so: xlens.fit(xlens.Classifier(model, outputs='probabilities'), ...); or pass the model "
            "without its softmax",
        )
    _refuse_or_warn(_independent("logits of classes that exclude each other were promised", values), values)


def _check_shares(values: Tensor) -> None:
    """Refuse probabilities in another unit, as percent; the sums of a few logits may be alike by chance."""
    whole = values.sum(1)
    if len(values) < _ENOUGH:
        return
    if bool((values >= 0).all()) and bool(((whole - whole.mean()).abs() <= _CLOSE * whole.mean()).all()):
        raise ModelError(
            "fit: the classifier's outputs look like parts of a whole, and logits were promised",
            given=f"{len(values)} rows of numbers from 0 on, each of which sums to {float(whole.mean()):.3g}",
            do=f"divide them by {float(whole.mean()):.3g} in the model, and say outputs='probabilities'; or pass "
            "the logits",
        )


def _check_probabilities(logits: Tensor) -> None:
    values = logits.exp()
    if bool(_whole(values).all()):
        return
    if not _inside(values) or bool((values.sum(1) < _CLOSE).any()):
        raise ModelError(
            "fit: probabilities were promised, and the classifier's outputs are none",
            given=_sums(values),
            allowed="numbers from 0 to 1 that sum to 1 in each row",
            do="leave outputs='logits', or pass a model that ends with a softmax; of independent yes/no labels, "
            "say outputs='multilabel' or 'multilabel_probabilities'",
        )
    raise _independent("probabilities of classes that exclude each other were promised", values)


def _check_labels(values: Tensor) -> None:
    if _inside(values) and len(values) > 1 and not bool((values == values[0]).all()):
        fault = ModelError(
            "fit: the labels' outputs look like probabilities, and logits were promised",
            given=f"{len(values)} rows of numbers from {float(values.min()):.3g} to {float(values.max()):.3g}",
            do="say outputs='multilabel_probabilities', or pass the model without its sigmoid",
        )
        _refuse_or_warn(fault, values)


def _check_label_probabilities(values: Tensor) -> None:
    if not _inside(values):
        raise ModelError(
            "fit: probabilities of labels were promised, and the classifier's outputs are none",
            given=f"{len(values)} rows of numbers from {float(values.min()):.3g} to {float(values.max()):.3g}",
            allowed="numbers from 0 to 1",
            do="say outputs='multilabel', or pass a model that ends with a sigmoid",
        )
    if values.shape[1] > 1 and len(values) > 1 and bool(_whole(values).all()):
        raise ModelError(
            "fit: independent labels were promised, and the classifier's outputs sum to 1 in each row",
            given=f"{len(values)} rows, as a softmax over classes that exclude each other gives them",
            do="say outputs='probabilities', and leave label out",
        )


_LOOKED_AT = {
    "logits": _check_logits,
    "probabilities": _check_probabilities,
    "multilabel": _check_labels,
    "multilabel_probabilities": _check_label_probabilities,
}


def _independent(promised: str, values: Tensor) -> ModelError:
    return ModelError(
        f"fit: the classifier's outputs look like those of independent yes/no labels, and {promised}",
        given=f"numbers from {float(values.min()):.3g} to {float(values.max()):.3g} in {_sums(values)}",
        do="say which label is explained: xlens.Classifier(model, outputs='multilabel_probabilities', label=0), or "
        "outputs='multilabel' and the model without its sigmoid; for classes that exclude each other, pass their "
        "logits",
    )


def _refuse_or_warn(fault: ModelError, values: Tensor) -> None:
    """Refuse what goes down and up as trained probabilities do; say so of what may as well be logits."""
    if float(values.min()) < _LOW and float(values.max()) > _HIGH:
        raise fault
    warn(f"{fault} Where they are logits, there is nothing to do.", XlensWarning)


def _inside(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1 + _CLOSE)).all())


def _whole(values: Tensor) -> Tensor:
    return (values.sum(1) - 1).abs() <= _CLOSE


def _sums(values: Tensor) -> str:
    return f"rows that sum to {float(values.sum(1).min()):.3g} to {float(values.sum(1).max()):.3g}"


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
