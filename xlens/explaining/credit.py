"""Which dimensions of the code are credited to which name: none to one of which nobody has answered anything."""

from __future__ import annotations

from collections.abc import Sequence

from xlens.contracts.lens import Feature

__all__ = ["credited"]

_REST = "everything else"


def credited(features: Sequence[Feature]) -> list[tuple[str, list[int]]]:
    """Return each feature's name with the dimensions whose contributions are its own.

    What a part that is not taught occupies means nothing yet, so it counts as everything else: as the first feature
    of the role ``"nuisance"``, or as one of its own behind the others where there is none.

    >>> from xlens import Feature
    >>> credited([Feature("spots", (0,), "attribute", taught=False), Feature("rest", (1, 2), "nuisance")])
    [('spots', []), ('rest', [1, 2, 0])]
    """
    nameless = [dim for feature in features if not feature.taught for dim in feature.dims]
    found = [(feature.name, list(feature.dims) if feature.taught else []) for feature in features]
    if not nameless:
        return found
    rest = next((i for i, one in enumerate(features) if one.role == "nuisance" and one.taught), None)
    if rest is None:
        return [*found, (_REST, nameless)]
    found[rest] = (found[rest][0], found[rest][1] + nameless)
    return found
