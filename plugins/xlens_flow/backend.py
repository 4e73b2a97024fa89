"""The flow backend: its options, and how a lens is fitted."""

from __future__ import annotations

import torch
from torch import Tensor

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Attributes, Batch, Data, attributes_of
from xlens.errors import OptionError
from xlens.nn import is_dense
from xlens.training import Trainer, supervising_logits, warmed_and_decayed
from xlens_flow.diffusion import from_folder
from xlens_flow.health import examine
from xlens_flow.lens import FlowLens
from xlens_flow.networks import Flow
from xlens_flow.objective import FlowMatching
from xlens_flow.velocities import Velocities

__all__ = ["RectifiedFlow"]


@xlens.options
class RectifiedFlow(xlens.Backend):
    """A rectified flow between noise and data, run backward under an input's own class and forward under another.

    It is conditional on the classifier's probabilities, which are taken once for each training input, and on what
    `side_info` says of an input. No gradient of the classifier is followed, neither in the fit nor in the
    counterfactual. `diffusion` takes a diffusion model of the user's own instead, which nothing trains.

    References:
        Liu, Gong, Liu (2023), Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow.
        Lipman, Chen, Ben-Hamu, Nickel, Le (2023), Flow Matching for Generative Modeling.
        Ho, Salimans (2022), Classifier-Free Diffusion Guidance.
        Su, Song, Meng, Ermon (2023), Dual Diffusion Implicit Bridges for Image-to-Image Translation.
    """

    name = "flow"
    capabilities = ("sample", "invariances", "waypoints", "side_info", "representations")

    steps: int = param(700, ge=1, help="training steps")
    batch_size: int = param(48, ge=2, help="inputs per step")
    network: str = param(
        "auto",
        choices=("auto", "dense", "convolutional"),
        help="kind of network; auto is convolutional for images",
    )
    hidden: int = param(256, ge=8, help="width of a dense network")
    width: int = param(32, ge=4, help="channels of a convolutional network at full resolution")
    attributes: tuple[str, ...] = param((), help="names of the columns of side_info")
    diffusion: str | None = param(
        None,
        help="folder of a class-conditional diffusion model of diffusers, which is used instead and not trained",
    )
    drop: float = param(0.15, gt=0, lt=1, help="share of the conditions that are left out in training")
    learning_rate: float = param(1e-3, gt=0, help="Adam's")
    ema: float = param(0.995, ge=0, lt=1, help="decay of the averaged weights that are kept")
    ode_steps: int = param(8, ge=1, help="Heun's steps between noise and data, two passes of the network each")
    corrections: int = param(8, ge=0, help="of each step of the inversion at most, two more passes each")
    inversion_tolerance: float = param(
        0.002, ge=0, help="root mean square that a step of the inversion may miss, in half ranges"
    )
    strongest: float = param(8.0, ge=1, help="hardest guidance that a counterfactual is tried with")
    depth: float = param(0.85, gt=0, le=1, help="share of the way back to noise that a counterfactual goes at most")
    guidance: float = param(2.0, ge=1, help="how hard what is drawn anew is guided toward its class")

    def build(self, classifier: Classifier, spec: Spec) -> FlowLens:
        """Return an untrained lens.

        Raises:
            UnsupportedError: convolutions for what is no image, or too small a one, or a diffusion model that is
                not conditional on the classifier's classes.
            ModelError: there is no diffusion model in that folder, or it does not fit the data.
            MissingExtraError: one is named, and diffusers is not installed.
        """
        flow = from_folder(self.diffusion, spec) if self.diffusion else self._network(spec)
        return self._lens(classifier, spec, flow)

    def _network(self, spec: Spec) -> Flow:
        # Every image gets a U-Net.
        dense = is_dense(spec, self.network, up_to=0, who="flow")
        return Flow(spec, dense=dense, hidden=self.hidden, width=self.width)

    def _lens(self, classifier: Classifier, spec: Spec, flow: Velocities) -> FlowLens:
        return FlowLens(
            classifier,
            spec,
            flow,
            ode_steps=self.ode_steps,
            corrections=self.corrections,
            tolerance=self.inversion_tolerance,
            strongest=self.strongest,
            depth=self.depth,
            guidance=self.guidance,
            attribute_names=self.attributes,
        )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> FlowLens:
        """Fit a lens; see :func:`xlens.fit`.

        Raises:
            OptionError: attributes do not fit `side_info`, or are called like something else.
            DataError: a column of `side_info` holds nothing to learn.
            UnsupportedError, ModelError, MissingExtraError: as :meth:`build` says.
        """
        attributes = attributes_of(self.name, run.side_info, self.attributes)
        if self.diffusion:
            if attributes is not None:
                raise OptionError(
                    "flow: side_info is learned, and a diffusion model of your own is not trained",
                    given=f"side_info of {attributes.values.shape[1]} columns, and diffusion={self.diffusion!r}",
                    do="leave out one of them",
                )
            lens = self.build(classifier, run.spec).to(run.device, torch.float32)
        else:
            lens = self._trained(classifier, data, run, attributes)
        examine(lens.eval(), classifier, data, run)
        return lens

    def _trained(self, classifier: Classifier, data: Data, run: Run, attributes: Attributes | None) -> FlowLens:
        flow = self._network(run.spec)
        if attributes is not None:
            flow.add_attributes(attributes.values.shape[1])
        lens = self._lens(classifier, run.spec, flow).to(run.device, torch.float32)
        trainer = Trainer(
            run,
            "flow",
            networks={"flow": flow},
            optimizers={"flow": torch.optim.Adam(flow.parameters(), self.learning_rate)},
            steps=self.steps,
            schedule=warmed_and_decayed,
            ema={"flow": self.ema},
            clip=1.0,
        )

        def classes_of(batch: Batch) -> Tensor:
            return supervising_logits(classifier, run, batch).softmax(1)

        step = FlowMatching(trainer, flow, self.drop, classes_of, attributes)
        trainer.fit(data, step, batch_size=self.batch_size)
        flow.load_state_dict(trainer.averaged("flow").state_dict())
        return lens
