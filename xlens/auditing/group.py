"""A group of parts that are alike: what the classifier goes by in some decisions, with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.auditing.chance import Association
from xlens.auditing.filling import as_images, continued
from xlens.auditing.sameness import Template, best_match, corners_of
from xlens.classifier.turns import Turn

__all__ = ["FEW", "SAME", "SURE", "Group", "pasted_into"]

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
        toward: classes decided for when this part alone is filled, of those inputs in which that changes the
            decision: name -> share of the group, the largest first.
        inputs: ``(N,)`` positions of its inputs in the data.
        share: of the decisions for `target`.
        share_low, share_high: its interval, by bootstrap over inputs, like all intervals.
        effect, effect_low, effect_high: mean fall of the probability of `target` when this part alone is filled.
        drop: mean fall of the score.
        losing_half: share of its inputs in which that alone takes more than .5 of the probability.
        flips: share of its inputs in which that alone changes the decision.
        carried: mean share of the score's change that the part carries, by path attribution.
        place: mean row and column of the centre, from 0 to 1.
        radius: that holds four fifths of the centres, as share of the side.
        p_place: that as many parts would lie there by chance.
        area: mean share of the image.
        outside: mean share of the part outside of the objects; NaN without masks.
        p_outside: that as much would lie outside by chance.
        carried_outside: share of the score's fall that stays when a part is filled outside of the objects alone,
            from what lies outside; NaN without masks, or where the score does not fall.
        template: what its inputs have in common.
        foreign: mean share of the part's pixels whose colour hardly any input decided otherwise has; 0 where there
            are not three channels.
        p_foreign: that a place elsewhere in the same inputs has as many of them.
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
    losing_half: float
    carried: float
    place: tuple[float, float]
    radius: float
    p_place: float
    area: float
    outside: float
    p_outside: float
    carried_outside: float
    template: Template
    foreign: float
    p_foreign: float
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
            data: ``(N, C, H, W)`` in the classifier's own normalisation, of the audit's height and width.

        Returns:
            masks ``(N, 1, H, W)`` bool, and ``(N,)`` bool whether it is there.

        Raises:
            DataError: these are no images, or of another shape than the audit's.
        """
        with Turn():
            inputs = as_images("Group.find", data, self.template.picture.shape[0], self.template.sides).cpu()
            height, width = self.template.picture.shape[1:]
            corner = _corner(self.template, inputs)
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

        Raises:
            DataError: as for :meth:`find`.

        >>> import xlens
        >>> audit = xlens.audit(explainer, images[:64], progress=False)
        >>> [group.mask_out(images[:2]).shape for group in audit.groups][:1]
        [torch.Size([2, 1, 8, 8])]
        """
        with Turn():
            inputs = as_images("Group.mask_out", data, self.template.picture.shape[0], self.template.sides)
            masks, _ = self.find(inputs)
            return continued(inputs, masks.to(inputs.device))

    def __repr__(self) -> str:
        """Return a line that fits a terminal."""
        row, column = self.place
        return (
            f"Group({self.number}: {self.share:.0%} of {self.target!r}, at row {row:.2f}, column {column:.2f}, "
            f"effect {self.effect:.2f}, sameness {self.template.sameness:.2f})"
        )


def pasted_into(template: Template, inputs: Tensor) -> Tensor:
    """Return inputs with the thing pasted in at its usual place."""
    height, width = template.picture.shape[1:]
    top, left = _corner(template, inputs).tolist()
    pasted = inputs.clone()
    window = pasted[:, :, top : top + height, left : left + width]
    window.copy_(torch.where(template.extent, template.picture, window))
    return pasted


def _corner(template: Template, inputs: Tensor) -> Tensor:
    height, width = template.picture.shape[1:]
    return corners_of(torch.tensor(template.place), (height, width), inputs)
