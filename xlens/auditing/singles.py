"""The explanations behind a group, one by one: what the page says of each exemplar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xlens.auditing.group import Group

if TYPE_CHECKING:
    from xlens.auditing.result import Audit

__all__ = ["singles_of"]


def singles_of(audit: Audit, group: Group) -> list[list[tuple[str, str]]]:
    """Return what is known of each exemplar of a group, in the order of its pictures, as names and values."""
    return [_of_input(audit, group, position) for position in sorted(group.exemplars)]


def _of_input(audit: Audit, group: Group, position: int) -> list[tuple[str, str]]:
    names, parts = audit.fitted.class_names, audit.parts
    rows = np.flatnonzero((parts.input == position) & (parts.target == names.index(group.target)))
    # Of several parts of one input the group's is the one that lies nearest to its place.
    row = rows[np.linalg.norm(parts.place[rows] - np.array(group.place), axis=1).argmin()]
    label = int(parts.label[row])
    found = [
        ("decision", names[parts.target[row]]),
        ("explained against", names[parts.contrast[row]]),
        ("true class", names[label] if label >= 0 else "not known"),
        ("probability, with this part alone filled", f"{parts.before[row]:.3f} to {parts.after[row]:.3f}"),
        ("fall of the score", f"{parts.drop[row]:.3f}"),
        ("share of the score's change that this part carries", f"{parts.share[row]:.0%}"),
        ("this part alone changes the decision", "yes" if parts.flips[row] else "no"),
        ("area of this part, as share of the image", f"{parts.area[row]:.1%}"),
        ("parts of the edit, all of which the picture shows filled", str(len(rows))),
        ("found by", "the lens's counterfactual" if parts.by_lens[row] else "windows that were filled"),
    ]
    if not np.isnan(parts.outside[row]):
        found.append(("outside of the object", f"{parts.outside[row]:.0%}"))
    return found
