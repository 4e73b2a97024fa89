"""The paper's own ILVM and JLVM: what the presets are made of, against independent references."""

import math

import pytest
import torch
import toys
from on_digits import HELD, LAYER
from torch.distributions import Bernoulli, Categorical, Normal
from xlens_ilvm import ILVM
from xlens_ilvm.acquisition import informativeness, informativeness_of_draws
from xlens_ilvm.columns import Column
from xlens_ilvm.jlvm import JLVM, _bernoulli
from xlens_ilvm.models import AmortisedModel
from xlens_ilvm.named import named_features
from xlens_ilvm.planar import PlanarFlow
from xlens_ilvm.readout import Readout

import xlens
from xlens.errors import OptionError

NAN = math.nan
QUICK = toys.SHORT_MASK


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_flows_of_each_row_are_planar_flows_of_their_own():
    flow = PlanarFlow(3, 4).double()
    change, points = normal(5, 4, 7), normal(5, 3, seed=1)
    found, log_det = flow(points, change)
    for i in range(5):
        alone = PlanarFlow(3, 4).double()
        for name, own in zip("wub", change[i].split([3, 3, 1], 1), strict=True):
            parameter = getattr(alone, name)
            parameter.data = (getattr(flow, name) + own.view(parameter.shape)).detach()
        image, own_det = alone(points[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], image)
        torch.testing.assert_close(log_det[i : i + 1], own_det)
        jacobian = torch.autograd.functional.jacobian(lambda p: flow(p, change[i : i + 1])[0], points[i : i + 1])  # noqa: B023
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian.view(3, 3))[1])


@pytest.mark.parametrize("seed", range(3))
def test_no_recognised_flow_brings_the_bound_above_the_evidence(seed):
    """One dimension: p(z*) = N(0, 1), p(y|z*) = N(z*, 1), so that p(y) = N(0, 2)."""
    torch.manual_seed(seed)
    model = AmortisedModel(1, "amortised", 4, 8)
    model.learn(())
    for parameter in model.generation.parameters():
        parameter.data.zero_()
    for parameter in model.flow_of.parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    y = torch.linspace(-2, 2, 5).double().repeat_interleave(20000)[:, None]
    nothing = torch.zeros(len(y), 0).double()
    with torch.no_grad():
        bound = -model.terms(y, nothing, torch.Generator().manual_seed(1))[0].view(5, -1).mean(1)
    evidence = Normal(0.0, math.sqrt(2)).log_prob(y[::20000, 0])
    assert (bound < evidence).all()


def test_draws_of_the_amortised_model_have_the_moments_of_its_posterior():
    model = AmortisedModel(2, "linear", 1, 4)
    y = normal(3, 2)
    with torch.no_grad():
        draws = model.draws(y, normal(8000, 2))
        mean, log_variance = model._posterior(y)
    # The linear flow begins as the identity.
    torch.testing.assert_close(draws.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(draws.var(0), log_variance.exp(), atol=0.03, rtol=0)


def test_several_dimensions_are_read_as_a_weighted_sum():
    columns = (Column("binary", (0.0, 1.0)), Column("measured", (0.0, 1.0)), Column("ordinal", (1.0, 2.0, 5.0)))
    found = Readout(columns, 2)
    with torch.no_grad():
        for index, parameter in enumerate(found.parameters()):
            parameter.add_(0.3 * normal(*parameter.shape, seed=index))
    assert (found.outputs, found.width, found.parts()) == (3, 6, [(0, 1), (2, 3), (4, 5)])
    codes, targets = normal(4, 8), torch.tensor([[1, 0.3, 2], [0, -1, 0], [NAN, 2, 1], [1, NAN, NAN]]).double()
    logs = found.log_likelihood(codes, targets)
    psi = found.slope[:, None] * found.mix  # of each dimension
    logit = codes[:, :2] @ psi[0] + found.bias[0]
    number = codes[:, 2:4] @ psi[1] + found.bias[1]
    torch.testing.assert_close(
        logs[[0, 1, 3], 0], Bernoulli(logits=logit).log_prob(targets[:, 0].nan_to_num())[[0, 1, 3]]
    )
    torch.testing.assert_close(
        logs[:3, 1], Normal(number, found.deviations[1]).log_prob(targets[:, 1].nan_to_num())[:3]
    )
    slopes, offsets = found.parameters_of(2).chunk(2)
    along = (codes[:, 4:6] * found.mix[2]).sum(1, keepdim=True)
    torch.testing.assert_close(
        logs[:3, 2], Categorical(logits=along * slopes + offsets).log_prob(targets[:, 2].nan_to_num())[:3]
    )
    other = Readout()
    other.load_state_dict(found.state_dict())
    assert torch.equal(other.log_likelihood(codes, targets), logs)
    classes = named_features(Readout((Column("classes", (0.0, 1.0, 2.0)),), 2), True, (), ("a", "b", "c"), 8)
    assert [feature.dims for feature in classes] == [(0, 1), (2, 3), (4, 5), (6, 7)]


def test_what_z_leaves_open_is_the_entropy_of_the_mean_less_the_mean_of_entropies():
    found = Readout((Column("binary", (0.0, 1.0)), Column("ordinal", (0.0, 1.0, 2.0))))
    draws = 2 * normal(300, 7, 5)
    each = [
        Bernoulli(logits=found.slope[0] * draws[:, :, 0] + found.bias[0]),
        Categorical(
            logits=found.log_probabilities(found.parameters_of(1), draws[:, :, 1].flatten(), 1).view(300, 7, 3)
        ),
    ]
    whole = Bernoulli(each[0].probs.mean(0)).entropy() + Categorical(each[1].probs.mean(0)).entropy()
    own = sum(one.entropy().mean(0) for one in each)
    torch.testing.assert_close(informativeness_of_draws(found, draws, "max_entropy"), whole.detach())
    torch.testing.assert_close(informativeness_of_draws(found, draws, "mutual_information"), (whole - own).detach())
    # Of a code that is certain, nothing is left open; of a number, what its spread adds to the noise.
    certain = draws[:1].expand(20, -1, -1)
    assert float(informativeness_of_draws(found, certain, "mutual_information").abs().max()) < 1e-12
    number = Readout((Column("measured", (0.0, 1.0)),))
    gained = informativeness_of_draws(number, 3 * normal(20000, 2, 1), "mutual_information")
    torch.testing.assert_close(gained, torch.full((2,), 0.5 * math.log(1 + 9)).double(), atol=0.03, rtol=0)


def test_the_bernoulli_likelihood_is_that_of_torch_on_the_range():
    spec = xlens.Spec(
        shape=(3,), num_classes=2, minimum=(-1.0,), maximum=(3.0,), mean=(0.5,), std=(1.0,),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    inputs, decoded = torch.rand(5, 3) * 4 - 1, torch.rand(5, 3) * 3.9 - 0.95
    expected = torch.nn.functional.binary_cross_entropy((decoded + 1) / 4, (inputs + 1) / 4, reduction="sum") / 5
    torch.testing.assert_close(_bernoulli(decoded, inputs, spec), expected)


def test_the_papers_lens_learns_asks_and_is_saved(digits, model, some, tmp_path):
    backend = ILVM.paper(steps=40, layers=3, dimensions=2, kinds=("single", "measured"), teaching_steps=3)
    classifier = xlens.Classifier(model, layer=LAYER)
    found = xlens.fit(classifier, digits[0][:HELD], backend, side_info=some, progress=False)
    assert [feature.dims for feature in found.features][:2] == [(0, 1), (2, 3)]
    pool = digits[0][HELD : HELD + 40]
    asked = found.teaching.query(pool, 5)
    assert torch.equal(asked, found.teaching.query(pool, 5))
    found.teaching.teach(pool[asked], digits[2][HELD : HELD + 40][asked], progress=False)
    found.save(tmp_path / "lens")
    again = xlens.load(tmp_path / "lens", classifier)
    with found.classifier.frozen(), torch.no_grad():
        assert torch.equal(again.lens.encode(pool), found.lens.encode(pool))
        # Each input has a flow of its own: the same start comes out elsewhere.
        y = found.lens.space(found.lens.represent(pool[:2]))[0]
        images, _ = found.lens.model._flowed(y, torch.zeros(2, y.shape[1]).double())
    assert float((images[0] - images[1]).abs().max()) > 1e-6


def test_over_a_lens_with_a_posterior_its_draws_are_what_is_uncertain(flat, some):
    images, model = flat
    below = xlens.fit(model, images[:HELD], JLVM(steps=20, hidden=32, code=12), mask=QUICK, progress=False)
    over = xlens.fit(
        model, images[:HELD], ILVM(steps=20, layers=1, uncertain="code", kinds=("single", "measured")), over=below,
        side_info=some, mask=QUICK, progress=False,
    )  # fmt: skip
    with over.classifier.frozen(), torch.no_grad():
        draws = over.lens.drawn_codes(images[:4], torch.Generator().manual_seed(0))
        mean, log_variance = below.lens.networks.encoder(images[:4])
        back = over.lens.space.inverse(over.lens.model.restore(draws.flatten(0, 1)), draws.new_zeros(200, 0))
    # Taken back, they are draws of the lens below: fifty, whose mean and spread are its posterior's.
    back = back.view(50, 4, 12)
    error = (back.mean(0) - mean) / (0.5 * log_variance).exp()
    assert float(error.square().mean()) < 3 / 50
    assert float((back.var(0) / log_variance.exp()).mean()) == pytest.approx(1, abs=0.2)
    assert len(over.teaching.query(images[HELD : HELD + 30], 3)) == 3


def test_options_that_contradict_each_other_are_refused(digits, model):
    classifier = xlens.Classifier(model, layer=LAYER)
    for options, message in (
        ({"flow": "amortised"}, "cannot be undone from its code alone"),
        ({"uncertain": "code"}, "nothing is uncertain about the code"),
    ):
        with pytest.raises(OptionError, match=message):
            xlens.fit(classifier, digits[0][:40], "ilvm", progress=False, **options)


def test_the_papers_jlvm_counts_every_term_once(digits, model):
    found = xlens.fit(
        model, digits[0][:200], JLVM.paper(steps=2, width=8, code=12, dimensions=1), mask=QUICK, progress=False
    )
    assert found.lens.decode(torch.zeros(1, 12)).shape == (1, 1, 8, 8)
    preset = JLVM.paper()
    assert (preset.beta, preset.label_weight, preset.free_bits, preset.warm_up) == (1.0, 1.0, 0.0, 0.0)


def test_the_informativeness_of_several_dimensions_is_that_of_their_sum():
    two, one = Readout((Column("binary", (0.0, 1.0)),), 2), Readout((Column("binary", (0.0, 1.0)),))
    known, asked = normal(30, 2), normal(6, 2, seed=3)
    targets = torch.zeros(30, 1)
    found, wanted = (
        informativeness(readout, a, targets, b, "mutual_information", torch.Generator().manual_seed(0))
        for readout, a, b in ((two, known, asked), (one, two.read(known).detach(), two.read(asked).detach()))
    )
    torch.testing.assert_close(found, wanted)
