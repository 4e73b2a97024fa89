"""The named dimensions of a code: what they are called, and moving them toward a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Feature, Run
from xlens.contracts import Question
from xlens.errors import OptionError
from xlens.nn import margin_over_rest, score_margin, step_that_reaches
from xlens_ilvm.columns import Column, columns_of
from xlens_ilvm.readout import Readout

__all__ = ["centres_of", "class_targets", "columns_for", "named_features", "questions_of", "toward_class"]

#: A counterfactual goes at most twice the way to the centre of its class, in quarters of the way.
_FARTHEST, _QUARTERS = 2.0, 4
_REST = "everything else"


def columns_for(run: Run, attributes: Sequence[str], kinds: Sequence[str], backend: str) -> tuple[Column, ...]:
    """Return the columns that are to be read: of the side information, or else the classifier's classes.

    With `kinds` and no side information there are columns of which nothing is observed yet.

    Raises:
        OptionError: names or kinds do not fit the side information.
        DataError: a column holds nothing to learn.
    """
    table = run.side_info
    if table is None and kinds:
        table = torch.full((1, len(kinds)), torch.nan)
    count = 0 if table is None else table.shape[1]
    faults = []
    if table is None and attributes:
        faults.append("attributes are named, and there is neither side_info nor kinds")
    elif attributes and (len(attributes) != count or len(set(attributes)) != count):
        faults.append(f"attributes must be {count} different names, one for each column of side_info")
    if _REST in attributes:
        faults.append(f"an attribute cannot be called {_REST!r}, which is the lens's own name")
    if faults:
        raise OptionError(f"{backend}: " + "; ".join(faults))
    if table is not None:
        return columns_of(table, kinds)
    if run.spec.num_classes == 2:
        return (Column("binary", (0.0, 1.0)),)
    return (Column("classes", tuple(map(float, range(run.spec.num_classes)))),)


def class_targets(logits: Tensor) -> Tensor:
    """Return the classifier's probabilities ``(n, C)``, instead of side information; of two the second's."""
    probabilities = logits.float().softmax(1)
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def named_features(
    readout: Readout,
    of_classes: bool,
    names: Sequence[str],
    class_names: Sequence[str],
    width: int,
    taught: Tensor | None = None,
) -> list[Feature]:
    """Return evidence for each class, or each column of side information, and everything else.

    Args:
        readout: reads the named dimensions.
        of_classes: whether they are the classifier's classes.
        names: of the columns; numbered where there are none.
        class_names: of the classes.
        width: dimensions of the code.
        taught: ``(C,)`` bool, the named dimensions about which anything was answered; None for all.
    """
    parts = readout.parts()
    dims = [dim for part in parts for dim in part]
    if of_classes:
        classes = range(1, 2) if readout.outputs == 1 else range(readout.outputs)
        each = [tuple(dims[i : i + readout.dimensions]) for i in range(0, len(dims), readout.dimensions)]
        found = [
            Feature(f"evidence for {class_names[c]}", own, "class", c) for own, c in zip(each, classes, strict=True)
        ]
    else:
        called = names or [f"attribute {a + 1}" for a in range(len(parts))]
        found = [
            Feature(name, part, "attribute", taught=taught is None or bool(taught[list(part)].any()))
            for name, part in zip(called, parts, strict=True)
        ]
    if rest := tuple(range(len(dims), width)):
        found.append(Feature(_REST, rest, "nuisance"))
    return found


def questions_of(readout: Readout, names: Sequence[str]) -> list[Question]:
    """Return what a person is asked about an input; arguments as for :func:`named_features`."""
    columns = readout.columns
    called = names or [f"attribute {a + 1}" for a in range(len(columns))]
    return [
        Question(name, () if column.kind == "measured" else column.levels)
        for name, column in zip(called, columns, strict=True)
    ]


def centres_of(named: Tensor, logits: Tensor) -> Tensor:
    """Return the mean of named dimensions ``(n, C)`` over the inputs of each predicted class, ``(K, C)``.

    A class that the classifier puts none of them in gets the mean of all, weighted by its probability.
    """
    own = F.one_hot(logits.argmax(1), logits.shape[1]).to(named)
    # Shared out in logarithms: the classifier's probability of a class may be 0 to rounding on every input.
    likely = logits.double().log_softmax(1).softmax(0).to(named)
    weights = torch.where(own.sum(0) > 0, own / own.sum(0).clamp_min(1), likely)
    return weights.T @ named


def toward_class(
    logits_of: Callable[[Tensor], Tensor],
    codes: Tensor,
    centres: Tensor,
    target: Tensor,
    contrast: Tensor,
    margins: Tensor,
    taught: Tensor | None = None,
) -> Tensor:
    """Move the named dimensions toward where they are on the contrast class, and keep everything else.

    It goes until the classifier's margin is its median on real inputs of that class, with that class on top; where
    that is never so, to where the margin is largest.

    Args:
        logits_of: what the classifier says of what codes decode to.
        codes: ``(N, d)``.
        centres: ``(K, C)`` of the first C dimensions.
        target, contrast: ``(N,)``.
        margins: ``(K, K)`` the medians.
        taught: ``(C,)`` bool, which of the named dimensions mean anything; None for all.
    """
    towards = torch.zeros_like(codes)
    width = centres.shape[1]
    towards[:, :width] = centres.to(codes)[contrast] - codes[:, :width]
    if taught is not None:
        towards[:, :width] *= taught.to(codes)
    goal = margins[contrast, target].to(codes)

    def score(rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        shares = (steps / _QUARTERS).to(codes).unsqueeze(1)
        logits = logits_of(codes[rows] + shares * towards[rows]).to(goal)
        margin = score_margin(logits, contrast[rows], target[rows])
        return margin, (margin >= goal[rows]) & (margin_over_rest(logits, contrast[rows]) > 0)

    share, _ = step_that_reaches(score, len(codes), _FARTHEST * _QUARTERS, codes.device)
    return codes + (share / _QUARTERS).to(codes).unsqueeze(1) * towards
