"""The DIF lens: a bounded code, and the few features of it that tell the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Classifier, Feature, Lens, Spec
from xlens.errors import OptionError
from xlens.nn import CodeDecoder, GaussianEncoder, step_that_reaches
from xlens.nn.features import margin_over_rest, score_margin
from xlens_dif.health import Health
from xlens_dif.posterior import bounded
from xlens_dif.sparse import PENALTIES, sparse_path

__all__ = ["Agreement", "DIFLens", "Traversal"]

_BATCH = 256
#: Codes are moved up to this share of C: at C itself the inverse of the bound is infinite.
_EDGE = 0.999


class Traversal(NamedTuple):
    """One feature moved through its range, with f's score under every frame.

    Args:
        values: ``(T,)`` of the feature, from -C to C.
        frames: ``(N, T, *S)`` decodings.
        scores: ``(N, T)`` f's logit of the feature's class minus the largest other logit.
    """

    values: Tensor
    frames: Tensor
    scores: Tensor


class Agreement(NamedTuple):
    """Whether the sparse model explains f, and f confirms the sparse model.

    Args:
        sparse: ``(L,)`` share of inputs on which the sparse model of each penalty predicts f's class.
        confirmed: share of edited decodings on which f's class is what the sparse model predicts.
        flips: share of edited decodings that f puts in the contrast class.
    """

    sparse: Tensor
    confirmed: float
    flips: float


class DIFLens(Lens):
    """Encoder and decoder with a code in (-C, C), and sparse linear models of f's classes on it.

    Each dimension is oriented so that its class grows with it.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        code: width d of the code.
        hidden, width, dense: the networks.
        bound: C.
        penalty: the strength of L1 whose weights select features.
        top: largest number of features of one class, and of one counterfactual.
        played: whether it is trained with introspection.
    """

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        *,
        code: int,
        hidden: int,
        width: int,
        dense: bool,
        bound: float,
        penalty: float,
        top: int,
        played: bool,
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec, self.code, self.bound, self.top, self._played = spec, code, bound, top, played
        self._chosen = PENALTIES.index(penalty)
        self.encoder = GaussianEncoder(spec, code, hidden, width, dense)
        self.decoder = CodeDecoder(spec, code, hidden, width, dense)
        k = spec.num_classes
        self.register_buffer("orientation", torch.ones(code))
        self.register_buffer("weights", torch.zeros(len(PENALTIES), k, code))
        self.register_buffer("intercepts", torch.zeros(len(PENALTIES), k))
        self.register_buffer("health_figures", torch.zeros(3))
        self.register_buffer("margins", spec.usual_margins(), persistent=False)

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.classifier.names(self.spec.num_classes)

    @property
    def health(self) -> Health:
        """What the health test found when the lens was fitted."""
        return Health(*self.health_figures.tolist(), played=self._played)

    @property
    def selecting_weights(self) -> Tensor:
        """The weights ``(K, d)`` that select features: those of the chosen penalty, or of the next that has any."""
        return self._selecting(self.weights)

    @property
    def features(self) -> list[Feature]:
        """The top features of each class, strongest first, one dimension each; then ``everything else``."""
        weights = self.selecting_weights
        size, owner = weights.abs().max(0)
        if self.spec.num_classes == 2:
            # The weights of class 0 are those of class 1 with the other sign.
            owner = torch.ones_like(owner)
        parts: list[Feature] = []
        for c, name in enumerate(self.class_names):
            own = torch.where((owner == c) & (size > 0), size, torch.zeros_like(size))
            ranked = own.sort(descending=True, stable=True).indices[: self.top].tolist()
            dims = [dim for dim in ranked if own[dim] > 0]
            parts += [Feature(f"{name} feature {i + 1}", (dim,), "class", c) for i, dim in enumerate(dims)]
        used = {dim for part in parts for dim in part.dims}
        rest = tuple(dim for dim in range(self.code) if dim not in used)
        return [*parts, Feature("everything else", rest, "nuisance")] if rest else parts

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)``: the top features of each class together, by their weights."""
        rows = self._strongest(self.selecting_weights)
        named = zip(self.class_names, rows, strict=True)
        return {f"evidence for {name}": F.normalize(row, dim=0) for name, row in named if bool(row.any())}

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)`` in (-C, C): the encoder's mean, bounded."""
        return bounded(self.encoder(inputs)[0], self.bound) * self.orientation

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to inputs ``(N, *S)``."""
        return self.decoder(codes * self.orientation)

    def class_logits(self, codes: Tensor, penalty: float) -> Tensor:
        """Return what the sparse model of that penalty says of codes ``(N, d)``: one-vs-rest logits ``(N, K)``.

        Raises:
            OptionError: there is no model of that penalty.
        """
        if penalty not in PENALTIES:
            raise OptionError(f"class_logits: penalty must be one of {PENALTIES}, got {penalty!r}")
        index = PENALTIES.index(penalty)
        return codes @ self.weights[index].T + self.intercepts[index]

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Move the top features of the contrast, by their weights, until f is as sure as it is of real inputs.

        The features are those with the largest differences between the two classes' weights; all others stay. They
        are stopped at the ends of the code's range. The step is the smallest found at which f's margin on the
        decoding is the median that f gives to real inputs of the contrast class, else the one with the best margin.
        """
        weights = self.selecting_weights
        direction = F.normalize(self._strongest(weights[contrast] - weights[target]), dim=1)
        goal = self.margins[contrast, target]

        def score(rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.classifier(self.decode(self._moved(codes[rows], steps, direction[rows])))
            over_rest = margin_over_rest(logits.to(codes.dtype), contrast[rows])
            reached = score_margin(logits, contrast[rows], target[rows]).to(goal) >= goal[rows]
            return over_rest, reached & (over_rest > 0)

        # Far enough for one feature with a fifth of the length to cross its range.
        steps, _ = step_that_reaches(score, len(codes), 10 * self.bound, codes.device)
        return self._moved(codes, steps, direction)

    @torch.no_grad()
    def traversal(self, inputs: Tensor, feature: str | int, count: int = 9) -> Traversal:
        """Move one feature from -C to C and ask f under every frame.

        Args:
            inputs: ``(N, *S)``.
            feature: name or position of a feature that belongs to a class.
            count: number T of frames.

        Raises:
            OptionError: no such feature, or fewer than two frames.
        """
        known = [part for part in self.features if part.class_index is not None]
        names = [part.name for part in known]
        place = names.index(feature) if feature in names else feature
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(names) or count < 2:
            raise OptionError(
                "traversal: feature or count is wrong",
                given=f"feature {feature!r}, count {count!r}",
                allowed=f"{', '.join(names)}, or 0 to {len(names) - 1}; at least 2 frames",
            )
        part = known[place]
        edge = _EDGE * self.bound
        values = torch.linspace(-edge, edge, count, device=inputs.device)
        with self.classifier.frozen():
            moved = self.encode(inputs).unsqueeze(1).repeat(1, count, 1)
            moved[:, :, part.dims[0]] = values
            chunks = moved.flatten(0, 1).split(_BATCH)
            frames = torch.cat([self.decode(chunk) for chunk in chunks])
            logits = torch.cat([self.classifier(chunk) for chunk in frames.split(_BATCH)])
        wanted = torch.full((len(logits),), part.class_index, device=logits.device)
        scores = margin_over_rest(logits, wanted).view(len(inputs), count)
        return Traversal(values, frames.view(len(inputs), count, *self.spec.shape), scores)

    @torch.no_grad()
    def agreement(self, inputs: Tensor) -> Agreement:
        """Compare the sparse models with f on inputs ``(N, *S)``, and f with the edits toward f's runner-up."""
        found = []
        with self.classifier.frozen():
            for x in inputs.split(_BATCH):
                codes = self.encode(x)
                ranked = self.classifier(x).topk(2, 1).indices
                target, contrast = ranked[:, 0], ranked[:, 1]
                sparse = torch.stack([self.class_logits(codes, p).argmax(1) == target for p in PENALTIES])
                edited = self.counterfactual(codes, target, contrast)
                seen = self.classifier(self.decode(edited)).argmax(1)
                said = self.class_logits(edited, PENALTIES[self._chosen]).argmax(1)
                found.append(torch.cat([sparse, (seen == said)[None], (seen == contrast)[None]]))
        shares = torch.cat(found, 1).double().mean(1)
        return Agreement(shares[:-2], float(shares[-2]), float(shares[-1]))

    @torch.no_grad()
    def find_features(self, codes: Tensor, classes: Tensor) -> None:
        """Fit the sparse models to codes ``(n, d)`` and classes ``(n,)``, and orient the code (after training)."""
        weights, intercepts = sparse_path(codes, classes, self.spec.num_classes)
        selecting = self._selecting(weights)
        if self.spec.num_classes == 2:
            strongest = selecting[1]
        else:
            strongest = selecting.gather(0, selecting.abs().argmax(0, keepdim=True))[0]
        signs = torch.where(strongest < 0, -1.0, 1.0).to(self.orientation)
        self.orientation.mul_(signs)
        self.weights.copy_(weights * signs)
        self.intercepts.copy_(intercepts)

    def _selecting(self, weights: Tensor) -> Tensor:
        # The strongest penalties may leave nothing of a class that is rare or hard to tell.
        chosen = weights[self._chosen].clone()
        for index in range(self._chosen - 1, -1, -1):
            bare = ~chosen.any(1)
            chosen[bare] = weights[index][bare]
        return chosen

    def _strongest(self, weights: Tensor) -> Tensor:
        """Keep the largest of each row ``(n, d)``, and set the others to 0."""
        kept = weights.abs().topk(min(self.top, self.code), 1).indices
        return torch.zeros_like(weights).scatter(1, kept, weights.gather(1, kept))

    def _moved(self, codes: Tensor, steps: Tensor, direction: Tensor) -> Tensor:
        moved = codes + steps.unsqueeze(1) * direction
        # Only what moves is stopped: a code that lies further out by itself stays.
        edge = codes.abs().clamp_min(_EDGE * self.bound)
        return torch.where(direction == 0, codes, moved.clamp(-edge, edge))
