"""The DIF lens: a bounded code, and the few features of it that tell the classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Classifier, Feature, Spec
from xlens.contracts import whole
from xlens.data import as_inputs
from xlens.errors import OptionError, did_you_mean
from xlens.nn import AskingLens, CodeDecoder, GaussianEncoder, decoded_as, margin_over_rest, step_that_reaches
from xlens_dif.health import Health
from xlens_dif.posterior import Posterior, bounded
from xlens_dif.sparse import PENALTIES, sparse_path

__all__ = ["Agreement", "DIFLens", "Traversal"]

_BATCH = 256
#: Codes are moved up to this share of C: at C itself the inverse of the bound is infinite.
_EDGE = 0.999


class Traversal(NamedTuple):
    """One feature moved through its range, with the classifier's score under every frame.

    Args:
        values: ``(T,)`` of the feature, from -C to C.
        frames: ``(N, T, *S)`` decodings.
        scores: ``(N, T)`` the classifier's logit of the feature's class minus the largest other logit.
    """

    values: Tensor
    frames: Tensor
    scores: Tensor


class Agreement(NamedTuple):
    """Whether the sparse model explains the classifier, and the classifier confirms the sparse model.

    Args:
        sparse: ``(L,)`` share of inputs on which the sparse model of each penalty predicts the classifier's class.
        confirmed: share of edited decodings on which the classifier's class is what the sparse model predicts.
        flips: share of edited decodings that the classifier puts in the contrast class.
    """

    sparse: Tensor
    confirmed: float
    flips: float


class DIFLens(AskingLens):
    """Encoder and decoder with a code in (-C, C), and sparse linear models of the classifier's classes on it.

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

    orientation: Tensor
    weights: Tensor
    intercepts: Tensor
    health_figures: Tensor

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
        super().__init__(classifier, spec)
        self.code, self.bound, self.top, self._played = code, bound, top, played
        self._chosen = PENALTIES.index(penalty)
        self.encoder = GaussianEncoder(spec, code, hidden, width, dense)
        self.decoder = CodeDecoder(spec, code, hidden, width, dense)
        k = spec.num_classes
        self.register_buffer("orientation", torch.ones(code))
        self.register_buffer("weights", torch.zeros(len(PENALTIES), k, code))
        self.register_buffer("intercepts", torch.zeros(len(PENALTIES), k))
        self.register_buffer("health_figures", torch.zeros(3))

    @property
    def health(self) -> Health:
        """What the health test found when the lens was fitted."""
        real_kl, fake_kl, error = self.health_figures.tolist()
        return Health(real_kl, fake_kl, error, played=self._played)

    @property
    def selecting_weights(self) -> Tensor:
        """The weights ``(K, d)`` that select features: those of the chosen penalty, or of the next that has any."""
        return self._selecting(self.weights)

    @property
    def features(self) -> list[Feature]:
        """The top features of each class, strongest first, one dimension each; then ``everything else``."""
        size, owner = self._owners(self.weights)
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
    def feature_weights(self) -> Mapping[str, float]:
        """Name -> weight of each feature of a class in the sparse model of that class, strongest first."""
        weights = self.selecting_weights
        named = [part for part in self.features if part.class_index is not None]
        return {part.name: float(weights[part.class_index, part.dims[0]]) for part in named}

    @property
    def directions(self) -> Mapping[str, Tensor]:
        """Name -> unit vector ``(d,)``: the top features of each class together, by their weights."""
        rows = self._strongest(self.selecting_weights)
        named = zip(self.class_names, rows, strict=True)
        return {f"evidence for {name}": F.normalize(row, dim=0) for name, row in named if bool(row.any())}

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)`` in (-C, C): the encoder's mean, bounded."""
        return bounded(self.encoder(inputs)[0], self.bound) * self.orientation

    def encode_draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(M, N, d)`` from q(z|x), bounded, for noise ``(M, d)``."""
        return Posterior(*self.encoder(inputs)).draw(noise.unsqueeze(1), self.bound) * self.orientation

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
        """Move the top features of the contrast, by their weights, until the classifier is sure.

        The features are those with the largest differences between the two classes' weights; all others stay. They
        are stopped at the ends of the code's range. The step is the smallest found at which the classifier's margin
        on the decoding is its median on real inputs of the contrast class, else the one with the best margin.
        """
        weights = self.selecting_weights
        direction = F.normalize(self._strongest(weights[contrast] - weights[target]), dim=1)

        def score(rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
            return self.convinces(self._moved(codes[rows], steps, direction[rows]), target[rows], contrast[rows])

        # Far enough for one feature with a fifth of the length to cross its range.
        steps, _ = step_that_reaches(score, len(codes), 10 * self.bound, codes.device)
        return self._moved(codes, steps, direction)

    @torch.no_grad()
    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new inputs ``(n, *S)``: from the prior, moved where the classifier sees another class."""
        noise = torch.randn(n, self.code, generator=generator, device=self.orientation.device)
        codes = bounded(noise, self.bound)
        return decoded_as(self, self.classifier, codes, target)

    @torch.no_grad()
    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``: one part drawn around itself before it is bounded, the other held.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: standard deviation, in those of the prior.
            generator: draws it.
            vary: ``"nuisance"`` for everything else, ``"class"`` for the features of the classes.
        """
        role = "class" if vary == "class" else "nuisance"
        dims = [dim for part in self.features if part.role == role for dim in part.dims]
        varied = codes.unsqueeze(1).repeat(1, n, 1)
        noise = torch.randn(len(codes), n, len(dims), generator=generator, device=codes.device)
        edge = _EDGE * self.bound
        raw = self.bound * torch.atanh(codes[:, None, dims].clamp(-edge, edge) / self.bound)
        varied[:, :, dims] = bounded(raw + scale * noise, self.bound) if scale else codes[:, None, dims]
        return varied

    @torch.no_grad()
    def traversal(self, inputs: Tensor, feature: str | int, count: int = 9) -> Traversal:
        """Move one feature from -C to C and ask the classifier under every frame.

        Args:
            inputs: ``(N, *S)``.
            feature: name or position of a feature that belongs to a class.
            count: number T of frames.

        Raises:
            OptionError: no such feature, or fewer than two frames.
            DataError: inputs of another shape, none, or values that are not finite.
        """
        part = self._feature_of_class(feature)
        if (whole(count) or 0) < 2:
            raise OptionError("traversal: count is wrong", given=repr(count), allowed="an int of at least 2")
        x = self._checked(inputs)
        edge = _EDGE * self.bound
        values = torch.linspace(-edge, edge, count, device=x.device, dtype=x.dtype)
        with self.classifier.frozen():
            moved = torch.cat([self.encode(chunk) for chunk in x.split(_BATCH)]).unsqueeze(1).repeat(1, count, 1)
            moved[:, :, part.dims[0]] = values
            chunks = moved.flatten(0, 1).split(_BATCH)
            frames = torch.cat([self.decode(chunk) for chunk in chunks])
            logits = torch.cat([self.classifier(chunk) for chunk in frames.split(_BATCH)])
        wanted = torch.full((len(logits),), cast(int, part.class_index), device=logits.device)
        scores = margin_over_rest(logits, wanted).view(len(x), count)
        return Traversal(values, frames.view(len(x), count, *self.spec.shape), scores)

    def _feature_of_class(self, feature: str | int) -> Feature:
        known = {part.name: part for part in self.features if part.class_index is not None}
        names = list(known)
        if isinstance(feature, int) and not isinstance(feature, bool) and 0 <= feature < len(names):
            return known[names[feature]]
        if isinstance(feature, str) and feature in known:
            return known[feature]
        near = did_you_mean(feature, names) if isinstance(feature, str) else ""
        raise OptionError(
            f"traversal: there is no feature {feature!r} of a class.{near}",
            allowed=f"{', '.join(names)}, or 0 to {len(names) - 1}"
            if names
            else "none, as no dimension has a weight",
        )

    def _checked(self, inputs: Tensor) -> Tensor:
        return as_inputs(inputs, self.spec.shape).to(self.weights.device, self.weights.dtype)

    @torch.no_grad()
    def agreement(self, inputs: Tensor) -> Agreement:
        """Compare the sparse models with the classifier on inputs ``(N, *S)``, and the classifier with edits.

        The edits go toward the classifier's runner-up.

        Raises:
            DataError: inputs of another shape, none, or values that are not finite.
        """
        found = []
        with self.classifier.frozen():
            for x in self._checked(inputs).split(_BATCH):
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
        _, owner = self._owners(weights)
        strongest = self._selecting(weights).gather(0, owner[None])[0]
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

    def _owners(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest weight of each dimension, and the class that it belongs to, ``(d,)`` each."""
        first, every = weights[self._chosen].abs(), self._selecting(weights).abs()
        # Weaker penalties give large weights: a class that needs one takes no dimension from another that does not.
        size, owner = torch.where(first.any(0), first, every).max(0)
        # Of two classes the weights of the first are those of the second with the other sign.
        return size, torch.ones_like(owner) if self.spec.num_classes == 2 else owner

    def _strongest(self, weights: Tensor) -> Tensor:
        """Keep the largest of each row ``(n, d)``, and set the others to 0."""
        kept = weights.abs().topk(min(self.top, self.code), 1).indices
        return torch.zeros_like(weights).scatter(1, kept, weights.gather(1, kept))

    def _moved(self, codes: Tensor, steps: Tensor, direction: Tensor) -> Tensor:
        moved = codes + steps.unsqueeze(1) * direction
        # Only what moves is stopped: a code that lies further out by itself stays.
        edge = codes.abs().clamp_min(_EDGE * self.bound)
        return torch.where(direction == 0, codes, moved.clamp(-edge, edge))
