"""The two generative models: the supervised VAE, and M2, its baseline, from the same networks.

Both make codes of a class part, which alone decides the class, followed by a nuisance part.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlens import Spec
from xlens_svae.networks import ClassHead, Decoder, Posterior, Trunk
from xlens_svae.terms import Gaussian, cross_entropy

__all__ = ["Model", "SemiVAE", "SupervisedVAE"]


class SupervisedVAE(nn.Module):
    """q(z|x,y) to learn by, q(z|x) to predict by, p(y|z1), and p(x|z1,z2).

    Args:
        spec: shape, statistics and classes.
        evidence: width of z1.
        nuisance: width of z2.
        width: width of the hidden layers.
        convolutional: whether encoder and decoder have convolutions.
    """

    def __init__(self, spec: Spec, *, evidence: int, nuisance: int, width: int, convolutional: bool) -> None:
        super().__init__()
        self.evidence, self.nuisance = evidence, nuisance
        code = evidence + nuisance
        self.trunk = Trunk(spec, width, convolutional)
        self.predictive = Posterior(self.trunk.out_features, 0, code)
        self.informed = Posterior(self.trunk.out_features, spec.num_classes, code)
        self.head = ClassHead(evidence, spec.num_classes)
        self.decoder = Decoder(spec, evidence, nuisance, width, convolutional)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the mean of q(z|x), ``(N, d)``."""
        return self.predictive(self.trunk(inputs)).mean

    def draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return codes ``(M, N, d)`` from q(z|x), for noise ``(M, d)``, which all inputs share."""
        return self.predictive(self.trunk(inputs)).draw(noise.unsqueeze(1))

    def class_logits(self, codes: Tensor) -> Tensor:
        """Return the logits of p(y|z1), ``(N, K)``."""
        return self.head(codes[:, : self.evidence])

    def admissible(self, evidence: Tensor) -> Tensor:
        """Return `evidence`: all of space is z1's."""
        return evidence

    def divergence(self, inputs: Tensor, variants: Tensor, part: str) -> Tensor:
        """Return KL[q(z_k|x) || q(z_k|x~)] with k = 1 for ``"class"`` and 2 for ``"nuisance"`` (paper, eq. 9)."""
        dims = slice(0, self.evidence) if part == "class" else slice(self.evidence, None)
        one, other = (self.predictive(self.trunk(x)).part(dims) for x in (inputs, variants))
        return one.kl(other)


class SemiVAE(nn.Module):
    """M2: the class is a latent variable beside z, and both make x.

    The class part of a code holds the probabilities q(y|x).

    Args:
        spec: shape, statistics and classes.
        nuisance: width of z.
        width: width of the hidden layers.
        convolutional: whether encoder and decoder have convolutions.

    References:
        Kingma et al. (2014), Semi-Supervised Learning with Deep Generative Models.
    """

    def __init__(self, spec: Spec, *, nuisance: int, width: int, convolutional: bool) -> None:
        super().__init__()
        self.evidence, self.nuisance = spec.num_classes, nuisance
        self.trunk = Trunk(spec, width, convolutional)
        self.informed = Posterior(self.trunk.out_features, spec.num_classes, nuisance)
        self.head = ClassHead(self.trunk.out_features, spec.num_classes)
        self.decoder = Decoder(spec, self.evidence, nuisance, width, convolutional)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return q(y|x) and the mean of q(z|x,y) at it, ``(N, K + d)``."""
        hidden = self.trunk(inputs)
        classes = self.head(hidden).softmax(1)
        return torch.cat([classes, self.informed(hidden, classes).mean], 1)

    def draws(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return q(y|x) and draws from q(z|x,y) at it, ``(M, N, K + d)``, for noise ``(M, K + d)``."""
        hidden = self.trunk(inputs)
        classes = self.head(hidden).softmax(1)
        nuisance = self.informed(hidden, classes).draw(noise[:, self.evidence :].unsqueeze(1))
        return torch.cat([classes.expand(len(noise), -1, -1), nuisance], 2)

    def class_logits(self, codes: Tensor) -> Tensor:
        """Return the logarithm of the class part, ``(N, K)``."""
        return codes[:, : self.evidence].clamp_min(1e-12).log()

    def admissible(self, evidence: Tensor) -> Tensor:
        """Return probabilities: what is below zero is cut off, and the rest sums to 1."""
        return F.normalize(evidence.clamp_min(1e-12), p=1, dim=-1)

    def divergence(self, inputs: Tensor, variants: Tensor, part: str) -> Tensor:
        """Return KL[q(y|x) || q(y|x~)] for ``"class"``, KL[q(z|x,y) || q(z|x~,y~)] for ``"nuisance"``."""
        hidden = [self.trunk(x) for x in (inputs, variants)]
        logits = [self.head(values) for values in hidden]
        if part == "class":
            classes = logits[0].softmax(1)
            return cross_entropy(classes, logits[1]) - cross_entropy(classes, logits[0])
        one, other = (self._posterior(*pair) for pair in zip(hidden, logits, strict=True))
        return one.kl(other)

    def _posterior(self, hidden: Tensor, logits: Tensor) -> Gaussian:
        return self.informed(hidden, logits.softmax(1))


#: Either model. Both have `evidence` and `nuisance`, the widths of the two parts, and a `decoder`; they `encode`,
#: take `draws`, read `class_logits`, and say what is `admissible` as a class part and how far two inputs are apart.
Model: TypeAlias = SupervisedVAE | SemiVAE
