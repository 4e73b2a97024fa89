"""Figures of counterfactuals, of codes and of the classifier, against independent references and known answers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
import toys
from torch import nn

import xlens
from xlens import metrics
from xlens.errors import DataError, ModelError, OptionError

ONE, ZERO = torch.tensor([1, 1, 1, 1]), torch.tensor([0, 0, 0, 0])


def sign(x):
    """Class 1 where the sum is positive."""
    total = x.flatten(1).sum(1)
    return torch.stack([-total, total], 1)


def test_oracle_validity_counts_what_the_judge_saw_before():
    before = torch.tensor([[2.0], [1.0], [-1.0], [3.0]])
    after = torch.tensor([[-2.0], [1.0], [-1.0], [-3.0]])
    found = metrics.oracle_validity(sign, before, after, ONE, ZERO)
    assert found.counted.tolist() == [True, True, False, True]
    assert found.share == pytest.approx(2 / 3)
    assert found.unedited_share == pytest.approx(1 / 4)
    assert metrics.validity(sign, after, ZERO).tolist() == [True, False, True, True]
    with pytest.raises(DataError, match="the target in none"):
        _ = metrics.oracle_validity(sign, -before.abs(), after, ONE, ZERO).share


def test_a_single_logit_is_not_taken_for_one_class():
    """The largest of one column is always the first, so that every figure would be 0 or 1, whatever the model."""
    single, x = nn.Linear(3, 1), torch.randn(4, 3)
    for ask in (
        lambda: metrics.validity(single, x, ONE),
        lambda: metrics.oracle_validity(single, x, x, ONE, ZERO),
        lambda: metrics.deletion(single, x, x, ONE, -x),
        lambda: metrics.intensity_drop(single, x, x, ONE),
        lambda: metrics.cout(single, x, -x, ONE, ZERO),
        lambda: metrics.causal_influence(single, lambda z: z, x, [[0]]),
        lambda: metrics.validity(lambda x: x.sum(1), x, ONE),
    ):
        with pytest.raises(ModelError, match=r"xlens\.Classifier"):
            ask()
    two = xlens.Classifier(single)
    assert torch.equal(metrics.validity(two, x, ONE), single(x)[:, 0] > 0)


def test_proximity_and_sparsity():
    before = torch.zeros(1, 2, 2, 2)
    after = before.clone()
    after[0, 0, 0, 0], after[0, 1, 0, 0], after[0, 1, 1, 1] = 0.3, -0.4, 0.003
    assert float(metrics.proximity(before, after)) == pytest.approx(0.703)
    assert float(metrics.proximity(before, after, norm=2)) == pytest.approx(math.sqrt(0.25 + 9e-6))
    assert metrics.sparsity(before, after, 1.0).tolist() == [0.25]  # .003 is less than 1/255
    assert metrics.sparsity(before, after, 0.5).tolist() == [0.5]
    assert metrics.sparsity(before.flatten(1), after.flatten(1), 1.0).tolist() == [0.25]
    with pytest.raises(OptionError, match="norm"):
        metrics.proximity(before, after, norm=3)
    with pytest.raises(DataError, match="differ in shape"):
        metrics.sparsity(before, after[:, :1], 1.0)


def test_cout_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, generator=generator)
    before, after = torch.randn(2, 4, 2, 2, 2, generator=generator)
    classify = lambda x: x.flatten(1) @ weight.T  # noqa: E731
    target, contrast = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    found = metrics.cout(classify, before, after, target, contrast, points=4)
    for i in range(4):
        size = (after[i] - before[i]).abs().sum(0).flatten()
        image, curve = before[i].clone(), []
        for step in range(5):
            p = torch.softmax(classify(image[None])[0], 0)
            curve.append(float(p[contrast[i]] - p[target[i]]))
            if step < 4:
                pixel = int(size.argsort(descending=True)[step])
                image[:, pixel // 2, pixel % 2] = after[i][:, pixel // 2, pixel % 2]
        assert found[i] == pytest.approx(sum((a + b) / 2 for a, b in pairwise(curve)) / 4, abs=1e-5)
    assert (metrics.cout(classify, before, before, target, contrast).abs() <= 1).all()


def test_frechet_distance_is_scipys():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(300, 5)) @ generator.normal(size=(5, 5))
    b = generator.normal(size=(200, 5)) @ generator.normal(size=(5, 5)) + 0.5
    first, second = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    found = metrics.frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(expected, rel=1e-8)
    assert metrics.frechet_distance(torch.from_numpy(a), torch.from_numpy(a)) == pytest.approx(0, abs=1e-8)
    assert metrics.frechet_distance(torch.ones(4, 1), torch.zeros(3, 1)) == pytest.approx(1)
    with pytest.raises(DataError):
        metrics.frechet_distance(torch.ones(4, 2), torch.ones(4, 3))


def test_weights_of_frechet_are_rows_that_are_there_more_often():
    a, b = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0)).double()
    times = torch.arange(300) % 3 + 1
    # Thirty times over, because dividing by n - 1 does not see that rows repeat.
    expected = metrics.frechet_distance(a.repeat_interleave(30 * times, 0), b)
    assert metrics.frechet_distance(a, b, weights=times.float()) == pytest.approx(expected, rel=0.02)
    assert abs(metrics.frechet_distance(a, b) - expected) > 0.1 * expected
    assert metrics.frechet_distance(a, b, weights=torch.ones(300)) == pytest.approx(metrics.frechet_distance(a, b))
    for wrong in (torch.ones(299), torch.zeros(300), -times):
        with pytest.raises(DataError, match="weights do not fit"):
            metrics.frechet_distance(a, b, weights=wrong)


def test_split_frechet_keeps_an_input_from_its_own_original():
    rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    nothing_changed = metrics.split_frechet_distance(rows, rows)
    fresh = torch.randn(200, 4, generator=torch.Generator().manual_seed(2))
    # Unedited inputs are no nearer than fresh ones are; without the split they would be at exactly 0.
    assert nothing_changed == pytest.approx(metrics.frechet_distance(rows[:200], fresh), rel=2)
    assert nothing_changed > 0.005
    assert metrics.split_frechet_distance(rows, rows + 1) > 3.5
    assert metrics.split_frechet_distance(rows, rows, seed=1) != nothing_changed
    with pytest.raises(DataError, match="one size"):
        metrics.split_frechet_distance(rows, rows[:10])


def slow_information(a, b):
    """Mutual information of two columns of classes, in nats, from counts."""
    total = 0.0
    for x in set(a):
        for y in set(b):
            joint = np.mean((a == x) & (b == y))
            if joint:
                total += joint * math.log(joint / (np.mean(a == x) * np.mean(b == y)))
    return total


def binned(column):
    """Twenty bins of equal width, value by value."""
    low, high = column.min(), column.max()
    return np.array([min(19, int((value - low) / (high - low) * 20)) for value in column])


def codes_and_factors(n=300):
    generator = np.random.default_rng(1)
    factors = np.stack([generator.integers(0, 3, n), generator.uniform(-1, 1, n)], 1)
    noise = generator.normal(size=(n, 4))
    codes = 0.3 * noise
    codes[:, 0] += factors[:, 0]
    codes[:, 1] += 2 * factors[:, 1]
    codes[:, 2] += factors[:, 1] + 0.5 * factors[:, 0]
    return codes, factors


def test_mig_against_counting():
    codes, factors = codes_and_factors()
    gaps = []
    for j, known in enumerate((factors[:, 0], binned(factors[:, 1]))):
        told = sorted(slow_information(known, binned(codes[:, i])) for i in range(4))
        gaps.append((told[-1] - told[-2]) / slow_information(known, known))
        assert gaps[j] > 0.02
    found = metrics.mutual_information_gap(torch.from_numpy(codes), torch.from_numpy(factors))
    assert found == pytest.approx(np.mean(gaps), abs=1e-3)


def test_sap_of_numbers_is_a_gap_of_squared_correlations():
    codes, factors = codes_and_factors()
    scores = sorted(scipy.stats.pearsonr(codes[:, i], factors[:, 1]).statistic ** 2 for i in range(4))
    found = metrics.separated_attribute_predictability(torch.from_numpy(codes), torch.from_numpy(factors[:, 1:]))
    assert found == pytest.approx(scores[-1] - scores[-2], abs=1e-9)
    # A class that one dimension holds and no other: 1 against chance.
    known = (factors[:, :1] > 0).astype(float)
    apart = np.concatenate([3 * known, codes[:, 3:]], 1)
    assert metrics.separated_attribute_predictability(
        torch.from_numpy(apart), torch.from_numpy(known)
    ) == pytest.approx(0.5, abs=0.12)


def test_dci_from_its_importance_and_at_its_extremes():
    codes, factors = (torch.from_numpy(values) for values in codes_and_factors())
    found = metrics.dci(codes, factors)
    table = found.importance.numpy()
    weights = table.sum(1) / table.sum()
    told = [1 - scipy.stats.entropy(row, base=2) for row in table]
    assert found.disentanglement == pytest.approx(float((weights * told).sum()), abs=1e-9)
    whole = [1 - scipy.stats.entropy(column, base=4) for column in table.T]
    assert found.completeness == pytest.approx(np.mean(whole), abs=1e-9)
    assert found.informativeness > 0.85
    aligned = metrics.dci(factors.double(), factors)
    assert min(aligned.disentanglement, aligned.completeness, aligned.informativeness) > 0.97
    rotation = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()
    unit = (factors - factors.mean(0)) / factors.std(0)
    assert metrics.dci(unit @ rotation, factors).disentanglement < 0.35
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    assert metrics.dci(noise, factors).informativeness < 0.3


def test_codes_that_know_nothing_are_at_the_bottom():
    codes, factors = (torch.from_numpy(values) for values in codes_and_factors())
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    aligned = torch.cat([factors, noise[:, :1].double()], 1)
    for figure in (metrics.mutual_information_gap, metrics.separated_attribute_predictability):
        assert figure(noise, factors) < 0.1 < figure(codes, factors) < figure(aligned, factors)


def test_rows_that_a_factor_says_nothing_of_do_not_count_for_it():
    """As of planted causes, whose place is NaN where there is none."""
    codes, factors = (torch.from_numpy(values) for values in codes_and_factors())
    part = factors.clone()
    part[::3, 1] = math.nan
    kept = ~part[:, 1].isnan()
    for figure in (
        metrics.mutual_information_gap,
        metrics.separated_attribute_predictability,
        lambda z, s: metrics.dci(z, s).informativeness,
    ):
        apart = (figure(codes, factors[:, :1]) + figure(codes[kept], factors[kept, 1:])) / 2
        assert figure(codes, part) == pytest.approx(apart, abs=1e-9)
    assert metrics.dci(codes, part).importance.shape == (4, 2)


@pytest.mark.parametrize("values", [[0.5, 1.5, 2.25], [0.1, 0.2, 0.3], [-1e-9, 0.0, 1e300]])
def test_classes_may_have_any_values(values):
    """As of sizes and angles of which data hold a few."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (120, 2), generator=generator)
    codes = classes.float() @ torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.5, 1.0]])
    codes += 0.1 * torch.randn(120, 3, generator=generator)
    factors = torch.tensor(values, dtype=torch.float64)[classes]
    # NaN where a factor says nothing, too.
    factors[::7, 0] = math.nan
    numbered = torch.where(factors.isnan(), math.nan, classes.double())
    for figure in (
        metrics.mutual_information_gap,
        metrics.separated_attribute_predictability,
        lambda z, s: metrics.dci(z, s).importance.tolist() + [metrics.dci(z, s).informativeness],
    ):
        assert figure(codes, factors) == figure(codes, numbered)


def test_latent_figures_refuse_what_does_not_fit():
    codes, factors = torch.rand(20, 3), torch.rand(20, 2)
    for figure in (metrics.mutual_information_gap, metrics.separated_attribute_predictability, metrics.dci):
        for wrong in ((codes[:10], factors), (codes[:, :1], factors), (codes * math.nan, factors)):
            with pytest.raises(DataError):
                figure(*wrong)
        with pytest.raises(DataError, match="constant"):
            figure(codes, torch.ones(20, 1))
        known = (torch.arange(20) < 5)[:, None] | torch.tensor([True, False])
        with pytest.raises(DataError, match="factor 1 is known of 5 rows"):
            figure(codes, torch.where(known, factors, math.nan))
        with pytest.raises(DataError, match="factor 0 is not finite"):
            figure(codes, factors / 0)


def test_causal_influence_against_its_definition():
    """A classifier of two binary codes, where every expectation is a sum of four terms."""
    table = torch.tensor([[0.1, 0.6], [0.7, 0.9]])  # p(y = 1) by the two bits

    def classify(x):
        p = table[x[:, 0].long(), x[:, 1].long()]
        return torch.stack([(1 - p).log(), p.log()], 1)

    codes = torch.tensor([[0, 0, 5], [0, 1, 3], [1, 0, 4], [1, 1, 7]]).float().repeat(50, 1)
    found = metrics.causal_influence(classify, lambda z: z, codes, [[0], [1], [2]], values=400, others=100)
    for i, given in enumerate((table.mean(1), table.mean(0))):
        overall = float(table.mean())
        expected = np.mean([scipy.stats.entropy([1 - p, p], [1 - overall, overall]) for p in given.tolist()])
        assert found[i] == pytest.approx(expected, rel=0.1)
    assert found[2] < 1e-9 < 0.01 < found[1] < found[0]
    with pytest.raises(DataError, match="no such part"):
        metrics.causal_influence(classify, lambda z: z, codes, [[3]])
    with pytest.raises(OptionError):
        metrics.causal_influence(classify, lambda z: z, codes, [[0]], values=0)


def test_a_part_that_f_does_not_listen_to_has_no_influence_however_few_are_drawn():
    codes = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    classes = lambda x: 100 * nn.functional.one_hot((5 * x[:, 0].sigmoid() * 2).long(), 10).float()  # noqa: E731
    found = metrics.causal_influence(classes, lambda z: z, codes, [[0], [1], [2]], values=16, others=8)
    assert found[0] > 1
    assert found[1:].max() < 1e-9
    assert metrics.causal_influence(classes, lambda z: z, codes, []).shape == (0,)


def test_restarts():
    codes = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.stack([image, image, 1 - image])
    cosine, alike = metrics.restart_stability(codes, images, 1.0)
    assert float(cosine) == pytest.approx(1 / 3)
    assert float(alike) == pytest.approx((1 + 2 * float(metrics.ssim(image, 1 - image, 1.0))) / 3, abs=1e-5)
    with pytest.raises(DataError):
        metrics.restart_stability(codes[:1], images[:1], 1.0)


def test_shuffled_weights_know_nothing_and_leave_the_model():
    model = toys.trained_cnn()
    kept = {name: values.clone() for name, values in model.state_dict().items()}
    other = metrics.shuffled_weights(model, seed=1)
    inputs, labels = toys.pictures(200, seed=9)
    with torch.no_grad():
        right = (other.eval()(inputs).argmax(1) == labels).float().mean()
        assert (model.eval()(inputs).argmax(1) == labels).float().mean() > 0.95 > 0.7 > right
    for name, values in model.state_dict().items():
        assert torch.equal(values, kept[name])
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
    first, again = metrics.shuffled_weights(nn.Linear(9, 9)), metrics.shuffled_weights(nn.Linear(9, 9), seed=2)
    assert first.weight.shape == again.weight.shape
