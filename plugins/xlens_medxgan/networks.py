"""The networks that make up the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlens import Spec
from xlens.nn import ImageDecoder, ImageEncoder
from xlens.training import Processes
from xlens_medxgan.dense import DenseDecoder, DenseEncoder
from xlens_medxgan.evidence import Evidence

__all__ = ["Encoder", "Generator", "PrincipalComponents", "Prior"]


class Encoder(nn.Module):
    """Images to z1 and the kind of evidence.

    z1 begins as the image's whitened principal components, which stay, and what the network adds to them is
    learned; so z1 is standardised from the first step on.

    Args:
        spec: shape and range of the images.
        nuisance: width d1 of z1.
        block: width d2 of a block of z2.
        width: channels.
        dense: width of fully connected networks, in place of convolutions; None for convolutions.
    """

    components: Tensor
    centre: Tensor

    def __init__(self, spec: Spec, nuisance: int, block: int, width: int, dense: int | None = None) -> None:
        super().__init__()
        self.nuisance, self.block = nuisance, block
        self.trunk: ImageEncoder | DenseEncoder
        if dense is None:
            self.trunk = ImageEncoder(spec, nuisance + block, width)
        else:
            self.trunk = DenseEncoder(spec, nuisance + block, dense)
        with torch.no_grad():
            self.trunk.out.weight[:nuisance].mul_(0.1)
            self.trunk.out.bias.zero_()
        self.register_buffer("components", torch.zeros(math.prod(spec.shape), nuisance))
        self.register_buffer("centre", torch.zeros(math.prod(spec.shape)))

    @torch.no_grad()
    def set_components(self, basis: PrincipalComponents) -> None:
        """Take the components of the data."""
        self.components.copy_(basis.directions / basis.deviations)
        self.centre.copy_(basis.mean)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return z1 ``(N, d1)`` and kinds on the sphere ``(N, d2)``."""
        change, kind = self.trunk(inputs).split([self.nuisance, self.block], 1)
        z1 = (inputs.flatten(1) - self.centre) @ self.components + change
        return z1, nn.functional.normalize(kind, dim=1) * self.block**0.5


class Generator(nn.Module):
    """Codes to images in the data's range.

    Args:
        spec: shape and range of the images.
        evidence: the layout of z2.
        nuisance: width d1 of z1.
        width: channels.
        linear: whether z1 also reaches the image directly, through the data's principal components.
        dense: width of fully connected networks, in place of convolutions; None for convolutions.
    """

    low: Tensor
    high: Tensor
    span: Tensor
    centre: Tensor

    def __init__(
        self, spec: Spec, evidence: Evidence, nuisance: int, width: int, linear: bool, dense: int | None = None
    ) -> None:
        super().__init__()
        self._evidence = [evidence]  # shared with the lens, which owns it
        condition = evidence.condition_width
        self.shape = spec.shape
        self.trunk: ImageDecoder | DenseDecoder
        if dense is None:
            self.trunk = ImageDecoder(spec, nuisance, condition, width)
        else:
            self.trunk = DenseDecoder(spec, nuisance, condition, dense)
        low, high = spec.per_channel("minimum"), spec.per_channel("maximum")
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.register_buffer("span", spec.span(), persistent=False)
        size = math.prod(spec.shape)
        self.register_buffer("centre", spec.per_channel("mean").expand(1, *spec.shape).flatten().clone())
        self.components = nn.Parameter(torch.zeros(nuisance, size)) if linear else None

    @torch.no_grad()
    def set_components(self, basis: PrincipalComponents) -> None:
        """Take the mean, and where they are used the components, of the data."""
        self.centre.copy_(basis.mean)
        if self.components is not None:
            self.components.copy_((basis.directions * basis.deviations).T)

    def forward(self, z1: Tensor, blocks: Tensor) -> Tensor:
        """Return images ``(N, C, H, W)``."""
        return self.bound(self.unbounded(z1, blocks))

    def unbounded(self, z1: Tensor, blocks: Tensor) -> Tensor:
        """Return images that may leave the data's range."""
        direct = self.centre
        if self.components is not None:
            direct = direct + z1 @ self.components
        change = self.trunk(z1, self._evidence[0].condition(blocks))
        return direct.view(-1, *self.shape) + self.span * change

    def bound(self, images: Tensor) -> Tensor:
        """Clamp to the data's range; while training a fiftieth of the excess stays, for its gradient."""
        inside = torch.maximum(torch.minimum(images, self.high), self.low)
        return inside + 0.02 * (images - inside) if self.training else inside


@dataclass(frozen=True)
class PrincipalComponents:
    """Mean ``(P,)``, directions ``(P, d)`` and standard deviations ``(d,)`` of flattened images."""

    mean: Tensor
    directions: Tensor
    deviations: Tensor

    @classmethod
    def of(cls, images: Tensor, count: int) -> PrincipalComponents:
        """Return the leading components of images ``(n, C, H, W)``.

        Where there are fewer images or pixels than components, the others are zero.
        """
        flat = images.flatten(1)
        mean = flat.mean(0)
        rank = min(count, len(flat) - 1, flat.shape[1])
        _, singular, found = torch.pca_lowrank(flat - mean, q=rank, center=False, niter=3)
        directions = torch.zeros(flat.shape[1], count, device=flat.device)
        deviations = torch.ones(count, device=flat.device)
        directions[:, :rank] = found
        spread = singular / len(flat) ** 0.5
        # Components without variance would be blown up to noise.
        deviations[:rank] = spread.clamp_min(1e-3 * float(spread[0]) + 1e-12)
        return cls(mean, directions, deviations)


class Prior(nn.Module):
    """The Gaussian from which z1 is drawn; starts at N(0, I) and follows what the encoder gives.

    Args:
        width: d1.
    """

    mean: Tensor
    covariance: Tensor
    factor: Tensor
    seen: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("covariance", torch.eye(width))
        self.register_buffer("factor", torch.eye(width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def follow(self, codes: Tensor, together: Processes) -> None:
        """Move mean and covariance toward those of a batch.

        Args:
            codes: ``(N, d1)`` this process's share of it.
            together: every process exchanges its moments, so that all factor one covariance: the mean of
                their factors is the factor of none.
        """
        self.seen += 1
        rate = max(0.01, 1 / (float(self.seen) + 1))
        codes = codes.to(self.mean.dtype)
        # In full precision also where the training step is not: the covariance is factored.
        with torch.autocast(codes.device.type, enabled=False):
            total, count = together.add([codes.sum(0), torch.tensor(float(len(codes)))])
            self.mean.lerp_(total / count, rate)
            centred = codes - self.mean
            (scatter,) = together.add([centred.T @ centred])
            self.covariance.lerp_(scatter / count, rate)
            if int(self.seen) % 20 == 0:
                self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Factor the covariance anew, for drawing."""
        width = len(self.mean)
        ridge = 1e-3 * self.covariance.diagonal().mean() * torch.eye(width, device=self.mean.device)
        self.factor.copy_(torch.linalg.cholesky((self.covariance + ridge).double()))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``(n, d1)``."""
        noise = torch.randn(n, len(self.mean), generator=generator, device=self.mean.device)
        return noise @ self.factor.T + self.mean

    def whiten(self, z1: Tensor) -> Tensor:
        """Return z1 in units of the prior, so that it is N(0, I) under it, ``(N, d1)``."""
        return torch.linalg.solve_triangular(self.factor, (z1 - self.mean).T, upper=False).T
