"""The ILVM lens: from a hidden layer, or from another lens's codes, to a code in which dimensions have names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from xlens import Classifier, Feature, Lens, Run, Spec
from xlens.contracts import Question
from xlens.errors import UnsupportedError
from xlens_ilvm.acquisition import DRAWS, informativeness, informativeness_of_draws
from xlens_ilvm.columns import targets_of
from xlens_ilvm.learning import Learning, hold_out
from xlens_ilvm.memory import Bank, Memory
from xlens_ilvm.models import Model
from xlens_ilvm.named import centres_of, named_features, questions_of, toward_class
from xlens_ilvm.space import Space

__all__ = ["ILVMLens"]


class ILVMLens(Lens):
    """Codes z*: first the dimensions that side information was assigned, then everything else.

    Without another lens below, codes are of a hidden layer, and `decode` returns that layer's activations; with
    one, codes are of its codes, and decode through it to whatever that one decodes to.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        space: standardises the layer, or the codes below.
        model: maps them to z* and back.
        below: the lens whose codes these are of, or None.
        names: names of the columns of side information; numbered where there are none.
        learning: how the model learns further.
        teaching_steps: how long, when it is taught.
        uncertain: what is uncertain when it asks: the ``"readout"``, or the ``"code"``.
    """

    of_classes: Tensor
    margins: Tensor

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        *,
        space: Space,
        model: Model,
        below: Lens | None,
        names: tuple[str, ...],
        learning: Learning,
        teaching_steps: int,
        uncertain: str = "readout",
    ) -> None:
        super().__init__()
        self._classifier = [classifier]  # in a list, so that it is neither submodule nor state
        self.spec, self._names, self._learning, self._teaching_steps = spec, names, learning, teaching_steps
        self.space, self.model, self.below = space, model, below
        self._uncertain = uncertain
        self.decodes_to = "layer" if below is None else below.decodes_to
        if below is not None:
            self.encodes_directly = below.encodes_directly
        self.memory = Memory(space.width)
        self.bank = Bank(spec.shape, space.width + space.kept, spec.num_classes)
        # Whether what is read are the classifier's own classes, because there was no side information.
        self.register_buffer("of_classes", torch.tensor(0))
        self.register_buffer("margins", spec.usual_margins(), persistent=False)

    @property
    def classifier(self) -> Classifier:
        """The classifier that the lens was fitted around."""
        return self._classifier[0]

    @property
    def features(self) -> list[Feature]:
        """Each column of side information, or evidence for each class where there was none, and everything else."""
        names = self.classifier.names(self.spec.num_classes)
        width = self.bank.codes.shape[1]
        return named_features(self.model.readout, bool(self.of_classes), self._names, names, width, self.taught)

    @property
    def taught(self) -> Tensor:
        """Which of the named dimensions anything was ever answered about, ``(C,)`` bool."""
        readout, targets = self.model.readout, self.memory.targets
        if bool(self.of_classes) or targets.shape[1] != readout.outputs:
            return torch.ones(readout.width, dtype=torch.bool, device=targets.device)
        return (~targets.isnan()).any(0).repeat_interleave(readout.dimensions)

    @property
    def kept_inputs(self) -> Tensor:
        """The real inputs ``(B, *S)`` that the lens keeps."""
        return self.bank.inputs

    def represent(self, inputs: Tensor) -> Tensor:
        """Return what the lens works on, for inputs ``(N, *S)``: the layer's activations, or the codes below."""
        if self.below is not None:
            return self.below.encode(inputs)
        return self.classifier.activations(inputs).to(inputs.device)

    def encode(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(N, *S)`` to codes ``(N, d)``."""
        y, rest = self.space(self.represent(inputs))
        return torch.cat([self.model.code(y), rest], 1).to(inputs.dtype)

    def drawn_codes(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return draws ``(M, N, width)`` of z* given inputs, through the lens below where that can draw as well.

        Noise is the same for every input, so that what is found of one does not depend on the others.
        """
        below = getattr(self.below, "encode_draws", None)
        if below is None:
            represented = self.represent(inputs).unsqueeze(0)
        else:
            width = math.prod(self.space.shape)
            drawn = torch.randn(DRAWS, width, generator=generator, device=inputs.device)
            represented = below(inputs, drawn.to(inputs.dtype))
        shape = (DRAWS, 1, self.space.width)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64, device=inputs.device)
        y = [self.space(one)[0] for one in represented]
        if len(y) == 1:
            return self.model.draws(y[0], noise[:, 0])
        return torch.cat([self.model.draws(one, own) for one, own in zip(y, noise, strict=True)])

    def decode(self, codes: Tensor) -> Tensor:
        """Map codes ``(N, d)`` to the layer's activations ``(N, *A)``, or to inputs through the lens below."""
        wide = codes.double()
        y = self.model.restore(wide[:, : self.space.width])
        found = self.space.inverse(y, wide[:, self.space.width :]).to(codes.dtype)
        return found if self.below is None else self.below.decode(found)

    def logits(self, codes: Tensor) -> Tensor:
        """Return what the classifier says ``(N, K)`` of what codes decode to."""
        decoded = self.decode(codes)
        if self.decodes_to == "inputs":
            return self.classifier(decoded)
        # What lies beside the layer plays no part: `fit` refuses models in which it does.
        unused = self.spec.per_channel("mean").to(codes).expand(len(codes), *self.spec.shape)
        return self.classifier.tail(decoded, unused)

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Move the named dimensions toward where they are on the contrast class; see ``toward_class``.

        Those about which nothing was answered mean nothing yet, and stay as they are.
        """
        named = self.bank.codes[:, : self.model.readout.width]
        centres = centres_of(named, self.bank.logits)
        return toward_class(self.logits, codes, centres, target, contrast, self.margins, self.taught)

    def retrieve(self, codes: Tensor, classes: Tensor | None = None, first: Sequence[int] = ()) -> Tensor:
        """Return the kept real inputs ``(N, *S)`` nearest to codes.

        Args:
            codes: ``(N, d)``.
            classes: ``(N,)`` classes that the classifier must put them in; distances are in everything but the
                named dimensions (in these too, where there is nothing else). None: in all dimensions.
            first: dimensions that count first.
        """
        count = codes.shape[1]
        named = torch.zeros(count, dtype=torch.bool, device=codes.device)
        if classes is not None:
            named[: self.model.readout.width] = self.taught
        dims = (named.all() | ~named).nonzero()[:, 0]
        leading = torch.tensor(first, dtype=torch.long, device=codes.device)
        return self.bank.nearest(codes, dims, classes, leading, self._units(codes))

    def _units(self, codes: Tensor) -> Tensor:
        """Return what distances count as one in each dimension of the code, ``(d,)``.

        What is kept beside y is in the layer's own unit, which must not matter: it is measured by the component of
        y that varies least, which varies more than anything that is kept.
        """
        units = torch.ones(codes.shape[1], dtype=torch.float64, device=codes.device)
        units[self.space.width :] = self.space.scale.min()
        return units

    @property
    def questions(self) -> list[Question]:
        """What a person can be asked about an input; nothing, where the classifier's own classes are read."""
        return [] if bool(self.of_classes) else questions_of(self.model.readout, self._names)

    def informativeness(self, inputs: Tensor, strategy: str, generator: torch.Generator) -> Tensor:
        """Return how much would be learned from the side information of each input, in nats ``(N,)``."""
        self._check_taught("query")
        if self._uncertain == "code":
            return informativeness_of_draws(self.model.readout, self.drawn_codes(inputs, generator), strategy)
        known = (~self.memory.targets.isnan()).any(1)
        codes = self.model.code(self.memory.y[known].double())
        asked = self.model.code(self.space(self.represent(inputs))[0])
        targets = self.memory.targets[known]
        return informativeness(self.model.readout, codes, targets, asked, strategy, generator)

    def teach(self, inputs: Tensor, side_info: Tensor, run: Run) -> None:
        """Learn further, from the rows that are kept and these."""
        self._check_taught("teach")
        targets = targets_of(side_info.cpu(), self.model.readout.columns)
        with torch.no_grad():
            y = self.space(self.represent(inputs))[0]
        # Another share than last time, though the seed may be the same.
        self.memory.add(y, targets, hold_out(len(y), run.seed + len(self.memory.y)))
        self.model.requires_grad_(True)
        try:
            kept = (self.memory.y.cpu(), self.memory.targets.cpu(), self.memory.held_out.cpu())
            self._learning.fit(self.model, *kept, run, "teach", self._teaching_steps)
        finally:
            self.model.requires_grad_(False)
        self.settle(self.bank.inputs, self.bank.logits)

    @torch.no_grad()
    def settle(self, inputs: Tensor, logits: Tensor) -> None:
        """Keep these real inputs ``(B, *S)``, with the classifier's logits ``(B, K)``, to be retrieved."""
        codes = torch.cat([self.encode(part) for part in inputs.split(256)])
        self.bank.keep(inputs, codes, logits)

    def _check_taught(self, what: str) -> None:
        if bool(self.of_classes):
            raise UnsupportedError(
                f"{what}: this lens reads the classifier's own classes, of which nothing is unknown",
                given="a lens that was fitted without side_info",
                do="pass side_info to fit, with NaN where it is not observed; kinds=('binary', ...) where it is "
                "not observed at all yet",
            )
