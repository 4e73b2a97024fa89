"""The backend: which autoencoder, and how far and how finely to shift."""

from __future__ import annotations

import torch

import xlens
from xlens import Classifier, Run, Spec, param
from xlens.data import Data
from xlens.errors import UnsupportedError
from xlens_latentshift.autoencoders import decoded, encoded, register, registered
from xlens_latentshift.lens import LatentShiftLens

__all__ = ["LatentShift"]


@xlens.options
class LatentShift(xlens.Backend):
    """Moves codes of an autoencoder along the gradient of the classifier's score until it changes its mind.

    The autoencoder is handed over by :func:`xlens_latentshift.register`, or with ``LatentShift.of(autoencoder)``.
    ``LatentShift.paper(...)`` shifts along one straight line, as the paper does; the default turns.

    References:
        Cohen et al. (2021), Gifsplanation via Latent Shift, equations 1 and 2.
    """

    name = "latentshift"

    autoencoder: str = param("", help="name of a registered autoencoder; empty for the only one")
    steps: int = param(20, ge=1, help="lengths of the shift that are tried; the shortest that suffices is taken")
    longest: float = param(2.0, gt=0, help="the longest shift, as a share of the code's own typical length")
    straight: bool = param(False, help="keep the direction of the first gradient, as the paper does")

    @classmethod
    def of(cls, autoencoder: torch.nn.Module, *, name: str | None = None, **options: object) -> LatentShift:
        """Register an autoencoder and return a backend that uses it.

        Args:
            autoencoder, name: see :func:`xlens_latentshift.register`.
            **options: the other fields.

        Raises:
            OptionError: no autoencoder, or no name where the class's belongs to another.
        """
        return cls(autoencoder=register(autoencoder, name), **options)

    @classmethod
    def paper(cls, **options: object) -> LatentShift:
        """Return the paper's version: one gradient, one straight line.

        Args:
            **options: fields that should differ.
        """
        return cls(**{"straight": True, "steps": 40, **options})

    def build(self, classifier: Classifier, spec: Spec) -> LatentShiftLens:
        """Return a lens around a copy of the autoencoder.

        Raises:
            OptionError: there is no such autoencoder.
            UnsupportedError: it does not take inputs of this shape, or returns others.
        """
        autoencoder = registered(self.autoencoder).eval().to(torch.float32)
        probe = spec.per_channel("mean").expand(2, *spec.shape).to(_device(autoencoder)).contiguous()
        try:
            with torch.no_grad():
                latents = encoded(autoencoder, probe)
                again = decoded(autoencoder, latents)
        except (RuntimeError, ValueError, IndexError) as fault:
            raise UnsupportedError(
                "latentshift: the autoencoder does not take these inputs",
                given=f"shape {spec.shape}: {str(fault).splitlines()[0]}",
                do="crop or resize the inputs, or wrap the autoencoder in a module that does",
            ) from None
        if again.shape != probe.shape:
            raise UnsupportedError(
                "latentshift: the autoencoder returns another shape than it was given",
                given=tuple(again.shape[1:]),
                allowed=spec.shape,
                do="wrap it in a module that crops or resizes what it decodes",
            )
        return LatentShiftLens(
            classifier,
            spec,
            autoencoder,
            tuple(latents.shape[1:]),
            steps=self.steps,
            longest=self.longest,
            straight=self.straight,
        )

    def fit(self, classifier: Classifier, data: Data, run: Run) -> LatentShiftLens:
        """Measure how long codes of the data are; nothing is trained."""
        lens = self.build(classifier, run.spec).to(run.device).eval()
        total, count = torch.zeros((), dtype=torch.float64), 0
        with torch.no_grad():
            for batch in data.batches():
                codes = lens.encode(batch.inputs.to(run.device))
                total += codes.double().norm(dim=1).sum().cpu()
                count += len(codes)
        lens.scale.copy_(total / count)
        return lens


def _device(module: torch.nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
