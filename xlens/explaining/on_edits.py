"""A lens that edits inputs directly: its parts are its code, and the edit is the lens's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from xlens.attr.curve import Segment
from xlens.contracts.lens import EditingLens
from xlens.counterfactual.carry import Carry, PartsCurve, clamped
from xlens.counterfactual.edit import Edit
from xlens.errors import UnsupportedError
from xlens.explaining.attributions import Attribution, Question, attribute, frames_along
from xlens.explaining.request import DECODED_ONLY, FEATURE_MAPS, Request
from xlens.fitted import Fitted

__all__ = ["OnEdits"]


class OnEdits:
    """Asks a lens that edits inputs; its methods are those of :class:`OnInputs`.

    Args:
        fitted: classifier and lens.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.lens = cast(EditingLens, fitted.lens)

    @property
    def masked(self) -> bool:
        """Whether changes can be carried by a mask."""
        return True

    @property
    def shows_real_inputs(self) -> bool:
        """Whether what is shown are real inputs that the lens keeps."""
        return False

    def require_decoder(self, method: str) -> None:
        """Refuse what needs decoded inputs.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{method}: this lens edits inputs directly, and decodes nothing",
            given=f"a {self.fitted.backend.name!r} lens",
            do="ask for explain, counterfactual or traverse, or fit a lens that decodes to inputs",
        )

    def outcome(self, inputs: Tensor) -> Callable[[Tensor], Tensor] | str:
        """Return in words why nothing makes logits of decodings."""
        return "the code says which parts of an input are filled, and decodes to none"

    @staticmethod
    def faults(attributions: Mapping[str, Any], carry: Carry | None, path: str) -> list[str]:
        """Return, in words, what is asked that only a lens that decodes can do."""
        faults = [
            f"attribution {name!r} needs a lens that decodes; this one edits inputs directly"
            for name in attributions
            if name in DECODED_ONLY
        ]
        if carry not in (None, "masked"):
            faults.append(f"carry={carry!r} needs a lens that decodes; this one brings its own mask, 'masked'")
        if path not in ("linear", "pixel"):
            faults.append(f"path={path!r} needs a lens that decodes; 'linear' fills all parts evenly")
        return faults

    def encode(self, inputs: Tensor) -> Tensor:
        """Return codes ``(N, P)``: 1 for each part, as it is."""
        return self.fitted.lens.encode(inputs)

    def carry(self, inputs: Tensor, target: Tensor, contrast: Tensor, carry: Carry) -> Edit:
        """Return the lens's own edit of inputs ``(N, C, H, W)``."""
        lens = self.lens
        local = lens.edit(inputs, target, contrast)
        filled = clamped(local.filled, inputs, *self.fitted.limits(inputs))
        codes = lens.encode(inputs)
        emptied = lens.counterfactual(codes, target, contrast)
        curve = PartsCurve(inputs, Segment(emptied, codes), filled, local.parts)
        rows = torch.arange(len(inputs), device=inputs.device)
        start = curve.rendered(emptied, rows)
        mask = local.parts.sum(1, keepdim=True).clamp(0, 1)
        return Edit(inputs, codes, emptied, inputs, start, mask, start, inputs, curve, problems=local.problems)

    def decode(self, codes: Tensor, inputs: Tensor) -> Tensor:
        """Return the classifier's logits on inputs: what a code costs is what they cost."""
        return self.fitted.classifier(inputs[: len(codes)]) + 0 * codes.sum(1, keepdim=True)

    def logits_at(self, edit: Edit, codes: Tensor, rows: Tensor) -> Tensor:
        """Return logits ``(M, K)`` of what codes ``(M, P)`` stand for, of the inputs of these rows."""
        return self.fitted.classifier(cast(PartsCurve, edit.curve).rendered(codes, rows))

    def shower(self, inputs: Tensor) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
        """Return what renders codes ``(M, P)`` on inputs, edited toward their default contrast."""
        target, contrast = self.fitted.classes(inputs, None, None)
        curve = cast(PartsCurve, self.carry(inputs, target, contrast, "masked").curve)

        def show(codes: Tensor, rows: Tensor, _first: Sequence[int] = ()) -> Tensor:
            return curve.rendered(codes, rows)

        return show

    def entry(self, inputs: Tensor, codes: Tensor) -> tuple[Tensor, Any]:
        """Return a point on the path in the inputs, and the function whose gradient is taken there."""
        return inputs, self.fitted.classifier

    def differentiates(self, request: Request) -> bool:
        """Whether what is asked takes gradients through the lens: always."""
        return True

    def question(self, edit: Edit, target: Tensor, contrast: Tensor, request: Request) -> Question:
        """Return one batch with all that is asked of it; on straight lines alone."""
        fitted = self.fitted
        straight = dataclasses.replace(request, path="linear" if request.path == "linear" else "pixel")
        return Question(fitted.classifier, fitted.lens, edit, target, contrast, straight, fitted.span)

    def contributions(self, question: Question) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what each part contributes ``(N, P)``, what their sum misses, and of how much."""
        # The parts do not overlap, so that what a part carries is what its pixels carry.
        values, delta = question.line_integral
        shares = _shares(question.edit)
        return (values.sum(1, keepdim=True) * shares).flatten(2).sum(2), delta, question.difference

    def attributions(self, question: Question, per_code: Tensor) -> dict[str, Attribution]:
        """Return everything that was asked for, by name."""
        found: dict[str, Attribution] = {}
        for name in question.request.attributions:
            if name == FEATURE_MAPS:
                found |= _part_maps(question, found.get("lig") or attribute(question, "lig"))
            else:
                found[name] = attribute(question, name)
        return found

    def frames(self, question: Question) -> tuple[Tensor, Tensor]:
        """Return frames along the curve ``(N, T, *S)`` and the score on each ``(N, T)``."""
        return frames_along(question)

    def judged(self, edit: Edit) -> dict[str, Tensor]:
        """Return the classifier's logits on the input, its own reconstruction, and on the counterfactual."""
        inputs, start = self.fitted.classifier(edit.inputs), self.fitted.classifier(edit.start)
        return {"inputs": inputs, "reconstruction": inputs, "start": start, "decoded": start}

    def likeness(self, edit: Edit) -> dict[str, Tensor]:
        """Return that nothing is lost in reconstruction, and that the whole change is carried."""
        ones = torch.ones(len(edit.inputs), device=edit.inputs.device)
        return {"mse": 0 * ones, "ssim": ones, "coverage": ones.clone()}

    def made(self, edit: Edit) -> dict[str, Tensor]:
        """Return what the lens made, by what it is called in errors."""
        return {"fill": edit.start}

    def filled(self, edit: Edit, mask: Tensor) -> Tensor | None:
        """Return what would stand under another mask."""
        return clamped(self.lens.fill(edit.inputs, mask), edit.inputs, *self.fitted.limits(edit.inputs))

    def pictures(self, edit: Edit) -> dict[str, Tensor | None]:
        """Return the fields of an explanation that not every kind of lens has."""
        return {"reconstruction": edit.reconstruction, "edit": edit.start - edit.inputs, "mask": edit.mask}


def _shares(edit: Edit) -> Tensor:
    """Return what share of each pixel's change belongs to each part, ``(N, P, H, W)``."""
    curve, mask = cast(PartsCurve, edit.curve), cast(Tensor, edit.mask)
    return curve.parts / mask.clamp_min(1e-12)


def _part_maps(question: Question, whole: Attribution) -> dict[str, Attribution]:
    """Return the line integral shared out over the parts."""
    shares = _shares(question.edit)
    names = [f"lig: {feature.name}" for feature in question.lens.features]
    return {name: Attribution(whole.values * shares[:, p, None]) for p, name in enumerate(names)}
