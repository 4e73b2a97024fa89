"""Figures by which an explanation is judged."""

from xlens.metrics.adversarial import Attack, reconstruction_attack
from xlens.metrics.counterfactual import OracleValidity, cout, oracle_validity, proximity, sparsity, validity
from xlens.metrics.disentanglement import DCI, dci, mutual_information_gap, separated_attribute_predictability
from xlens.metrics.fidelity import monotone_share, ssim
from xlens.metrics.frechet import frechet_distance, split_frechet_distance
from xlens.metrics.influence import causal_influence
from xlens.metrics.interpretability import Interpretability, interpretability
from xlens.metrics.lattice import lattice_energy
from xlens.metrics.leakage import leakage
from xlens.metrics.localisation import mask_iou, pointing_game, relevance_mass, relevance_rank, sparseness
from xlens.metrics.perturbation import deletion, diff_id, insertion, intensity_drop, transition
from xlens.metrics.stability import rank_correlation, restart_stability, shuffled_weights
from xlens.metrics.two_sample import TwoSampleTest, mean_embedding_statistic, mean_embedding_test

__all__ = [
    "DCI",
    "Attack",
    "Interpretability",
    "OracleValidity",
    "TwoSampleTest",
    "causal_influence",
    "cout",
    "dci",
    "deletion",
    "diff_id",
    "frechet_distance",
    "insertion",
    "intensity_drop",
    "interpretability",
    "lattice_energy",
    "leakage",
    "mask_iou",
    "mean_embedding_statistic",
    "mean_embedding_test",
    "monotone_share",
    "mutual_information_gap",
    "oracle_validity",
    "pointing_game",
    "proximity",
    "rank_correlation",
    "reconstruction_attack",
    "relevance_mass",
    "relevance_rank",
    "restart_stability",
    "separated_attribute_predictability",
    "shuffled_weights",
    "sparseness",
    "sparsity",
    "split_frechet_distance",
    "ssim",
    "transition",
    "validity",
]
