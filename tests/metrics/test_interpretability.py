"""The interpretability metric, against scikit-learn and known answers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from xlens.errors import DataError, OptionError
from xlens.metrics import interpretability
from xlens.metrics.interpretability import mutual_information


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mutual_information_is_scikit_learns_over_the_same_bins():
    codes = normal(500, 3).double()
    classes = (codes[:, 1] > 0.3).long() + (codes[:, 0] > 1).long()
    found = mutual_information(codes, classes)
    for dim in range(3):
        edges = np.quantile(codes[:, dim].numpy(), np.linspace(0, 1, 17)[1:-1])
        binned = np.searchsorted(edges, codes[:, dim].numpy(), side="right")
        assert float(found[dim]) == pytest.approx(mutual_info_score(binned, classes.numpy()), abs=1e-12)


def test_two_gaussians_give_nearly_the_bayes_posterior():
    """With classes N(-1, 1) and N(1, 1) the posterior is a logistic function of the scalar, as Platt's is."""
    truth = torch.randint(0, 2, (6000,), generator=torch.Generator().manual_seed(1))
    codes = normal(6000, 2, seed=2)
    codes[:, 1] += 2.0 * truth - 1
    found = interpretability(
        codes[:3000], truth[:3000], test_codes=codes[3000:], test_side_info=truth[3000:], max_rows=3000
    )
    own = torch.sigmoid(2 * codes[3000:, 1] * (2 * truth[3000:] - 1)).double()
    assert found.dims.tolist() == [1]
    assert float(found.probability) == pytest.approx(float(own.mean()), abs=0.02)
    assert float(found.likelihood) == pytest.approx(float(own.log().mean().exp()), abs=0.01)
    assert float(found.accuracy) == pytest.approx(float((own > 0.5).double().mean()), abs=0.01)


def test_a_middle_class_is_read_off_one_dimension_too():
    classes = torch.arange(300) % 3
    codes = normal(300, 2) * 0.1
    codes[:, 0] += classes
    assert float(interpretability(codes, classes).accuracy) > 0.99


def test_measurements_are_binned_and_gaps_are_left_out():
    codes = normal(800, 3)
    table = torch.stack([codes[:, 2], (codes[:, 0] > 0).float()], 1)
    gaps = table.clone()
    gaps[::2, 0] = torch.nan
    gaps[400:, 1] = torch.nan
    found = interpretability(codes, gaps)
    assert found.dims.tolist() == [2, 0]
    assert (found.accuracy > 0.9).all()
    only = interpretability(codes[1::2], gaps[1::2, :1])
    assert float(only.likelihood) == pytest.approx(float(found.likelihood[0]), abs=1e-9)


def test_scored_on_other_rows_what_is_not_there_is_not_found():
    codes, noise = normal(300, 40), torch.randint(0, 2, (300,), generator=torch.Generator().manual_seed(3))
    fresh = torch.randint(0, 2, (300,), generator=torch.Generator().manual_seed(4))
    found = interpretability(codes, noise, test_codes=normal(300, 40, seed=5), test_side_info=fresh)
    assert float(found.likelihood) == pytest.approx(0.5, abs=0.04)


def test_a_value_never_seen_costs_dearly_and_stays_finite():
    classes = torch.arange(60) % 2
    codes = (classes + normal(60) * 0.01).unsqueeze(1)
    unseen = classes.clone()
    unseen[:6] = 5
    found = interpretability(codes, classes, test_codes=codes, test_side_info=unseen)
    assert float(found.accuracy) == pytest.approx(0.9)
    assert 0 < float(found.likelihood) < 0.4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({}, {"bins": 1, "seed": -1}), OptionError, "bins must be an int >= 2.*seed must be an int >= 0"),
        (({}, {"test_codes": torch.zeros(2, 2)}), OptionError, "go together"),
        (({"table": torch.zeros(9)}, {}), DataError, "do not fit"),
        (({"table": torch.zeros(10)}, {}), DataError, "attribute 0 cannot be learned"),
        (({"table": torch.full((10,), torch.inf)}, {}), DataError, "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, error, message):
    given, options = arguments
    with pytest.raises(error, match=message):
        interpretability(normal(10, 2), given.get("table", torch.arange(10) % 2), **options)
