"""Groups of parts: what had to change in many inputs in the same way, with its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xlens.auditing.chance import Association, halves, mean_interval, one_place, outside_objects
from xlens.auditing.filling import continued
from xlens.auditing.parts import Parts
from xlens.auditing.sameness import Template, best_match, template_of
from xlens.auditing.sweep import Seen
from xlens.data import as_inputs
from xlens.data.numbers import as_tensor

__all__ = ["Group", "clusters", "describe"]

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
#: A group is one thing where its inputs vary by at most the rest of this share of what sets them apart from others.
SAME, SURE = 0.98, 0.01
#: And at most so many inputs decided otherwise have it.
FEW = 0.25


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Group:
    """Parts of edits that are alike: what the classifier goes by in some decisions.

    Args:
        number: its place in the audit, from the most to the least suspect.
        target: the class decided for, by name.
        toward: classes decided for without it, by name -> share of the group.
        inputs: ``(N,)`` positions of its inputs in the data.
        share: of the decisions for `target`.
        share_low, share_high: its interval, by bootstrap over inputs, like all intervals.
        effect, effect_low, effect_high: mean fall of the probability of `target` when this part alone is filled.
        drop: mean fall of the score.
        flips: share of its inputs in which that alone changes the decision.
        carried: mean share of the score's change that the part carries, by path attribution.
        place: mean row and column of the centre, from 0 to 1.
        radius: that holds four fifths of the centres, as share of the side.
        p_place: that as many parts would lie there by chance.
        area: mean share of the image.
        outside: mean share of the part outside of the objects; NaN without masks.
        p_outside: that as much would lie outside by chance.
        template: what its inputs have in common.
        pasted: by how much the probability of `target` rises when that is pasted into inputs decided otherwise.
        wrong, wrong_besides: share of wrong decisions in the group, and among other decisions for `target`; NaN
            without labels.
        associations: with metadata and with true labels, the closest first.
        colour, colour_after: mean colour of the part before and after, as share of the data's range.
        contrast, contrast_after: its texture before and after: mean energy of edges.
        exemplars: positions of inputs that show it best.
        confidence: of the intervals.
    """

    number: int
    target: str
    toward: Mapping[str, float]
    inputs: Tensor
    share: float
    share_low: float
    share_high: float
    effect: float
    effect_low: float
    effect_high: float
    drop: float
    flips: float
    carried: float
    place: tuple[float, float]
    radius: float
    p_place: float
    area: float
    outside: float
    p_outside: float
    template: Template
    pasted: float
    wrong: float
    wrong_besides: float
    associations: tuple[Association, ...]
    colour: tuple[float, ...]
    colour_after: tuple[float, ...]
    contrast: float
    contrast_after: float
    exemplars: tuple[int, ...]
    confidence: float

    @property
    def same(self) -> bool:
        """Whether all of its inputs show one and the same thing, which inputs decided otherwise do not have."""
        one = self.template
        return one.sameness >= SAME and one.p <= SURE and one.others <= FEW

    def find(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the group's evidence is in inputs.

        A thing that is the same in all inputs is looked for around its usual place; anything else is wherever that
        place is.

        Args:
            data: ``(N, C, H, W)`` in the classifier's own normalisation.

        Returns:
            masks ``(N, 1, H, W)`` bool, and ``(N,)`` bool whether it is there.
        """
        inputs = as_inputs(data, tuple(np.shape(data))[-3:]).cpu()
        height, width = self.template.picture.shape[1:]
        corner = torch.tensor(_corner(self.template, inputs))
        # Of a thing, what is the same in all inputs; the box around it holds more than it.
        extent = self.template.extent if self.same else torch.ones(1, height, width, dtype=torch.bool)
        corners, there = corner.expand(len(inputs), 2), torch.ones(len(inputs), dtype=torch.bool)
        if self.same:
            one = self.template
            parts = [
                best_match(part, one.picture, one.extent, corner.expand(len(part), 2), one.reach)
                for part in inputs.split(256)
            ]
            corners, distance = (torch.cat(values) for values in zip(*parts, strict=True))
            there = distance <= one.within
        masks = torch.zeros(len(inputs), 1, *inputs.shape[2:], dtype=torch.bool)
        for mask, (top, left), found in zip(masks, corners.tolist(), there.tolist(), strict=True):
            mask[:, top : top + height, left : left + width] = extent & found
        return masks, there

    def mask_out(self, data: Tensor) -> Tensor:
        """Return data ``(N, C, H, W)`` with the group's evidence filled from its surroundings, by no classifier.

        Args:
            data: as for :meth:`find`.

        >>> import xlens
        >>> audit = xlens.audit(explainer, images[:64], progress=False)
        >>> [group.mask_out(images[:2]).shape for group in audit.groups][:1]
        [torch.Size([2, 1, 8, 8])]
        """
        masks, _ = self.find(data)
        inputs = as_tensor(data).float()
        return continued(inputs, masks.to(inputs.device))

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        row, column = self.place
        return (
            f"Group({self.number}: {self.share:.0%} of {self.target!r}, at row {row:.2f}, column {column:.2f}, "
            f"effect {self.effect:.2f}, sameness {self.template.sameness:.2f})"
        )


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
    channels = parts.crop.shape[1]
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
    after = np.bincount(own.contrast[first], minlength=len(names)) / len(first)
    channels = parts.crop.shape[1]
    template, others = _template(own[first], seen, take, seed)
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
        carried=float(own.share[first].mean()),
        place=(float(own.place[:, 0].mean()), float(own.place[:, 1].mean())),
        radius=radius,
        p_place=p_place,
        area=float(own.area.mean()),
        outside=outside,
        p_outside=p_outside,
        template=template,
        pasted=float((ask(_with(template, others)) - ask(others))[:, target].mean()),
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


def _template(own: Parts, seen: Seen, take: Callable[[np.ndarray], Tensor], seed: int) -> tuple[Template, Tensor]:
    """Return what parts have in common, and the inputs that they were compared with."""
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
    size = np.median(np.column_stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]]), 0) * sides
    height, width = (max(2, round(float(side))) for side in size)
    centres = torch.from_numpy(own.place[some][order]).float()
    compared = take(others)
    return template_of(inputs, centres, compared, (height, width), seed), compared


def _with(template: Template, inputs: Tensor) -> Tensor:
    """Return inputs with the thing pasted in at its usual place."""
    height, width = template.picture.shape[1:]
    top, left = _corner(template, inputs)
    pasted = inputs.clone()
    window = pasted[:, :, top : top + height, left : left + width]
    window.copy_(torch.where(template.extent, template.picture, window))
    return pasted


def _corner(template: Template, inputs: Tensor) -> list[int]:
    size, sides = torch.tensor(template.picture.shape[1:]), torch.tensor(inputs.shape[2:])
    corner = (torch.tensor(template.place) * sides - size / 2).round().long()
    return torch.minimum(corner.clamp_min(0), (sides - size).clamp_min(0)).tolist()


def _wrong(label: np.ndarray, target: int, inside: np.ndarray) -> tuple[float, float]:
    known = label >= 0
    wrong = label != target
    return (
        float(wrong[known & inside].mean()) if (known & inside).any() else float("nan"),
        float(wrong[known & ~inside].mean()) if (known & ~inside).any() else float("nan"),
    )
