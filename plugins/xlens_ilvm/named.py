"""The named dimensions of a code: what they are called, and moving them toward a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Feature, Run, Spec
from xlens.errors import OptionError
from xlens.nn import score_margin, step_that_reaches
from xlens.nn.features import margin_over_rest
from xlens_ilvm.columns import Column, columns_of, targets_of
from xlens_ilvm.readout import Readout

__all__ = ["centres_of", "class_columns", "columns_for", "named_features", "targets_for", "toward_class"]

#: A counterfactual goes at most twice the way to the centre of its class, in quarters of the way.
_FARTHEST, _QUARTERS = 2.0, 4
_REST = "everything else"


def columns_for(run: Run, attributes: Sequence[str], kinds: Sequence[str], backend: str) -> tuple[Column, ...]:
    """Return the columns that are to be read: of the side information, or else f's classes.

    Raises:
        OptionError: names or kinds do not fit the side information.
        DataError: a column holds nothing to learn.
    """
    count = 0 if run.side_info is None else run.side_info.shape[1]
    faults = []
    if run.side_info is None and (attributes or kinds):
        faults.append("attributes or kinds are given, and no side_info")
    elif attributes and (len(attributes) != count or len(set(attributes)) != count):
        faults.append(f"attributes must be {count} different names, one for each column of side_info")
    if _REST in attributes:
        faults.append(f"an attribute cannot be called {_REST!r}, which is the lens's own name")
    if faults:
        raise OptionError(f"{backend}: " + "; ".join(faults))
    return class_columns(run.spec) if run.side_info is None else columns_of(run.side_info, kinds)


def class_columns(spec: Spec) -> tuple[Column, ...]:
    """Return what stands for f's classes: a dimension each, or one where there are two of them."""
    if spec.num_classes == 2:
        return (Column("binary", (0.0, 1.0)),)
    return (Column("classes", tuple(map(float, range(spec.num_classes)))),)


def targets_for(run: Run, columns: Sequence[Column], logits: Tensor) -> Tensor:
    """Return what the named dimensions should say of all inputs, ``(n, C)``: side information, or f's own view.

    Args:
        run: with the side information.
        columns: as from :func:`columns_for`.
        logits: ``(n, K)`` what f says, for where there is no side information.
    """
    if run.side_info is not None:
        return targets_of(run.side_info, columns)
    probabilities = logits.float().softmax(1)
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def named_features(
    readout: Readout, of_classes: bool, names: Sequence[str], class_names: Sequence[str], width: int
) -> list[Feature]:
    """Return evidence for each class, or each column of side information, and everything else.

    Args:
        readout: reads the named dimensions.
        of_classes: whether they are f's classes.
        names: of the columns; numbered where there are none.
        class_names: of the classes.
        width: dimensions of the code.
    """
    parts = readout.parts()
    dims = [dim for part in parts for dim in part]
    if of_classes:
        classes = range(1, 2) if len(dims) == 1 else range(len(dims))
        found = [
            Feature(f"evidence for {class_names[c]}", (dim,), "class", c)
            for dim, c in zip(dims, classes, strict=True)
        ]
    else:
        called = names or [f"attribute {a + 1}" for a in range(len(parts))]
        found = [Feature(name, part, "attribute") for name, part in zip(called, parts, strict=True)]
    if rest := tuple(range(len(dims), width)):
        found.append(Feature(_REST, rest, "nuisance"))
    return found


def centres_of(named: Tensor, logits: Tensor) -> Tensor:
    """Return the mean of named dimensions ``(n, C)`` over the inputs that f puts in each class, ``(K, C)``.

    A class that f puts none of them in gets the mean of all, weighted by f's probability of it.
    """
    own = F.one_hot(logits.argmax(1), logits.shape[1]).to(named)
    weights = torch.where(own.sum(0) > 0, own, logits.softmax(1).to(named))
    return (weights / weights.sum(0)).T @ named


def toward_class(
    logits_of: Callable[[Tensor], Tensor],
    codes: Tensor,
    centres: Tensor,
    target: Tensor,
    contrast: Tensor,
    margins: Tensor,
) -> Tensor:
    """Move the named dimensions toward where they are on the contrast class, and keep everything else.

    It goes until f's margin is the median that f has on real inputs of that class, with that class on top; where
    that is never so, to where the margin is largest.

    Args:
        logits_of: what f says of what codes decode to.
        codes: ``(N, d)``.
        centres: ``(K, C)`` of the first C dimensions.
        target, contrast: ``(N,)``.
        margins: ``(K, K)`` the medians.
    """
    towards = torch.zeros_like(codes)
    width = centres.shape[1]
    towards[:, :width] = centres.to(codes)[contrast] - codes[:, :width]
    goal = margins[contrast, target].to(codes)

    def score(rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        shares = (steps / _QUARTERS).to(codes).unsqueeze(1)
        logits = logits_of(codes[rows] + shares * towards[rows]).to(goal)
        margin = score_margin(logits, contrast[rows], target[rows])
        return margin, (margin >= goal[rows]) & (margin_over_rest(logits, contrast[rows]) > 0)

    share, _ = step_that_reaches(score, len(codes), _FARTHEST * _QUARTERS, codes.device)
    return codes + (share / _QUARTERS).to(codes).unsqueeze(1) * towards
