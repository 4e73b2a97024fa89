"""The verdicts of an explanation in words: what each certifies, and what it does not."""

from __future__ import annotations

from xlens.explanation import Explanation
from xlens.plot.plain import said

__all__ = ["VERDICTS", "verdict_lines"]

#: Verdict -> what it says where it holds, where it fails, and where it does not apply.
VERDICTS = {
    "flips": (
        "Flips: the classifier goes from {decided!r} to {contrast!r} (p({target}) = {before:.2f} to {after:.2f}).",
        "Does NOT flip: the classifier does not change its decision to {contrast!r} (p({target}) = {before:.2f} to "
        "{after:.2f}).",
        "",
    ),
    "likeness": (
        "Likeness: {likeness}.",
        "NOT like it: the reconstruction does not stand for the input, or the edit shows what the lens cannot draw "
        "or looks like no real input.",
        "Likeness: nothing to compare.",
    ),
    "specific": (
        "Specific: the same mask moved elsewhere changes nothing.",
        "NOT specific: the same mask moved elsewhere changes the decision too.",
        "Specific: not asked; no part of the input is edited.",
    ),
    "stable": (
        "Stable: the edit's effect outlasts a mild blur and small shifts of both images.",
        "NOT stable: a mild blur or a small shift of both images takes the edit's effect away.",
        "Stable: not asked; the images are too small, or another case is shown.",
    ),
    "local": (
        "Local: the edit covers {area:.0%} of the input.",
        "NOT local: the edit covers {area:.0%} of the input: another input rather than a part of this one.",
        "Local: not asked; no part of the input is edited on its own.",
    ),
    "complete": (
        "Complete: attributions sum to the difference of the scores.",
        "NOT complete: attributions miss the difference of the scores.",
        "",
    ),
}


#: Verdicts on an edit: where nothing is edited, they say nothing.
_OF_THE_EDIT = ("likeness", "specific", "stable", "local")


def verdict_lines(one: Explanation, index: int = 0) -> list[tuple[str, bool | None, str]]:
    """Return each verdict on one input: its name, whether it holds (None: does not apply), and a line in words.

    >>> from xlens.plot.verdicts import verdict_lines
    >>> [name for name, _, _ in verdict_lines(explainer.explain(images[:1]))]
    ['flips', 'likeness', 'specific', 'stable', 'local', 'complete']
    """
    i = index
    before, after = float(one.scores[i].sigmoid()), float(one.counterfactual_scores[i].sigmoid())
    facts = {
        "decided": said(one, i)[0],
        "target": one.class_names[int(one.target[i])],
        "contrast": one.class_names[int(one.contrast[i])],
        "before": before,
        "after": after,
        "area": 1.0 if one.mask is None else float(one.mask[i].mean()),
        "likeness": "the edited region is like what real inputs have there"
        if one.mask is not None
        else "the reconstruction stands for the input",
    }
    lines = []
    for name, held in one.verdicts.items():
        nothing = name in _OF_THE_EDIT and one.mask is not None and not bool(one.mask[i].any())
        holds = None if held is None or nothing else bool(held[i])
        good, bad, beside = VERDICTS[name]
        lines.append((name, holds, {True: good, False: bad, None: beside}[holds].format(**facts)))
    return lines
