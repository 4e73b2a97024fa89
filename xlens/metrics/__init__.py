"""Figures by which an explanation is judged."""

from xlens.metrics.adversarial import Attack, reconstruction_attack
from xlens.metrics.fidelity import monotone_share, ssim
from xlens.metrics.interpretability import Interpretability, interpretability
from xlens.metrics.leakage import leakage
from xlens.metrics.two_sample import TwoSampleTest, mean_embedding_statistic, mean_embedding_test

__all__ = [
    "Attack",
    "Interpretability",
    "TwoSampleTest",
    "interpretability",
    "leakage",
    "mean_embedding_statistic",
    "mean_embedding_test",
    "monotone_share",
    "reconstruction_attack",
    "ssim",
]
