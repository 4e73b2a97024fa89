"""Groups of parts: what had to change in many inputs in the same way, with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xlens.auditing.chance import halves, mean_interval, one_place, outside_objects
from xlens.auditing.foreign import foreign
from xlens.auditing.group import Group, pasted_into
from xlens.auditing.parts import Parts
from xlens.auditing.sameness import corners_of, template_of
from xlens.auditing.sweep import Seen

__all__ = ["FEWEST", "clusters", "describe"]

#: A group holds at least so many parts, and twice as many have to be there before any is looked for.
FEWEST = 8

#: How much a place counts against looks: a group may be a tenth of the side wide for one deviation of its look.
_PLACE = 10.0
#: Clusters whose centres are nearer than this are one group.
_MERGE = 0.75
#: Where there is no second cluster, parts that are nearer than this belong together.
_CUT = 1.0
_SAMPLES = 5
#: Inputs by which it is judged whether a group is one thing, and with which it is compared.
_COMPARED = 48
_EXEMPLARS = 8
#: Of the probability: an input that loses more is told of on its own.
_HALF = 0.5


def clusters(parts: Parts, target: int, smallest: int) -> list[np.ndarray]:
    """Return rows of the parts that are alike among decisions for one class, by HDBSCAN; the rest is noise.

    Args:
        parts: all of them.
        target: the class.
        smallest: parts that make a group, at least.

    References:
        Campello et al. (2013), Density-Based Clustering Based on Hierarchical Density Estimates.
    """
    from sklearn.cluster import HDBSCAN

    rows = np.flatnonzero(parts.target == target)
    if len(rows) < 2 * smallest:
        return []
    described = _descriptors(parts[rows])
    tree = HDBSCAN(min_cluster_size=smallest, min_samples=_SAMPLES, copy=True).fit(described)
    found = tree.labels_
    if found.max() < 0:
        # It looks for several; where all go by one thing, its tree is cut at one distance.
        found = tree.dbscan_clustering(_CUT, min_cluster_size=smallest)
    if found.max() < 0:
        return []
    centres = np.stack([np.median(described[found == number], 0) for number in range(found.max() + 1)])
    whole = _merged(centres)
    return [rows[np.isin(found, np.flatnonzero(whole == number))] for number in range(whole.max() + 1)]


def _merged(centres: np.ndarray) -> np.ndarray:
    """Return which clusters are one, ``(K,)``: those that a chain of near centres connects.

    Windows lie on a grid, on which one place is several clusters.
    """
    from scipy.sparse.csgraph import connected_components

    near = np.linalg.norm(centres[:, None] - centres[None], axis=2) <= _MERGE
    return connected_components(near, directed=False)[1]


def _descriptors(parts: Parts) -> np.ndarray:
    """Return where and what, standardised: ``(M, D)``."""
    channels = parts.channels
    colour = parts.look[:, :channels] - parts.look_after[:, :channels]
    edges, edges_after = (np.log(look[:, 2 * channels :].mean(1) + 0.02) for look in (parts.look, parts.look_after))
    looks = np.column_stack([np.log(parts.area + 1e-4), edges, edges - edges_after, colour]).astype(float)
    looks = (looks - looks.mean(0)) / (looks.std(0) + 1e-6)
    return np.column_stack([_PLACE * parts.place, looks / looks.shape[1] ** 0.5])


def describe(
    rows: np.ndarray,
    parts: Parts,
    seen: Seen,
    *,
    names: tuple[str, ...],
    take: Callable[[np.ndarray], Tensor],
    ask: Callable[[Tensor], Tensor],
    usual_outside: float,
    ranges: Sequence[tuple[float, float]],
    confidence: float,
    seed: int,
) -> Group:
    """Return one group with its figures; associations and number are filled in later.

    Args:
        rows: of `parts`, that are in it.
        parts, seen: what the sweep found.
        names: of the classes.
        take: returns the inputs at positions.
        ask: returns the classifier's probabilities.
        usual_outside: share of the images outside of the objects.
        ranges: what is black and white in each channel.
        confidence: of the intervals.
        seed: of what is drawn.
    """
    own = parts[rows]
    target = int(own.target[0])
    decided = seen.input[seen.target == target]
    inside = np.isin(decided, own.input)
    low, high = mean_interval(inside.astype(float), confidence, seed)
    # An input with two parts in the group counts once.
    first = np.unique(own.input, return_index=True)[1]
    effects = (own.before - own.after)[first]
    effect_low, effect_high = mean_interval(effects, confidence, seed)
    other_half = parts.place[(parts.target == target) & halves(parts.input)]
    radius, p_place = one_place(own.place, own.input, other_half)
    outside, p_outside = outside_objects(own.outside, usual_outside)
    label = seen.label[seen.target == target]
    wrong, besides = _wrong(label, target, inside)
    after = np.bincount(own.decision[first][own.flips[first]], minlength=len(names)) / len(first)
    channels = parts.channels
    compared = _compared(own[first], seen, take, seed)
    template = template_of(compared.inputs, compared.centres, compared.others, compared.size, seed)
    others = compared.others
    colours, p_colours = foreign(compared.inputs, compared.corners, others, compared.size, ranges, seed)
    best = first[np.argsort(-own.drop[first], kind="stable")]
    return Group(
        number=0,
        target=names[target],
        toward={names[c]: float(after[c]) for c in np.argsort(-after, kind="stable") if after[c] > 0},
        inputs=torch.from_numpy(own.input[first].astype(np.int64)),
        share=float(inside.mean()),
        share_low=low,
        share_high=high,
        effect=float(effects.mean()),
        effect_low=effect_low,
        effect_high=effect_high,
        drop=float(own.drop[first].mean()),
        flips=float(own.flips[first].mean()),
        losing_half=float((effects > _HALF).mean()),
        carried=float(own.share[first].mean()),
        place=(float(own.place[:, 0].mean()), float(own.place[:, 1].mean())),
        radius=radius,
        p_place=p_place,
        area=float(own.area.mean()),
        outside=outside,
        p_outside=p_outside,
        carried_outside=_carried_outside(own),
        template=template,
        foreign=colours,
        p_foreign=p_colours,
        pasted=float((ask(pasted_into(template, others)) - ask(others))[:, target].mean()),
        wrong=wrong,
        wrong_besides=besides,
        associations=(),
        colour=tuple(own.look[:, :channels].mean(0).tolist()),
        colour_after=tuple(own.look_after[:, :channels].mean(0).tolist()),
        contrast=float(own.look[:, 2 * channels :].mean()),
        contrast_after=float(own.look_after[:, 2 * channels :].mean()),
        exemplars=tuple(int(i) for i in own.input[best[:_EXEMPLARS]]),
        confidence=confidence,
    )


def _carried_outside(own: Parts) -> float:
    """Return which share of what parts do to the score stays when they are filled outside of the object alone; NaN
    where they do nothing."""
    whole = float(own.drop.mean())
    return float(own.drop_outside.mean()) / whole if whole > 0 else float("nan")


@dataclass(frozen=True)
class _Compared:
    """Some inputs of a group, where the part is in each ``(n, 2)``, and as many that are decided otherwise."""

    inputs: Tensor
    centres: Tensor
    others: Tensor
    size: tuple[int, int]

    @property
    def corners(self) -> Tensor:
        """Top and left of the part in each input."""
        return corners_of(self.centres, self.size, self.inputs)


def _compared(own: Parts, seen: Seen, take: Callable[[np.ndarray], Tensor], seed: int) -> _Compared:
    draw = np.random.default_rng(seed)
    some = np.sort(draw.permutation(len(own))[:_COMPARED])
    # Others that are decided alike may have the same thing, in another group. Without two decided otherwise there
    # is nothing else to compare with.
    others = seen.input[seen.target != own.target[0]]
    others = np.sort(draw.permutation(others if len(others) > 3 else seen.input)[:_COMPARED])
    order = np.argsort(own.input[some])
    inputs = take(own.input[some][order])
    sides = np.array(inputs.shape[2:])
    box = own.box[some]
    extent = np.median(np.column_stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]]), 0) * sides
    height, width = (min(max(2, round(float(side))), int(most)) for side, most in zip(extent, sides, strict=True))
    centres = torch.from_numpy(own.place[some][order]).float()
    return _Compared(inputs, centres, take(others), (height, width))


def _wrong(label: np.ndarray, target: int, inside: np.ndarray) -> tuple[float, float]:
    known = label >= 0
    wrong = label != target
    return (
        float(wrong[known & inside].mean()) if (known & inside).any() else float("nan"),
        float(wrong[known & ~inside].mean()) if (known & ~inside).any() else float("nan"),
    )
