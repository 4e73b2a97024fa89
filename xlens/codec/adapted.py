"""The user's own autoencoder as a codec: any module with encode and decode, and diffusers' in their conventions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from xlens.classifier.frozen import frozen
from xlens.classifier.normalization import Normalization
from xlens.classifier.whole import tensors_of
from xlens.codec.contract import Codec
from xlens.contracts.backend import Spec
from xlens.errors import ModelError

__all__ = ["Autoencoder", "as_codec", "check_methods"]

_ALLOWED = (
    "a module whose encode(images) gives latents (N, c, h, w), as a tensor, first in a tuple, under .latents, or "
    "as the mode of .latent_dist, and whose decode(latents) gives images, as a tensor, first in a tuple, or under "
    ".sample"
)


class Autoencoder(Codec):
    """Somebody's own autoencoder, frozen and held by reference: its weights are neither trained nor saved here.

    Args:
        module: has encode and decode.
        low, span: ``(1, C, 1, 1)``; the module gets ``2 (x - low) / span - 1``. None, where it takes the data's own
            values.
        factor, offset: what its latents are multiplied with after `offset` is taken off, so that they are of unit
            variance.
    """

    low: Tensor | None
    span: Tensor | None

    def __init__(
        self,
        module: nn.Module,
        low: Tensor | None = None,
        span: Tensor | None = None,
        factor: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self._module = [module]  # in a list, so that it is neither submodule nor state
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", span, persistent=False)
        self.factor, self.offset = factor, offset

    @property
    def module(self) -> nn.Module:
        """What the user passed."""
        return self._module[0]

    def held(self) -> AbstractContextManager[object]:
        """Return the context in which the module is in eval mode and takes no gradients; then it is as it was."""
        return frozen(self, self.module, None)

    def encode(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to latents ``(N, c, h, w)``: of a posterior, the mode."""
        given = images
        if self.low is not None and self.span is not None:
            given = 2 * (images - self.low) / self.span - 1
        found = _latents(self.module.encode(self._to_module(given)))  # type: ignore[operator]
        return ((found - self.offset) * self.factor).to(images.device, images.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents ``(N, c, h, w)`` to images ``(N, C, H, W)``."""
        given = self._to_module(latents / self.factor + self.offset)
        found = _images(self.module.decode(given)).to(latents.device, latents.dtype)  # type: ignore[operator]
        return found if self.low is None or self.span is None else self.low + self.span * (found + 1) / 2

    def _to_module(self, values: Tensor) -> Tensor:
        state = next(iter(tensors_of(self.module)), values)
        return values.to(state.device, state.dtype if state.is_floating_point() else values.dtype)


def as_codec(module: Any, spec: Spec, normalization: Normalization | None = None) -> Codec:
    """Autoencoder as a codec for images of this shape ``(C, H, W)`` and range.

    A module gets images in the data's own values. diffusers' autoencoders get them in [-1, 1], as they were
    trained, and their latents are scaled by the ``scaling_factor`` and ``shift_factor`` of their configuration.

    Args:
        module: a codec, or any module with encode and decode.
        spec: shape and range of the data.
        normalization: what was done to images in [0, 1]; without it the data's smallest and largest value stand
            for black and white.

    Raises:
        ModelError: it has no encode and decode, they do not give latents and images of the right shape, or no
            gradient flows back through decode.

    >>> import torch
    >>> class Halved(torch.nn.Module):
    ...     def encode(self, images):
    ...         return torch.nn.functional.avg_pool2d(images, 2)
    ...
    ...     def decode(self, latents):
    ...         return torch.nn.functional.interpolate(latents, scale_factor=2)
    >>> codec = as_codec(Halved(), explainer.spec)
    >>> codec.encode(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 1, 4, 4])
    """
    check_methods(module)
    if not spec.is_image:
        raise ModelError(
            "codec: the inputs are no images, which is what an autoencoder of images takes",
            given=f"shape {spec.shape}",
            allowed="(C, H, W)",
            do="leave codec='none'",
        )
    codec = module if isinstance(module, Codec) else _adapted(module, spec, normalization)
    with codec.held():
        _check(codec, spec)
    return codec


def check_methods(module: Any) -> None:
    """Refuse what is no module with encode and decode.

    Raises:
        ModelError: it is none.
    """
    missing = [name for name in ("encode", "decode") if not callable(getattr(module, name, None))]
    if missing or not isinstance(module, nn.Module):
        raise ModelError(
            "codec: this is no autoencoder",
            given=f"{type(module).__name__}" + (f" without {' and '.join(missing)}" if missing else ", no module"),
            allowed=_ALLOWED,
            do="pass codec='auto', which trains one, or a module of your own with both methods",
        )


def _adapted(module: nn.Module, spec: Spec, normalization: Normalization | None) -> Autoencoder:
    if not _is_of_diffusers(module):
        # It is fed as it is.
        return Autoencoder(module)
    config: Any = getattr(module, "config", {})
    named = config if isinstance(config, Mapping) else vars(config)
    ranges = () if normalization is None else normalization.ranges(spec.shape[0])
    black, white = zip(*ranges, strict=True) if ranges else ((min(spec.minimum),), (max(spec.maximum),))
    low = torch.tensor(black).view(1, -1, 1, 1)
    return Autoencoder(
        module,
        low,
        torch.tensor(white).view(1, -1, 1, 1) - low,
        float(named.get("scaling_factor") or 1.0),
        float(named.get("shift_factor") or 0.0),
    )


def _is_of_diffusers(module: nn.Module) -> bool:
    return any(kind.__module__.split(".")[0] == "diffusers" for kind in type(module).__mro__)


def _latents(found: Any) -> Tensor:
    posterior = getattr(found, "latent_dist", None)
    if posterior is not None:
        return posterior.mode()
    found = getattr(found, "latents", found)
    return found[0] if isinstance(found, tuple | list) else found


def _images(found: Any) -> Tensor:
    if isinstance(found, Tensor):
        return found
    found = getattr(found, "sample", found)
    return found[0] if isinstance(found, tuple | list) else found


def _check(codec: Codec, spec: Spec) -> None:
    """Try it on one even image."""
    probe = spec.per_channel("mean").expand(1, *spec.shape)
    state = next(iter(codec.buffers()), None)
    probe = probe if state is None else probe.to(state.device)
    try:
        with torch.no_grad():
            latents = codec.encode(probe)
        if not isinstance(latents, Tensor) or latents.dim() != 4 or len(latents) != 1:
            raise _unlike("encode", latents, "latents (1, c, h, w)")
        asked = latents.detach().clone().requires_grad_()
        with torch.enable_grad():
            images = codec.decode(asked)
    except ModelError:
        raise
    except Exception as fault:
        raise ModelError(
            "codec: the autoencoder fails on an image of the data's shape",
            given=f"{spec.shape}; it says: {(str(fault) or type(fault).__name__).splitlines()[0]}",
            allowed=_ALLOWED,
            do="resize the data to what the autoencoder was trained on, or pass codec='auto'",
        ) from fault
    if not isinstance(images, Tensor) or images.shape != probe.shape:
        raise _unlike("decode", images, f"images (1, {', '.join(map(str, spec.shape))}), as they were encoded")
    if not images.requires_grad:
        raise ModelError(
            "codec: no gradient flows back through decode, and a lens on latents is fitted by it",
            given=f"{type(codec).__name__} whose decoding is cut off from its latents",
            do="leave out torch.no_grad() and .detach() in decode",
        )


def _unlike(method: str, found: Any, wanted: str) -> ModelError:
    shape = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    return ModelError(f"codec: {method} does not give {wanted}", given=shape, allowed=_ALLOWED)
