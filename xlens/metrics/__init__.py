"""Figures by which an explanation is judged."""

from xlens.metrics.fidelity import monotone_share, ssim
from xlens.metrics.leakage import leakage

__all__ = ["leakage", "monotone_share", "ssim"]
