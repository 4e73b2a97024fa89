"""A lens that decodes to inputs: its codes, the edit that it carries onto real inputs, and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from xlens.contracts.capabilities import SupportsWaypoints
from xlens.counterfactual.carry import Carry
from xlens.counterfactual.edit import Edit, make_edit
from xlens.explaining.attributions import Attribution, Question, attribute, frames_along, shared_out
from xlens.explaining.feature_maps import feature_maps
from xlens.explaining.request import FEATURE_MAPS, Request
from xlens.fitted import Fitted
from xlens.metrics.fidelity import ssim

__all__ = ["OnInputs"]


class OnInputs:
    """Asks a lens that decodes to inputs; beside it are ``OnLayer`` and ``OnEdits``.

    Args:
        fitted: classifier, lens and mask.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    @property
    def masked(self) -> bool:
        """Whether changes can be carried by a mask."""
        return self.fitted.mask is not None

    @property
    def shows_real_inputs(self) -> bool:
        """Whether what is shown are real inputs that the lens keeps."""
        return False

    def require_decoder(self, method: str) -> None:
        """Refuse what needs decoded inputs of a lens that has none: this one has."""

    def outcome(self, inputs: Tensor) -> Callable[[Tensor], Tensor] | str:
        """Return what makes logits ``(M, K)`` of decodings ``(M, *S)``: the classifier."""
        return self.fitted.classifier

    @staticmethod
    def faults(attributions: Mapping[str, Any], carry: Carry | None, path: str) -> list[str]:
        """Return, in words, what is asked that such a lens cannot do."""
        if FEATURE_MAPS in attributions and path == "pixel":
            return [f"attribution {FEATURE_MAPS!r} goes along the code, and path='pixel' does not"]
        return []

    def encode(self, inputs: Tensor) -> Tensor:
        """Return codes ``(N, d)``."""
        return self.fitted.lens.encode(inputs)

    def carry(self, inputs: Tensor, target: Tensor, contrast: Tensor, carry: Carry) -> Edit:
        """Return the edit that takes the evidence for `target` away from inputs ``(N, *S)``."""
        fitted = self.fitted
        return make_edit(fitted.classifier, fitted.lens, fitted.spec, fitted.mask, inputs, target, contrast, carry)

    def decode(self, codes: Tensor, inputs: Tensor) -> Tensor:
        """Return the classifier's logits ``(N, K)`` on what codes decode to."""
        return self.fitted.classifier(self.fitted.lens.decode(codes))

    def logits_at(self, edit: Edit, codes: Tensor, rows: Tensor) -> Tensor:
        """Return logits ``(M, K)`` of what codes ``(M, d)`` stand for, of the inputs of these rows."""
        return self.fitted.classifier(self.fitted.lens.decode(codes))

    def shower(self, inputs: Tensor) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
        """Return what shows codes ``(M, d)`` of the inputs of these rows: their decodings ``(M, *S)``."""

        def show(codes: Tensor, _rows: Tensor, _first: Sequence[int] = ()) -> Tensor:
            return self.fitted.lens.decode(codes)

        return show

    def filled(self, edit: Edit, mask: Tensor) -> Tensor | None:
        """Return what would stand under another mask: the decoded counterfactual; None where nothing is masked."""
        return None if edit.mask is None else edit.decoded

    def entry(self, inputs: Tensor, codes: Tensor) -> tuple[Tensor, Any]:
        """Return a point on the path in the inputs, and the function whose gradient is taken there."""
        # The generator runs without a graph before the classifier runs with one.
        return self.fitted.lens.decode(codes), self.fitted.classifier

    def differentiates(self, request: Request) -> bool:
        """Whether what is asked takes gradients through the lens's decoder."""
        own = request.straight and isinstance(self.fitted.lens, SupportsWaypoints)
        return not own or "latent_shift" in request.attributions

    def question(self, edit: Edit, target: Tensor, contrast: Tensor, request: Request) -> Question:
        """Return one batch with all that is asked of it."""
        fitted = self.fitted
        return Question(fitted.classifier, fitted.lens, edit, target, contrast, request, fitted.span)

    def contributions(self, question: Question) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what each dimension of the code contributes ``(N, d)``, what that misses, and of how much.

        They sum to the change of the score between the two decodings, which the caller knows: None stands for it.
        """
        if question.waypoints is not None:
            return *shared_out(question, question.waypoints), None
        values, delta = question.integrate(
            question.codes,
            score=lambda points, rows: question.score(question.lens.decode(points), rows),
            batch=question.request.code_batch,
        )
        return values, delta, None

    def attributions(self, question: Question, per_code: Tensor) -> dict[str, Attribution]:
        """Return everything that was asked for, by name."""
        found: dict[str, Attribution] = {}
        for name in question.request.attributions:
            found |= feature_maps(question) if name == FEATURE_MAPS else {name: attribute(question, name)}
        return found

    def frames(self, question: Question) -> tuple[Tensor, Tensor]:
        """Return frames along the curve ``(N, T, *S)`` and the score on each ``(N, T)``."""
        return frames_along(question)

    def judged(self, edit: Edit) -> dict[str, Tensor]:
        """Return the classifier's logits on the input, its reconstruction, the counterfactual and its decoding."""
        classifier = self.fitted.classifier
        return {
            "inputs": classifier(edit.inputs),
            "reconstruction": classifier(edit.reconstruction),
            "start": classifier(edit.start),
            "decoded": classifier(edit.decoded),
        }

    def likeness(self, edit: Edit) -> dict[str, Tensor]:
        """Return how like the input the reconstruction is, and how much of the lens's change was carried."""
        whole = (edit.decoded - edit.inputs).abs().flatten(1).sum(1)
        let_through = whole
        if edit.mask is not None:
            let_through = (edit.mask * (edit.decoded - edit.inputs).abs()).flatten(1).sum(1)
        return {
            "mse": (edit.reconstruction - edit.inputs).square().flatten(1).mean(1),
            "ssim": ssim(edit.reconstruction, edit.inputs, self.fitted.span),
            "coverage": let_through / whole.clamp_min(1e-12),
        }

    def made(self, edit: Edit) -> dict[str, Tensor]:
        """Return what the lens made, by what it is called in errors."""
        return {
            "code": edit.codes,
            "counterfactual code": edit.counterfactual_codes,
            "reconstruction": edit.reconstruction,
            "decoded counterfactual": edit.decoded,
        }

    def pictures(self, edit: Edit) -> dict[str, Tensor | None]:
        """Return the fields of an explanation that only a lens on inputs has."""
        return {"reconstruction": edit.reconstruction, "edit": edit.start - edit.inputs, "mask": edit.mask}
