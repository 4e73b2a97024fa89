"""What is left of images after an autoencoder, asked of the classifier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import decision_margins
from xlens.codec.contract import Codec

__all__ = ["CodecFidelity", "codec_fidelity"]

#: Images at once.
_BATCH = 16


@dataclass(frozen=True)
class CodecFidelity:
    """How much of images an autoencoder keeps: for the classifier, and pixel by pixel.

    Args:
        agreement: share of images of which the classifier says the same after it.
        score_gap: mean change of the margin of its decision, relative to the mean margin.
        psnr: peak signal-to-noise ratio in decibels, the mean over images.
        images: how many were asked about.
    """

    agreement: float
    score_gap: float
    psnr: float
    images: int

    def __str__(self) -> str:
        """Return the figures in words."""
        return (
            f"the classifier agrees on {self.agreement:.3f} of {self.images} reconstructions (margins change by "
            f"{self.score_gap:.2f} of their mean), PSNR {self.psnr:.1f} dB"
        )

    def holds(self, agreement: float, psnr: float) -> bool:
        """Whether both figures are reached."""
        return self.agreement >= agreement and self.psnr >= psnr


@torch.no_grad()
def codec_fidelity(codec: Codec, classifier: Classifier, images: Iterable[Tensor], span: Tensor) -> CodecFidelity:
    """Fidelity of an autoencoder on images ``(N, C, H, W)``, which it should not have been trained on.

    Args:
        codec: the autoencoder, in eval mode.
        classifier: the frozen classifier.
        images: batches of images on the codec's device.
        span: range of each channel, to broadcast.
    """
    same, gaps, margins, ratios = [], [], [], []
    for batch in images:
        for part in batch.split(_BATCH):
            with codec.held():
                again = codec(part)
            before, after = classifier(part), classifier(again)
            margin, margin_after = decision_margins(before, after)
            same.append(before.argmax(1) == after.argmax(1))
            gaps.append((margin_after - margin).abs())
            margins.append(margin)
            error = ((again - part) / span.to(part)).square().flatten(1).mean(1)
            ratios.append(-10 * error.clamp_min(1e-12).log10())
    share = torch.cat(gaps).mean() / torch.cat(margins).mean().clamp_min(1e-12)
    agreed = torch.cat(same)
    return CodecFidelity(float(agreed.float().mean()), float(share), float(torch.cat(ratios).mean()), len(agreed))
