"""The infill backend: its options, the survey that takes the place of training, and a fill that may be learned."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm.auto import tqdm

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Data
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning
from xlens_infill.learning import free_of_evidence, learn
from xlens_infill.lens import SMALLEST_SIDE, InfillLens
from xlens_infill.survey import levels_of, separation, survey
from xlens_infill.where import margins_of
from xlens_infill.within import object_of, shows_objects

__all__ = ["Infill"]

#: Inputs read at once.
_READ = 64
#: Inputs of a class, and classes, on which it is tried whether a search finds anything.
_ASKED, _ASKED_CLASSES = 10, 4
#: Share of them on which something has to be found: by the survey, or tiles are tried. No more is looked for.
_ENOUGH = 0.3
_OF_THE_TRAINING = ("steps", "batch_size", "width", "learning_rate")


@xlens.options
class Infill(xlens.Backend):
    """Counterfactuals of local evidence in photographs, without training: lesions, defects, parts, stickers.

    One survey of the data counts which small patches the classifier's classes have and lack; on a new input that
    gives nested masks, each of which takes everything that looks alike. Each is filled from its surroundings by a
    function that never sees the classifier, and the smallest that convinces the classifier is the answer. Where
    none does, the answer is that there is no local counterfactual.

    It takes evidence away. For evidence that is added, for shape and for tone choose a lens that decodes.

    >>> import xlens
    >>> explainer = xlens.fit(classifier, images, "infill", progress=False)
    >>> len(explainer.features)
    6
    """

    name = "infill"
    capabilities = ("edits",)
    trains = False

    fill: str = param(
        "harmonic",
        choices=("harmonic", "nearest", "learned"),
        help="what stands in a hole: a smooth continuation with the image's own detail; its nearest patches, which "
        "suit line art and binary images; or what a network has learned from inputs free of evidence, in minutes",
    )
    search: str = param(
        "auto",
        choices=("auto", "survey", "tiles"),
        help="where to look for evidence: what the survey calls so; tiles of each input, by how much filling them "
        "moves the classifier; auto tries both on a few inputs where the survey finds little. Of a label among "
        "others that small patches tell from its absence, tiles follow on each input where the survey fails",
    )
    survey: int = param(240, ge=8, help="inputs that are surveyed, spread over the classifier's classes")
    words: int = param(384, ge=8, help="kinds of patches that are told apart")
    goal: float = param(
        0.0, ge=0, le=1, help="how sure the classifier has to be, as a share of its median margin on real inputs"
    )
    largest: float = param(0.3, gt=0, le=1, help="share of the object that an edit may take")
    parts: int = param(6, ge=1, help="parts of an edit that are named; the last holds whatever is left")
    steps: int = param(400, ge=1, help="training steps of the fill that is learned")
    batch_size: int = param(8, ge=1, help="inputs per step of the fill that is learned")
    width: int = param(16, ge=2, help="channels of the fill that is learned, at its finest resolution")
    learning_rate: float = param(2e-3, gt=0, help="Adam's, for the fill that is learned")

    def __post_init__(self) -> None:
        """Refuse options of a training where nothing is trained.

        Raises:
            OptionError: names all of them.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        given = [name for name in _OF_THE_TRAINING if getattr(self, name) != defaults[name]]
        if given and self.fill != "learned":
            raise OptionError(
                f"infill: fill={self.fill!r} is not trained, and has no {', '.join(given)}",
                given=", ".join(f"{name}={getattr(self, name)!r}" for name in given),
                do="leave them out, or use fill='learned'",
            )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> InfillLens:
        """Survey the data, and train the fill where it is to be learned."""
        lens = self.build(classifier, run.spec).to(run.device)
        inputs, decided = self._surveyed(classifier, data, run)
        within = object_of(inputs)
        cut = shows_objects(within, decided)
        within = within if cut else torch.ones_like(within)
        found = survey(inputs, within, decided, run.spec.num_classes, words=self.words, seed=run.seed)
        lens.remember(found, levels_of(found, inputs, within, decided, run.spec.num_classes), cut)
        apart = separation(found, inputs[::2], within[::2], decided[::2])
        lens.separation.fill_(apart)
        if lens.inpainter is not None:
            free = free_of_evidence(found, inputs, within, decided)
            options = {"steps": self.steps, "batch_size": self.batch_size}
            learn(lens.inpainter, run, inputs, free, rate=self.learning_rate, **options)
        self._choose_search(classifier, lens.eval(), inputs, within, decided)
        if lens.unfit is not None:
            warnings.warn(
                f"infill: {lens.unfit}, so no input has a local counterfactual. A lens that decodes shows changes "
                "of shape and tone; xlens.backends() lists them",
                XlensWarning,
                stacklevel=2,
            )
        elif lens.doubt is not None and self.search == "auto":
            warnings.warn(
                f"infill: {lens.doubt}. search='tiles' asks for that without this warning",
                XlensWarning,
                stacklevel=2,
            )
        return lens.eval()

    def _choose_search(
        self, classifier: Classifier, lens: InfillLens, inputs: Tensor, within: Tensor, decided: Tensor
    ) -> None:
        """Set where the lens looks: by the survey, unless that finds next to nothing and tiles find more.

        Where every input is searched in both ways there is nothing to choose.
        """
        if self.search == "survey" or min(inputs.shape[2:]) < SMALLEST_SIDE:
            return
        several = len(margins_of(classifier, inputs[:1], 0, 0.0)) > 1
        if self.search == "auto" and lens.separates and several:
            return
        by_survey = 0.0
        if self.search == "auto" and lens.separates:
            by_survey = _reach(classifier, lens, inputs, within, decided)
            if by_survey >= _ENOUGH:
                return
        lens.tiled.fill_(1.0)
        by_tiles = _reach(classifier, lens, inputs, within, decided)
        lens.reach.fill_(by_tiles)
        if self.search == "auto" and lens.separates and by_tiles <= by_survey:
            lens.tiled.fill_(0.0)

    def build(self, classifier: Classifier, spec: Spec) -> InfillLens:
        """Return a lens that has surveyed nothing yet.

        Raises:
            UnsupportedError: the inputs are no images of 8 pixels and more.
        """
        if not spec.is_image or min(spec.shape[1:]) < 8:
            raise UnsupportedError(
                "infill: it fills holes in images",
                given=f"inputs of shape {spec.shape}",
                allowed="(C, H, W) with sides of at least 8 pixels",
            )
        return InfillLens(
            classifier,
            spec,
            fill=self.fill,
            search=self.search,
            words=self.words,
            goal=self.goal,
            largest=self.largest,
            parts=self.parts,
            width=self.width,
        )

    def _surveyed(self, classifier: Classifier, data: Data, run: Run) -> tuple[Tensor, Tensor]:
        """Return some inputs ``(M, C, H, W)``, as evenly over the classes as the data allow, and the decisions on
        them."""
        most = max(1, self.survey // run.spec.num_classes)
        counts = torch.zeros(run.spec.num_classes, dtype=torch.long)
        kept: list[Tensor] = []
        classes: list[Tensor] = []
        for inputs, decided in self._decided(classifier, data, run):
            for c in decided.unique().tolist():
                rows = (decided == c).nonzero()[: most - int(counts[c]), 0]
                kept.append(inputs[rows])
                classes.append(decided[rows])
                counts[c] += len(rows)
            if bool((counts >= most).all()):
                break
        if int((counts > 0).sum()) < 2:
            raise DataError(
                "infill: the classifier sees one class alone in these data",
                given=f"{int(counts.sum())} inputs, all of class {int(counts.argmax())}",
                do="pass data with inputs of the class to explain and of one to explain it against",
            )
        return torch.cat(kept), torch.cat(classes)

    def _decided(self, classifier: Classifier, data: Data, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
        hide = None if run.progress is None else not run.progress
        generator = torch.Generator().manual_seed(run.seed)
        for batch in tqdm(data.batches(_READ, generator=generator), desc="survey", unit="batch", disable=hide):
            inputs = batch.inputs.to(run.device)
            if run.logits is not None and batch.index is not None:
                decided = run.logits[batch.index.cpu()].argmax(1).to(run.device)
            else:
                with torch.no_grad():
                    decided = classifier(inputs).argmax(1)
            yield inputs, decided


@torch.no_grad()
def _reach(classifier: Classifier, lens: InfillLens, inputs: Tensor, within: Tensor, decided: Tensor) -> float:
    """Return the share of inputs that have a local counterfactual, of the class of which most have.

    Once enough of a class have one no more are looked at: at least so many have.
    """
    shares = [0.0]
    for c in decided.unique().tolist()[:_ASKED_CLASSES]:
        rows = (decided == c).nonzero()[:_ASKED, 0]
        logits = classifier(inputs[rows])
        logits[:, c] = -torch.inf
        found = 0
        for i, other in zip(rows.tolist(), logits.argmax(1).tolist(), strict=True):
            goal = lens.goal * float(lens.spec.usual_margins()[other, c])
            found += lens.found(inputs[i : i + 1], within[i : i + 1], c, other, goal).problem is None
            if found >= _ENOUGH * len(rows):
                return found / len(rows)
        shares.append(found / len(rows))
    return max(shares)
