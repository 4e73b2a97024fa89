"""The user's own diffusion model as the flow's velocities: a UNet2DModel of diffusers, with its scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xlens import Spec
from xlens.errors import MissingExtraError, ModelError, UnsupportedError
from xlens_flow.velocities import Velocities

__all__ = ["Diffusion", "from_folder"]

_PREDICTIONS = ("epsilon", "v_prediction")


class Diffusion(Velocities):
    """The velocity between noise and data of a variance-preserving diffusion model, as a rectified flow has it.

    States ``alpha x0 + sigma e`` of the diffusion are, divided by alpha + sigma, states ``t x0 + (1 - t) e`` of the
    flow at time t = alpha / (alpha + sigma). Its probability-flow ODE, which DDIM takes Euler's steps of, is the
    flow's with velocity x0 - e.

    Args:
        spec: shape and range of the data; the model gets them in [-1, 1].
        unet: takes states, timesteps, and rows of embeddings of classes.
        alphas_cumprod: ``(T,)`` of its scheduler, alpha squared.
        prediction: ``"epsilon"`` or ``"v_prediction"``, what it predicts.
        clip: images are taken to lie in [-clip, clip], as its scheduler does; None where it does not.

    References:
        Song, Meng, Ermon (2021), Denoising Diffusion Implicit Models, eq. 14. Salimans, Ho (2022), Progressive
        Distillation for Fast Sampling of Diffusion Models, app. D.
    """

    times: Tensor

    def __init__(
        self, spec: Spec, unet: nn.Module, alphas_cumprod: Tensor, prediction: str, clip: float | None = None
    ) -> None:
        super().__init__(spec)
        self.unet, self.prediction, self.clip = unet, prediction, clip
        alpha, sigma = alphas_cumprod.double().sqrt(), (1 - alphas_cumprod.double()).sqrt()
        # From data to noise, as timesteps count, so it falls.
        self.register_buffer("times", (alpha / (alpha + sigma)).float(), persistent=False)

    def forward(self, states: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Return velocities ``(N, *S)``; arguments as for :class:`Velocities`."""
        per_row = (-1, *[1] * (states.dim() - 1))
        size = (times.square() + (1 - times).square()).sqrt().view(per_row)
        # No model knows what comes before its first timestep, or after its last.
        known = times.clamp(self.times[-1], self.times[0])
        length = (known.square() + (1 - known).square()).sqrt()
        alpha, sigma = (known / length).view(per_row), ((1 - known) / length).view(per_row)
        noisy = states / size
        found = self.unet(noisy, self.timesteps(known), conditions).sample
        if self.prediction == "epsilon":
            noise, clean = found, (noisy - sigma * found) / alpha
        else:
            noise, clean = sigma * noisy + alpha * found, alpha * noisy - sigma * found
        return (clean if self.clip is None else clean.clamp(-self.clip, self.clip)) - noise

    def timesteps(self, times: Tensor) -> Tensor:
        """Return the model's timesteps ``(N,)`` at times of the flow, between whole ones in proportion."""
        falling = -self.times
        after = torch.searchsorted(falling, -times).clamp(1, len(falling) - 1)
        below, above = self.times[after - 1], self.times[after]
        return after - 1 + (below - times) / (below - above)


class _Mixed(nn.Module):
    """Embeddings of classes, mixed as conditions say; where these are all zeros, that of no class.

    Args:
        weight: ``(K, E)``, or ``(K + 1, E)`` with that of no class last. Without it no class is the mean of all.
        num_classes: K.
    """

    def __init__(self, weight: Tensor, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.num_classes = num_classes

    def forward(self, conditions: Tensor) -> Tensor:
        classes, rest = self.weight[: self.num_classes], self.weight[self.num_classes :]
        none = rest[0] if len(rest) else classes.mean(0)
        return conditions @ classes + (1 - conditions.sum(1, keepdim=True)) * none


def from_folder(folder: str, spec: Spec) -> Diffusion:
    """Return the velocities of a pipeline that diffusers saved, read from its safetensors.

    Args:
        folder: holds ``unet/`` of a class-conditional UNet2DModel, and ``scheduler/``.
        spec: the data and the classes.

    Raises:
        MissingExtraError: diffusers is not installed.
        ModelError: there is no such model in the folder, it is of another shape, or it predicts something else.
        UnsupportedError: it is not conditional on the classes.
    """
    try:
        from diffusers import DDIMScheduler, UNet2DModel
    except ImportError:
        raise MissingExtraError(
            "flow: the package 'diffusers' is not installed, which reads the model",
            do="pip install diffusers",
        ) from None
    try:
        parts = [str(Path(folder) / name) for name in ("unet", "scheduler")]
        unet = UNet2DModel.from_pretrained(parts[0], use_safetensors=True, local_files_only=True)
        scheduler = DDIMScheduler.from_pretrained(parts[1], local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise ModelError(
            "flow: there is no diffusion model of images in this folder",
            given=f"{folder}: {(str(fault).splitlines() or [''])[0]}",
            allowed="unet/ of a UNet2DModel in safetensors, and scheduler/ of a DDPM or DDIM scheduler",
            do="DDPMPipeline(unet, scheduler).save_pretrained(folder)",
        ) from fault
    return _checked(unet, scheduler.alphas_cumprod, scheduler.config, spec)


def _checked(unet: Any, alphas_cumprod: Tensor, scheduler: Any, spec: Spec) -> Diffusion:
    if tuple(spec.shape)[:1] != (unet.config.in_channels,) or not spec.is_image:
        raise ModelError(
            "flow: the diffusion model takes other inputs than the classifier",
            given=f"{unet.config.in_channels} channels, and inputs of shape {spec.shape}",
            allowed="images of as many channels",
        )
    if scheduler.prediction_type not in _PREDICTIONS:
        raise ModelError(
            "flow: the diffusion model predicts something else",
            given=f"prediction_type={scheduler.prediction_type!r}",
            allowed=" or ".join(map(repr, _PREDICTIONS)),
        )
    known, count = unet.config.num_class_embeds, spec.num_classes
    if not isinstance(unet.class_embedding, nn.Embedding) or known not in (count, count + 1):
        raise UnsupportedError(
            "flow: the diffusion model is not conditional on the classifier's classes",
            given=f"num_class_embeds={known} for {count} classes",
            allowed=f"{count}, or {count + 1} with that of no class last",
            do="train one that is, or leave out diffusion, which fits a flow: without conditions an input can be "
            "run backward and forward, but only the classifier's gradient could lead it elsewhere",
        )
    unet.class_embedding = _Mixed(unet.class_embedding.weight, count)
    clip = float(scheduler.clip_sample_range) if scheduler.clip_sample else None
    return Diffusion(spec, unet, alphas_cumprod, scheduler.prediction_type, clip)
