"""Figures by which an explanation is judged."""

from xlens.metrics.fidelity import monotone_share, ssim

__all__ = ["monotone_share", "ssim"]
