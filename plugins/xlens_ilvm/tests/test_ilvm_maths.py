"""The parts of ILVM against autograd, scikit-learn and known answers."""

import math

import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Bernoulli, Categorical, MultivariateNormal, Normal
from xlens_ilvm.acquisition import informativeness
from xlens_ilvm.columns import Column, columns_of, targets_of
from xlens_ilvm.flows import make_flow
from xlens_ilvm.memory import Bank
from xlens_ilvm.models import AmortisedModel, ExactModel
from xlens_ilvm.named import centres_of
from xlens_ilvm.readout import Readout
from xlens_ilvm.space import Space

from xlens.errors import DataError, OptionError
from xlens.nn import spread_over_classes

NAN = float("nan")
FLOWS = [("planar", 16), ("planar", 32), ("coupling", 2), ("spline", 3), ("linear", 1)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def strong(name, layers, width=9):
    """Return a flow whose weights are far from those that it begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = make_flow(name, width, layers, 16)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_((0.6 if name == "planar" else 0.15) * torch.randn_like(parameter))
    return flow


@pytest.mark.parametrize(("name", "layers"), FLOWS)
def test_log_determinants_are_those_of_the_jacobian(name, layers):
    flow, points = strong(name, layers), normal(6, 9)
    jacobians = _jacobians(flow, points)
    expected = torch.linalg.slogdet(jacobians).logabsdet
    assert (expected.abs() > 0.05).any()
    torch.testing.assert_close(flow(points)[1], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("name", "layers"), FLOWS)
def test_the_way_back_and_its_derivative_are_inverse(name, layers):
    flow, points = strong(name, layers), 2 * normal(6, 9)
    images = flow(points)[0].detach()
    torch.testing.assert_close(flow.inverse(images), points, atol=1e-8, rtol=0)
    back = _jacobians(flow.inverse, images)
    there = _jacobians(lambda z: flow(z)[0], points)
    torch.testing.assert_close(back @ there, torch.eye(9).double().expand(6, 9, 9), atol=1e-8, rtol=0)


def _jacobians(function, points):
    whole = function if not isinstance(function, torch.nn.Module) else lambda z: function(z)[0]
    rows = [torch.autograd.functional.jacobian(lambda z: whole(z[None])[0], point) for point in points]
    return torch.stack(rows)


def test_a_planar_layer_near_folding_is_still_inverted():
    flow = strong("planar", 32)
    with torch.no_grad():
        flow.u.copy_(-8 * flow.w)  # uncorrected, k is far below -1
    points = 3 * normal(64, 9)
    torch.testing.assert_close(flow.inverse(flow(points)[0]), points, atol=1e-6, rtol=0)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(("name", "layers"), FLOWS)
def test_narrow_codes_work(name, layers, width):
    flow, points = strong(name, layers, width), normal(4, width)
    torch.testing.assert_close(flow.inverse(flow(points)[0]), points, atol=1e-8, rtol=0)


@pytest.mark.parametrize("most", [4, 64])
def test_the_space_loses_nothing_and_is_standardised(most):
    space = Space((2, 5), most)
    activations = normal(300, 2, 5) @ normal(5, 5, seed=1) + 3
    activations[:, 0, 0] = 7.0  # a dead unit
    space.settle(activations)
    y, rest = space(activations)
    assert y.shape == (300, min(most, 10))
    assert rest.shape[1] == (10 if most == 4 else 0)
    torch.testing.assert_close(space.inverse(y, rest), activations, atol=1e-10, rtol=0)
    torch.testing.assert_close(y.mean(0), torch.zeros(y.shape[1]).double(), atol=1e-9, rtol=0)
    spread = y.std(0, correction=0)
    assert ((spread - 1).abs() < 1e-8).sum() >= min(most, 9)
    if most == 4:
        kept = PCA(4).fit(activations.flatten(1).numpy()).explained_variance_.sum()
        assert float((y * space.scale).var(0).sum()) == pytest.approx(kept, rel=1e-6)


def test_columns_are_told_apart():
    table = torch.tensor([[0.0, 3.0, 1.5, 0.0], [1.0, 5.0, 2.5, 1.0], [NAN, 9.0, NAN, 2.0]])
    found = columns_of(table, ("auto", "auto", "auto", "ordinal"))
    assert [column.kind for column in found] == ["binary", "classes", "measured", "ordinal"]
    assert [column.width for column in found] == [1, 3, 1, 1]
    targets = targets_of(table, found)
    assert targets.shape == (3, 6)
    assert targets[:, 1:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert targets[2].isnan().tolist() == [True, False, False, False, True, False]
    assert targets[:2, 4].tolist() == [-1, 1]
    unseen = columns_of(torch.full((3, 2), NAN), ("binary", "classes:4"))
    assert [column.levels for column in unseen] == [(0, 1), (0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("table", "kinds", "error", "message"),
    [
        ([[1.0], [1.0]], (), DataError, "column 0 cannot be learned"),
        ([[NAN], [NAN]], (), DataError, "kinds=\\('binary'"),
        ([[1.0], [2.0]], ("clases",), OptionError, "'clases'"),
        ([[1.0], [2.0]], ("classes:x",), OptionError, "classes:5"),
        ([[1.0], [2.0]], ("binary", "auto"), OptionError, "2 kinds"),
        ([[1.0], [2.0], [3.0]], ("binary",), DataError, "not binary"),
        ([[1.0], [math.inf]], (), DataError, "not finite"),
    ],
)
def test_columns_that_cannot_be_are_refused(table, kinds, error, message):
    with pytest.raises(error, match=message):
        columns_of(torch.tensor(table), kinds)


def test_a_value_that_a_column_does_not_know_is_refused():
    with pytest.raises(DataError, match="column 0 has a value"):
        targets_of(torch.tensor([[7.0]]), [Column("classes", (0.0, 1.0, 2.0))])


def test_values_of_a_column_keep_their_precision_and_are_known_again_in_single():
    tenths, dates = Column("ordinal", (0.1, 0.2, 0.7)), Column("ordinal", (20231105.0, 20231106.0))
    again = Readout()
    again.load_state_dict(Readout((tenths, dates)).state_dict())
    assert again.columns == (tenths, dates)
    table = torch.tensor([[0.7, 20231106.0], [NAN, 20231105.0]], dtype=torch.float64)
    assert targets_of(table, again.columns)[:, 1].tolist() == [1, 0]
    assert targets_of(table[:, :1].float(), (tenths,))[0].item() == 2
    rounded = Column("ordinal", tuple(torch.tensor(tenths.levels).double().tolist()))
    assert targets_of(table[:, :1], (rounded,))[0].item() == 2
    with pytest.raises(DataError, match="Given: 20231108. Allowed: 20231105, 20231106.*classes:5"):
        targets_of(torch.tensor([[20231108.0]], dtype=torch.float64), (dates,))


def readout(*columns):
    found = Readout(columns)
    with torch.no_grad():
        for index, parameter in enumerate(found.parameters()):
            parameter.add_(0.3 * normal(*parameter.shape, seed=index))
    return found


def test_likelihoods_are_those_of_torch_distributions():
    pair = (0.0, 1.0)
    found = readout(Column("binary", pair), Column("measured", pair), Column("ordinal", (1.0, 2.0, 5.0)))
    codes = normal(5, 4)
    rows = [[1.0, 0.3, 2.0], [0.0, -1.0, 0.0], [NAN, 2.0, 1.0], [1.0, NAN, NAN], [0, 0, 0]]
    targets = torch.tensor(rows).double()
    logs = found.log_likelihood(codes, targets)
    linear = found.slope * codes[:, :3] + found.bias
    torch.testing.assert_close(logs[0, 0], Bernoulli(logits=linear[0, 0]).log_prob(targets[0, 0]))
    own = Normal(linear[:, 1], found.noise[1].exp()).log_prob(targets[:, 1].nan_to_num())
    torch.testing.assert_close(logs[:3, 1], own[:3])
    slopes, offsets = found.parameters_of(2).chunk(2)
    assert (slopes.diff() > 0).all()  # in their order
    torch.testing.assert_close(
        logs[:3, 2], Categorical(logits=codes[:3, 2:3] * slopes + offsets).log_prob(targets[:3, 2])
    )
    assert logs[3, 1] == logs[3, 2] == logs[2, 0] == 0


def test_the_state_of_a_readout_brings_its_columns():
    columns = (Column("classes", (1.0, 4.0, 9.0)), Column("single", (0.0, 1.0)), Column("measured", (2.5, 0.5)))
    other = Readout()
    other.load_state_dict(readout(*columns).state_dict())
    assert other.columns == columns
    assert other.parts() == [(0, 1, 2), (3,), (4,)]


def test_the_density_of_a_linear_flow_is_that_of_a_gaussian():
    model = ExactModel(4, "linear", 1, 8)
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.add_(0.2 * normal(*parameter.shape))
    model.learn((Column("binary", (0.0, 1.0)),))
    y = normal(5, 4, seed=2)
    matrix = _jacobians(model.flow, y[:1])[0]
    expected = MultivariateNormal(torch.zeros(4).double(), torch.linalg.inv(matrix.T @ matrix)).log_prob(y)
    found, _ = model.terms(y, torch.full((5, 1), NAN).double(), torch.Generator())
    torch.testing.assert_close(-found, expected)


def test_the_amortised_bound_is_below_the_evidence_and_tight_for_the_posterior():
    """One dimension: p(z*) = N(0, 1), p(y|z*) = N(z*, 1), so that p(z*|y) = N(y/2, 1/2) and p(y) = N(0, 2)."""
    model = AmortisedModel(1, "linear", 1, 4)
    model.learn(())
    y = normal(4000, 1)
    nothing = torch.zeros(4000, 0).double()
    for network in (model.recognition, model.generation):
        for parameter in network.parameters():
            parameter.data.zero_()
    evidence = Normal(0.0, math.sqrt(2)).log_prob(y[:, 0]).mean()
    loose = -model.terms(y, nothing, torch.Generator().manual_seed(1))[0].mean().detach()
    assert float(loose) < float(evidence) - 0.1
    # Mean y + a(y) = y/2 and variance 1/2: the last layer gives log(1/2) + 2; y/2 is made by the flow's scale.
    model.recognition[-1].bias.data[1] = 2 + math.log(2.0)
    for parameter in model.flow.parameters():
        parameter.data.fill_(0.5)
    tight = -model.terms(y, nothing, torch.Generator().manual_seed(1))[0].mean().detach()
    assert float(tight) == pytest.approx(float(evidence), abs=0.03)


def test_informativeness_is_bald_by_brute_force():
    """Against sampling the Laplace posterior from its definition, with autograd's Fisher information."""
    found = readout(Column("ordinal", (0.0, 1.0, 2.0)))
    known, asked = normal(40, 1), torch.linspace(-4, 4, 9).double()[:, None]
    targets = torch.zeros(40, 1)
    parameters = found.parameters_of(0).detach()
    slopes = torch.autograd.functional.jacobian(lambda t: found.log_probabilities(t, known[:, 0], 0), parameters)
    p = found.log_probabilities(parameters, known[:, 0], 0).exp().detach()
    fisher = torch.einsum("nk,nka,nkb->ab", p, slopes, slopes) + 0.1 * torch.eye(6)
    draws = MultivariateNormal(parameters, precision_matrix=fisher).sample((20000,))
    slope, offset = draws.chunk(2, 1)
    each = torch.einsum("sk,n->snk", slope, asked[:, 0]) + offset[:, None]
    each = each.softmax(2)
    expected = Categorical(each.mean(0)).entropy() - Categorical(each).entropy().mean(0)
    averaged = torch.stack(
        [
            informativeness(found, known, targets, asked, "mutual_information", torch.Generator().manual_seed(s))
            for s in range(60)
        ]
    ).mean(0)
    torch.testing.assert_close(averaged, expected, atol=0.02, rtol=0.1)
    entropy = informativeness(found, known, targets, asked, "max_entropy", torch.Generator().manual_seed(0))
    assert (entropy > averaged).all()


def test_the_information_of_a_number_is_that_of_linear_regression():
    found = readout(Column("measured", (0.0, 1.0)))
    known, asked = normal(30, 1), torch.tensor([[0.0], [5.0]]).double()
    noise = float(found.noise.exp().square())
    rows = torch.cat([known, torch.ones_like(known)], 1)
    covariance = torch.linalg.inv(rows.T @ rows / noise + 0.1 * torch.eye(2))
    at = torch.cat([asked, torch.ones_like(asked)], 1)
    expected = 0.5 * torch.log1p((at @ covariance * at).sum(1) / noise)
    info = informativeness(found, known, torch.zeros(30, 1), asked, "mutual_information", torch.Generator())
    torch.testing.assert_close(info, expected)


def test_the_bank_finds_the_nearest_of_a_class_in_the_dimensions_asked_for():
    bank = Bank((1,), 2, 3)
    codes = torch.tensor([[0.0, 0.0], [9.0, 1.0], [0.0, 5.0]])
    bank.keep(torch.arange(3.0)[:, None], codes, torch.tensor([[2.0, 0, 1.0], [0, 2.0, 0], [0, 2.0, 1.5]]))
    at = torch.tensor([[0.0, 0.4], [0.0, 0.4], [0.0, 0.4]])
    nothing, units = torch.zeros(0, dtype=torch.long), torch.ones(2)
    assert bank.nearest(at, torch.tensor([1]), torch.tensor([0, 1, 2]), nothing, units).flatten().tolist() == [
        0,
        1,
        2,
    ]
    assert bank.nearest(at[:1], torch.tensor([0, 1]), None, nothing, units).flatten().tolist() == [0]
    # At 4 in the second dimension, which counts first, the third is nearest, however far in the other.
    assert bank.nearest(torch.tensor([[9.0, 4.0]]), torch.tensor([0]), None, torch.tensor([1]), units).item() == 2


def test_kept_inputs_are_shared_out_over_classes():
    classes = torch.tensor([0] * 50 + [1] * 3 + [2] * 20)
    chosen = spread_over_classes(classes, 15, torch.Generator().manual_seed(0))
    assert torch.bincount(classes[chosen]).tolist() == [6, 3, 6]


def test_what_is_known_of_a_number_is_never_without_end():
    """The read-out's likelihood has a smallest deviation, and so has what is to be learned."""
    found = []
    for noise in (-4.0, -9.0):
        one = readout(Column("measured", (0.0, 1.0)))
        with torch.no_grad():
            one.noise.fill_(noise)
        arguments = (normal(6, 1), torch.zeros(6, 1), normal(3, 1, seed=1), "mutual_information")
        found.append(informativeness(one, *arguments, torch.Generator()))
    torch.testing.assert_close(*found)


def test_centres_are_means_and_finite_where_f_never_says_a_class():
    named = normal(6, 2)
    logits = torch.zeros(6, 4)
    logits[:3, 0], logits[3:, 1] = 9.0, 9.0
    logits[:, 2] = torch.tensor([-500.0, -600, -600, -600, -600, -600])  # no probability at all, in float32
    logits[:, 3] = -1.0
    found = centres_of(named, logits)
    torch.testing.assert_close(found[:2], torch.stack([named[:3].mean(0), named[3:].mean(0)]))
    torch.testing.assert_close(found[2], named[0])
    torch.testing.assert_close(found[3], named.mean(0))
