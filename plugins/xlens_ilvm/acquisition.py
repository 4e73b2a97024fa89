"""How much is to be learned from asking a person about an input: active learning over the read-out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xlens_ilvm.columns import GAUSSIAN, PLACES
from xlens_ilvm.readout import Readout

__all__ = ["DRAWS", "informativeness", "informativeness_of_draws"]

#: Of parameters, and of codes.
DRAWS = 50
#: Precision of the Gaussian prior around the fitted parameters, which a single label already outweighs.
_PRIOR = 0.1


@torch.no_grad()
def informativeness(
    readout: Readout,
    known: Tensor,
    targets: Tensor,
    codes: Tensor,
    strategy: str,
    generator: torch.Generator,
) -> Tensor:
    """Return how much is expected to be learned from the side information of each input, in nats ``(N,)``.

    Codes are exact, so what is uncertain is the read-out: its parameters have a Laplace posterior. With the mutual
    information of equation 10 as printed, under the prior p(z*), the first term is the same for every input; here
    it is that of label and parameters (BALD).

    Args:
        readout: p(s|z*).
        known: ``(m, d)`` codes of the rows with side information.
        targets: ``(m, C)`` what is known, NaN where not observed.
        codes: ``(N, d)`` of the inputs that might be asked about.
        strategy: ``"mutual_information"`` or ``"max_entropy"`` (of the predicted side information).
        generator: draws parameters.

    References:
        Houlsby, Huszar, Ghahramani, Lengyel (2011), Bayesian Active Learning for Classification and Preference
        Learning.
    """
    total = codes.new_zeros(len(codes))
    known, codes = readout.read(known), readout.read(codes)
    for c in range(readout.outputs):
        seen = ~targets[:, c].isnan()
        own, asked = known[seen, c], codes[:, c]
        if readout.readings[c] == GAUSSIAN:
            total += _of_a_number(readout, c, own, asked, strategy)
            continue
        posterior = _posterior(readout, c, own)
        noise = torch.randn(DRAWS, len(posterior), generator=generator, dtype=codes.dtype, device=codes.device)
        drawn = readout.parameters_of(c) + noise @ posterior.T
        logs = torch.stack([readout.log_probabilities(parameters, asked, c) for parameters in drawn])
        mean = torch.logsumexp(logs, 0) - math.log(DRAWS)
        whole = -(mean.exp() * mean).sum(1)
        expected = -(logs.exp() * logs).sum(2).mean(0)
        total += whole - expected if strategy == "mutual_information" else whole
    return total


@torch.no_grad()
def informativeness_of_draws(readout: Readout, draws: Tensor, strategy: str) -> Tensor:
    """Return H[E p(s|z*)] - E H[p(s|z*)] over z* ~ q(z*|z) for each input, in nats ``(N,)``.

    That is eq. 9 of the paper with the input's own posterior in both terms; the read-out's parameters are taken as
    they are. Of a number, whose mixture of Gaussians has no entropy in closed form, the Gaussian of equal variance
    stands for the mixture.

    Args:
        readout: p(s|z*).
        draws: ``(M, N, d)`` of z*.
        strategy: as for :func:`informativeness`.
    """
    values = readout.read(draws)
    total = draws.new_zeros(draws.shape[1])
    for c in range(readout.outputs):
        parameters = readout.parameters_of(c)
        if readout.readings[c] == GAUSSIAN:
            noise = readout.deviations[c].square()
            spread = (parameters[0] * values[:, :, c]).var(0, correction=0)
            whole = 0.5 * torch.log(2 * math.pi * math.e * (spread + noise))
            own = 0.5 * torch.log(2 * math.pi * math.e * noise)
        else:
            logs = torch.stack([readout.log_probabilities(parameters, one, c) for one in values[:, :, c]])
            mean = torch.logsumexp(logs, 0) - math.log(len(draws))
            whole = -(mean.exp() * mean).sum(1)
            own = -(logs.exp() * logs).sum(2).mean(0)
        total += whole - own if strategy == "mutual_information" else whole
    return total


def _posterior(readout: Readout, c: int, known: Tensor) -> Tensor:
    """Return a factor of the covariance of the parameters, from the Fisher information of the known rows."""
    parameters = readout.parameters_of(c)
    p = readout.log_probabilities(parameters, known, c).exp()
    if readout.readings[c] == PLACES:
        spread = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    else:
        spread = p.prod(1).view(-1, 1, 1)  # that of the one logit
    rows = torch.stack([known, torch.ones_like(known)], 1)
    information = torch.einsum("ma,mjk,mb->ajbk", rows, spread, rows).flatten(2).flatten(0, 1)
    information = information + _PRIOR * torch.eye(len(parameters)).to(information)
    # With R R^T the information, R^-T is a factor of its inverse.
    factor = torch.linalg.cholesky(information)
    return torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False).T


def _of_a_number(readout: Readout, c: int, known: Tensor, asked: Tensor, strategy: str) -> Tensor:
    """The same for a Gaussian read-out, whose posterior is that of a linear regression."""
    noise = float(readout.deviations[c].square())
    rows, points = (torch.stack([z, torch.ones_like(z)], 1) for z in (known, asked))
    precision = rows.T @ rows / noise + _PRIOR * torch.eye(2).to(rows)
    variance = (points @ torch.linalg.inv(precision) * points).sum(1)
    if strategy == "mutual_information":
        return 0.5 * torch.log1p(variance / noise)
    return 0.5 * torch.log(2 * math.pi * math.e * (variance + noise))
