"""A lens that decodes to a hidden layer: a curve there, and real inputs to show it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from xlens.attr.curve import Segment
from xlens.classifier.margins import score_margin
from xlens.contracts.capabilities import SupportsRetrieval
from xlens.counterfactual.carry import Carry
from xlens.counterfactual.edit import Edit
from xlens.errors import UnsupportedError
from xlens.explaining.attributions import Attribution, Question, attribute
from xlens.explaining.layer_maps import layer_maps, through_layer
from xlens.explaining.request import DRAWN_ONLY, FEATURE_MAPS, FRAMES, Request
from xlens.fitted import Fitted
from xlens.metrics.fidelity import ssim
from xlens.stages import StagedLens

__all__ = ["SHOWS", "OnLayer", "Show"]

Show = Literal["retrieve", "decode"]
#: What is shown for a point of the layer: the real input nearest to it, or what a decoder makes of it.
SHOWS: tuple[str, ...] = get_args(Show)

#: Errors of so many parts add up: each is held to this share of what their sum may miss.
_PARTS = 5


class OnLayer:
    """Asks a lens that decodes to a hidden layer; its methods are those of :class:`OnInputs`.

    With z the code of x and z0 that of a real input x0 of the contrast class, the score is integrated along the
    straight line between them, in the layer: a_j for dimension j of the code, which add up to f_c(x) - f_c(x0). The
    map of a named part of the code is sum_j a_j / (z_j - z0_j) times the integrated gradients of z_j between x0 and
    x, and adds up to that part's a_j. Of a lens that encodes by a search, or without gradients, there is one map
    for all parts: sum_u s_u times the integrated gradients of activation u, where s_u is the score's mean slope
    along the straight line between the activations of x0 and x.

    Maps in pixels are complete by construction: what the quadrature misses is shared out over the inputs (see
    :func:`layer_maps`). That they are complete certifies their sum, and not the quadrature.

    Args:
        fitted: classifier and lens.
        show: what is shown for points of the layer. Of a decoder, x0 is what it makes of the counterfactual.
        method: names the caller in errors.

    Raises:
        UnsupportedError: the layer is to be decoded, and no decoder was trained.
    """

    def __init__(self, fitted: Fitted, show: Show = "retrieve", method: str = "explain") -> None:
        self.fitted, self.show = fitted, show
        lens = fitted.lens
        if show == "decode" and not (isinstance(lens, StagedLens) and lens.stage.shows):
            raise UnsupportedError(
                f"{method}: this lens has no decoder from the layer {fitted.classifier.layer!r} back to inputs",
                given="show='decode'",
                allowed="show='retrieve', which shows the nearest real inputs",
                do="fit it with one: xlens.fit(..., decoder=True)",
            )

    @property
    def masked(self) -> bool:
        """Whether changes can be carried by a mask."""
        return False

    @property
    def shows_real_inputs(self) -> bool:
        """Whether real inputs that the lens keeps are shown, or a decoder's, and not the input with an edit."""
        return True

    @property
    def said(self) -> str:
        """What is shown, in words."""
        return "decoded from the layer" if self.show == "decode" else "the nearest real inputs"

    def require_decoder(self, method: str) -> None:
        """Refuse what needs decoded inputs.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{method}: this lens decodes to a hidden layer, and makes no inputs",
            given=f"a {self.fitted.backend.name!r} lens on the layer {self.fitted.classifier.layer!r}",
            do="ask for traverse or counterfactual, which show real inputs, or fit a lens over=one that "
            "decodes to inputs",
        )

    def outcome(self, inputs: Tensor) -> Callable[[Tensor], Tensor] | str:
        """Return what makes logits ``(M, K)`` of decoded activations, or in words why nothing does."""
        classifier = self.fitted.classifier
        if isinstance(self.fitted.lens, StagedLens):
            # The layer alone decides, which the fit has seen to.
            tail = classifier.following(inputs[:1])
            return lambda found: classifier.logits(
                tail.forward(found.to(classifier.device, classifier.dtype)), found
            )
        return classifier.cut(inputs[:1]) or f"the classifier cannot be cut after {classifier.layer!r}"

    @staticmethod
    def faults(attributions: Mapping[str, Any], carry: Carry | None, path: str) -> list[str]:
        """Return, in words, what is asked that only a lens on inputs can do."""
        faults = [
            f"attribution {name!r} needs a lens that decodes to inputs; this one decodes to a hidden layer"
            for name in attributions
            if name in DRAWN_ONLY
        ]
        if carry is not None:
            faults.append(f"carry={carry!r} needs a lens that decodes to inputs; leave it out")
        if path not in ("linear", "pixel"):
            faults.append(
                f"path={path!r} needs a lens that decodes to inputs; 'linear' goes straight through the code"
            )
        return faults

    def encode(self, inputs: Tensor) -> Tensor:
        """Return codes ``(N, d)``."""
        return self.fitted.lens.encode(inputs)

    def carry(self, inputs: Tensor, target: Tensor, contrast: Tensor, carry: Carry) -> Edit:
        """Return the line to the kept real input of the contrast class that is nearest in everything else, or to
        what a decoder makes of the counterfactual.

        Its codes are those of the two real inputs; `moved` is where the lens's own counterfactual lies.
        """
        lens = self.fitted.lens
        codes = lens.encode(inputs)
        moved = lens.counterfactual(codes, target, contrast)
        start = self._shown(moved, contrast)
        line = Segment(start, inputs)
        return Edit(inputs, codes, lens.encode(start), inputs, start, None, start, inputs, line, moved=moved)

    def decode(self, codes: Tensor, inputs: Tensor) -> Tensor:
        """Return the logits ``(N, K)`` that the classifier's tail makes of what codes decode to."""
        return self.fitted.classifier.tail(self.fitted.lens.decode(codes), inputs)

    def logits_at(self, edit: Edit, codes: Tensor, rows: Tensor) -> Tensor:
        """Return logits ``(M, K)`` of what codes ``(M, d)`` stand for, of the inputs of these rows."""
        return self.decode(codes, edit.inputs[rows])

    def shower(self, inputs: Tensor) -> Callable[[Tensor, Tensor, Sequence[int]], Tensor]:
        """Return what shows codes: the kept real inputs nearest to them, in the dimensions `first` first, or what a
        decoder makes of them.
        """

        def show(codes: Tensor, _rows: Tensor, first: Sequence[int] = ()) -> Tensor:
            return self._shown(codes, first=first)

        return show

    def filled(self, edit: Edit, mask: Tensor) -> Tensor | None:
        """Return None: nothing is masked."""
        return None

    def entry(self, inputs: Tensor, codes: Tensor) -> tuple[Tensor, Any]:
        """Return a point on the path in the inputs, and the function whose gradient is taken there."""
        through = self.fitted.lens.encode if self._chains(inputs) else self.fitted.classifier.activations
        return inputs, through

    def differentiates(self, request: Request) -> bool:
        """Whether what is asked takes gradients through the lens: always."""
        return True

    def question(self, edit: Edit, target: Tensor, contrast: Tensor, request: Request) -> Question:
        """Return one batch with all that is asked of it."""
        fitted = self.fitted
        straight = dataclasses.replace(request, path="pixel", tolerance=request.tolerance / _PARTS)
        return Question(fitted.classifier, fitted.lens, edit, target, contrast, straight, fitted.span)

    def contributions(self, question: Question) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what each dimension of the code contributes ``(N, d)``, what that misses, and of how much."""
        values, _ = question.integrate(
            self._line(question), score=self._score(question), batch=question.request.code_batch
        )
        # Against the classifier itself at both ends, and not against its tail: what a lens loses shows.
        difference = question.difference
        return values, values.double().sum(1) - difference, difference

    def attributions(self, question: Question, per_code: Tensor) -> dict[str, Attribution]:
        """Return everything that was asked for, by name; ``"lig"`` brings a map for each named part."""
        found: dict[str, Attribution] = {}
        for name in question.request.attributions:
            if name in ("lig", FEATURE_MAPS):
                # Each part's map is on the way to their sum.
                chains = self._chains(question.edit.inputs)
                found |= layer_maps(question, per_code) if chains else through_layer(question)
            else:
                found[name] = attribute(question, name)
        return found

    def frames(self, question: Question) -> tuple[Tensor, Tensor]:
        """Return what shows points on the line ``(N, T, *S)``, and the score of these points."""
        edit, batch = question.edit, question.request.code_batch
        line, score = self._line(question), self._score(question)
        n, device = len(edit.end), edit.end.device
        rows = torch.arange(n, device=device).repeat_interleave(FRAMES)
        alphas = torch.linspace(0, 1, FRAMES, device=device).repeat(n)
        frames, scores = [], []
        for some, at in zip(rows.split(batch), alphas.split(batch), strict=True):
            points = line(some, at)
            frames.append(self._shown(points))
            scores.append(score(points, some))
        path = torch.cat(frames).view(n, FRAMES, *edit.end.shape[1:]).clone()
        path[:, 0], path[:, -1] = edit.start, edit.end
        return path, torch.cat(scores).view(n, FRAMES)

    def judged(self, edit: Edit) -> dict[str, Tensor]:
        """Return logits on the input, of what the lens makes of it, on what is shown, and of the moved code."""
        classifier, inputs = self.fitted.classifier, edit.inputs
        return {
            "inputs": classifier(inputs),
            "reconstruction": self.decode(self._own(edit.codes), inputs),
            "start": classifier(edit.start),
            "decoded": self.decode(cast(Tensor, edit.moved), inputs),
        }

    def likeness(self, edit: Edit) -> dict[str, Tensor]:
        """Return how like the layer's activations the decoded code is; nothing is masked."""
        inputs = edit.inputs
        real = self.fitted.classifier.activations(inputs).to(inputs.device).flatten(1)
        rebuilt = self.fitted.lens.decode(self._own(edit.codes)).flatten(1)
        # Each row in its own range, so that it does not depend on its batch.
        span = (real.amax(1, keepdim=True) - real.amin(1, keepdim=True)).clamp_min(1e-12)
        return {
            "mse": (real - rebuilt).square().mean(1),
            "ssim": ssim(rebuilt / span, real / span, 1.0),
            "coverage": torch.ones(len(inputs), device=inputs.device),
        }

    def made(self, edit: Edit) -> dict[str, Tensor]:
        """Return what the lens made, by what it is called in errors."""
        return {
            "code": edit.codes,
            "counterfactual code": cast(Tensor, edit.moved),
            "code of a kept input": edit.counterfactual_codes,
        }

    def pictures(self, edit: Edit) -> dict[str, Tensor | None]:
        """Return the fields of an explanation that only a lens on inputs has: none."""
        return {"reconstruction": None, "edit": None, "mask": None}

    def _own(self, codes: Tensor) -> Tensor:
        """Return codes with nothing in them but what the lens itself makes of inputs, by which it is judged."""
        lens = self.fitted.lens
        return lens.without_rest(codes) if isinstance(lens, StagedLens) else codes

    def _chains(self, inputs: Tensor) -> bool:
        """Whether gradients go through the lens's encoder, so that each part of the code gets a map."""
        lens = self.fitted.lens
        return not isinstance(lens, StagedLens) or lens.passes_gradients(inputs[:1])

    def _line(self, question: Question) -> Segment:
        return Segment(question.edit.counterfactual_codes, question.edit.codes)

    def _score(self, question: Question) -> Any:
        inputs, target, contrast = question.edit.inputs, question.target, question.contrast

        def score(points: Tensor, rows: Tensor) -> Tensor:
            return score_margin(self.decode(points, inputs[rows]), target[rows], contrast[rows])

        return score

    def _shown(self, codes: Tensor, classes: Tensor | None = None, first: Sequence[int] = ()) -> Tensor:
        lens = self.fitted.lens
        if self.show == "decode" and isinstance(lens, StagedLens):
            return cast(Tensor, lens.shown(codes))
        if not isinstance(lens, SupportsRetrieval):
            raise UnsupportedError(
                f"explain: a {self.fitted.backend.name!r} lens decodes to a hidden layer and keeps no inputs",
                do="its author should declare the capability 'retrieve'",
            )
        return lens.retrieve(codes, classes, first)
