"""What a model goes by in the inputs of one report, counted over them."""

from __future__ import annotations

from collections import Counter

from xlens.explanation import Explanation
from xlens.plot.pixels import Ranges
from xlens.plot.plain import change_in_kind, said

__all__ = ["overall"]

#: Kinds of change that are told of a class.
_KINDS = 4


def overall(one: Explanation, ranges: Ranges) -> list[tuple[str, str]]:
    """Return, per decision of the model, what turns it and how often; explanations that do not hold count as none.

    Args:
        one: explanations.
        ranges: the values of each channel that are drawn darkest and brightest.

    Returns:
        the decision, and a sentence about it.
    """
    decisions: dict[tuple[str, str], list[int]] = {}
    for i in range(len(one)):
        decided = said(one, i)[0]
        if decided == one.class_names[int(one.target[i])]:
            decisions.setdefault((decided, one.class_names[int(one.contrast[i])]), []).append(i)
    found = []
    for (decided, other), where in decisions.items():
        held = [i for i in where if bool(one.trustworthy[i])]
        kinds = Counter(change_in_kind(one, ranges, i) for i in held).most_common()
        told = [f"{kind} in {count}" for kind, count in kinds[:_KINDS]]
        rest = sum(count for _, count in kinds[_KINDS:])
        told += [f"otherwise in {rest}"] if rest else []
        without = len(where) - len(held)
        turned = f"it says {other!r} {', '.join(told)}" if told else ""
        none = f"for {without} no change was found that holds" if without else ""
        found.append((f"{decided!r} ({len(where)} of {len(one)})", "; ".join(filter(None, (turned, none))) + "."))
    return found
