"""The infill lens: where the evidence of an input is, part by part, and the input with it filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from xlens import Classifier, Feature, Spec
from xlens.contracts import EditingLens, LocalEdit
from xlens_infill.fill import fill_harmonic, fill_patches
from xlens_infill.learned import Inpainter
from xlens_infill.survey import LEVELS, Survey, described_width
from xlens_infill.tiles import Fill, Margin, tilings
from xlens_infill.where import Found, find, find_by_tiles, margins_of, nearest_miss, nested
from xlens_infill.within import object_of

__all__ = ["InfillLens"]

#: Below this, small patches tell the classes apart hardly better than chance.
_LEAST_SEPARATION = 0.65
#: Share of the inputs of some class that have a local counterfactual by tiles; below it the lens says it has none.
_LEAST_REACH = 0.2
#: Share of the object that may look like evidence where the rest is to fill tiles: more leaves too little.
_MOST_DOUBTED = 0.8
#: In smaller images the windows that are surveyed are more than half as wide as the image.
SMALLEST_SIDE = 24
_FILLS = {"harmonic": fill_harmonic, "nearest": fill_patches}


class InfillLens(EditingLens):
    """Infilling of what a survey of patches calls evidence, where the classifier agrees.

    Args:
        classifier: the user's classifier; neither a submodule nor part of the state.
        spec: the data and the classes.
        fill, search, words, goal, largest, parts, width: the backend's options of these names.
    """

    mean: Tensor
    basis: Tensor
    words: Tensor
    counts: Tensor
    levels: Tensor
    cut: Tensor
    separation: Tensor
    reach: Tensor
    tiled: Tensor

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        *,
        fill: str,
        search: str,
        words: int,
        goal: float,
        largest: float,
        parts: int,
        width: int,
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec = spec
        self.filling, self.search, self.goal, self.largest, self.parts = fill, search, goal, largest, parts
        #: What was learned of images free of evidence, where the fill is learned.
        self.inpainter = Inpainter(spec, width) if fill == "learned" else None
        described, kept = described_width(spec.shape[0])
        classes = spec.num_classes
        self.register_buffer("mean", torch.zeros(described))
        self.register_buffer("basis", torch.zeros(described, kept))
        self.register_buffer("words", torch.zeros(words, kept))
        self.register_buffer("counts", torch.zeros(classes, words))
        self.register_buffer("levels", torch.zeros(classes, classes, len(LEVELS)))
        self.register_buffer("cut", torch.tensor(0.0))
        #: How well small patches tell the classes apart: .5 not at all, 1 always.
        self.register_buffer("separation", torch.tensor(0.0))
        #: Share of the inputs, of the class where it is most, that have a local counterfactual by tiles; 1 unasked.
        self.register_buffer("reach", torch.tensor(1.0))
        #: 1 where the place of the evidence is searched by tiles, input by input, and not by the survey.
        self.register_buffer("tiled", torch.tensor(float(search == "tiles")))

    @property
    def features(self) -> Sequence[Feature]:
        """The parts of an edit, by how much they carry; the last is whatever is left."""
        last = self.parts
        names = [f"part {p + 1}" for p in range(last - 1)] + ["part 1" if last == 1 else "all other parts"]
        return tuple(Feature(name, (p,), "class") for p, name in enumerate(names))

    @property
    def unfit(self) -> str | None:
        """Why there is no local counterfactual of these data at all, in words; None where there may be."""
        side = min(self.spec.shape[1:])
        if side < SMALLEST_SIDE:
            return f"in images of {side} pixels nothing is small enough to be local, below {SMALLEST_SIDE}"
        told = self._hardly()
        if not self.separates and self.search == "survey":
            return told
        if self.by_tiles and self.reach < _LEAST_REACH:
            found = f"filling tiles of an input turns the classifier on {float(self.reach):.0%} of some inputs"
            return found if self.separates else f"{told}, and {found}"
        return None

    @property
    def doubt(self) -> str | None:
        """Why what is found may be no thing, in words: it was searched by what turns the classifier alone."""
        if not self.by_tiles or self.separates:
            return None
        return (
            f"{self._hardly()}, so that evidence is searched for input by input, among tiles: what is found turns "
            "the classifier, and whether it is a thing is for you to see"
        )

    def _hardly(self) -> str:
        return f"small patches hardly tell the classifier's classes apart (AUC {float(self.separation):.2f})"

    @property
    def separates(self) -> bool:
        """Whether small patches tell the classes apart, so that the survey says where evidence is."""
        return float(self.separation) >= _LEAST_SEPARATION

    @property
    def by_tiles(self) -> bool:
        """Whether the place of the evidence is searched by tiles alone, input by input, and not by the survey."""
        return bool(self.tiled > 0)

    def within(self, inputs: Tensor) -> Tensor:
        """Return the object in each input, ``(N, 1, H, W)`` bool: all of it, unless the data show objects."""
        return object_of(inputs) if self.cut > 0 else torch.ones_like(inputs[:, :1], dtype=torch.bool)

    def remember(self, found: Survey, levels: Tensor, cut: bool) -> None:
        """Keep a survey, the levels of evidence ``(K, K, L)``, and whether the data show objects."""
        self.cut.fill_(float(cut))
        for name in ("mean", "basis", "words", "counts"):
            getattr(self, name).copy_(getattr(found, name))
        self.levels.copy_(levels)

    @torch.no_grad()
    def edit(self, inputs: Tensor, target: Tensor, contrast: Tensor) -> LocalEdit:
        """Return the smallest of the masks that are tried whose filling convinces the classifier, and its parts.

        Each input is searched on its own, so that nothing depends on the batch.
        """
        if self.unfit is not None:
            nothing = inputs.new_zeros(len(inputs), self.parts, *inputs.shape[2:])
            said = f"no local counterfactual: {self.unfit}"
            return LocalEdit(inputs.clone(), nothing, (said,) * len(inputs))
        within = self.within(inputs)
        goals = self.goal * self.spec.usual_margins().to(inputs.device)[contrast, target]
        filled, parts, problems = [], [], []
        for i, (t, c) in enumerate(zip(target.tolist(), contrast.tolist(), strict=True)):
            found = self.found(inputs[i : i + 1], within[i : i + 1], t, c, float(goals[i]))
            problems.append(found.problem)
            filled.append(inputs[i] if found.problem else found.filled)
            parts.append(self._parts(found))
        return LocalEdit(torch.stack(filled), torch.stack(parts), tuple(problems))

    def found(self, x: Tensor, within: Tensor, target: int, contrast: int, goal: float) -> Found:
        """Return what is found for one input ``(1, C, H, W)``, whether or not there is a counterfactual."""
        margins = margins_of(self._classifier[0], x, contrast, goal)
        searches = self._searches(x, within, target, contrast, goal, several=len(margins) > 1)
        for margin in margins:
            failed = []
            for search in searches:
                found = search(margin)
                if found.problem is None:
                    return found
                failed.append(found)
        return nearest_miss(failed, goal)

    def _searches(
        self, x: Tensor, within: Tensor, target: int, contrast: int, goal: float, several: bool
    ) -> list[Callable[[Margin], Found]]:
        """Return how evidence is looked for in one input ``(1, C, H, W)``: one way, or `several` in turn."""

        def by_tiles(fill: Fill) -> Callable[[Margin], Found]:
            # Filled once, at the first margin: the tiles are the same for all.
            cuts = cache(lambda: tilings(x, fill, within))
            return lambda margin: find_by_tiles(
                margin, x, fill, within, goal=goal, largest=self.largest, cuts=cuts()
            )

        if self.by_tiles:
            return [by_tiles(self.filled)]
        known = Survey(self.mean, self.basis, self.words, self.counts)
        evidence, levels = known.evidence(x, within, target, contrast), self.levels[target, contrast].tolist()

        def surveyed(margin: Margin) -> Found:
            return find(margin, x, evidence, levels, self.filled, within, goal=goal, largest=self.largest)

        if self.search == "survey" or not several:
            return [surveyed]
        doubtful = nested(evidence, levels, within)[-1:]
        share = float((within & doubtful).sum()) / max(1, int(within.sum()))
        if not 0 < share <= _MOST_DOUBTED:
            return [surveyed, by_tiles(self.filled)]

        def from_outside(inputs: Tensor, hole: Tensor, within: Tensor) -> Tensor:
            # A tile inside a large spot would be filled from that spot.
            return self.filled(inputs, hole, (within & ~doubtful) | hole)

        return [surveyed, by_tiles(from_outside), by_tiles(self.filled)]

    @torch.no_grad()
    def fill(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Fill any region of inputs, from what lies around it inside the object."""
        return self.filled(inputs, mask > 0.5, self.within(inputs))

    def filled(self, inputs: Tensor, hole: Tensor, within: Tensor) -> Tensor:
        """Return inputs whose `hole` ``(N, 1, H, W)`` bool is filled from what lies `within`, and nowhere else."""
        fill = _FILLS[self.filling] if self.inpainter is None else self.inpainter.fill
        return fill(inputs, hole, within)

    def _parts(self, found: Found) -> Tensor:
        """Return the parts ``(P, H, W)``, the ones that carry most first, and everything else in the last."""
        count = self.parts
        masks = found.filled.new_zeros(count, *found.mask.shape[1:])
        if found.problem:
            return masks
        order = found.credit.argsort(descending=True, stable=True)
        for rank, part in enumerate(order.tolist()):
            masks[min(rank, count - 1)] += (found.parts[0] == part + 1).to(masks.dtype)
        # What belongs to no part is the rim of one that was put back.
        masks[count - 1] += (found.mask[0] & (masks.sum(0) == 0)).to(masks.dtype)
        return masks
