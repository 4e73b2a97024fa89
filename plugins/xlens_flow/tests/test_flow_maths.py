"""The flow's maths against closed forms: Gaussians, whose flow is linear, and mixtures of them."""

import math

import pytest
import torch
from torch import nn
from toys import spec
from xlens_flow.guidance import guided, terms_of
from xlens_flow.lens import FlowLens, ladder
from xlens_flow.ode import backward, forward, grid

import xlens
from xlens.fitted import Fitted

WIDTH = 6
MEANS = torch.tensor([[-1.0, 0.5, 0.0, 1.0, -0.5, 0.2], [1.0, -0.5, 0.4, 0.0, 0.5, -0.8]])
SPREAD = 0.5


class Gaussians(nn.Module):
    """The exact velocity of a rectified flow to one Gaussian for each class, or to their mixture."""

    num_attributes = 0

    def standardised(self, inputs):
        return inputs

    def restored(self, states):
        return states

    def forward(self, states, times, conditions):
        t = times[:, None, None]
        variance = (1 - t) ** 2 + (t * SPREAD) ** 2
        apart = states[:, None] - t * MEANS
        velocities = MEANS + (t * SPREAD**2 - (1 - t)) / variance * apart
        evidence = (-apart.square().sum(2) / (2 * variance[:, 0])).softmax(1)
        # Given a class, that class's; without a condition the mixture's own posterior.
        given = conditions.sum(1, keepdim=True) > 0
        return (torch.where(given, conditions, evidence)[:, :, None] * velocities).sum(1)


class Certain(nn.Module):
    """A classifier whose probabilities are 0 and 1, so that each input's condition is one class."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, 2)
        with torch.no_grad():
            self.linear.weight.copy_(100 * (MEANS - MEANS.mean(0)))
            self.linear.bias.zero_()

    def forward(self, inputs):
        return self.linear(inputs)


def exact(steps, margins=((0.0, 3.0), (3.0, 0.0)), strongest=6.0, depth=1.0, corrections=0):
    shape = spec((WIDTH,), k=2, margins=margins)
    classifier = xlens.Classifier(Certain().eval())
    given = {
        "ode_steps": steps,
        "corrections": corrections,
        "tolerance": 0.0,
        "strongest": strongest,
        "depth": depth,
        "guidance": 1.0,
    }
    return FlowLens(classifier, shape, Gaussians(), **given).eval()


def drawn(n=64, seed=0):
    classes = torch.arange(n) % 2
    noise = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))
    return MEANS[classes] + SPREAD * noise, classes


def test_heun_is_of_second_order_both_ways_and_nearly_undoes_itself():
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double()
    start = torch.ones(3, 4).double()

    def velocity(x, t, step, rows):
        return x @ matrix.T

    def last(move, noise, steps):
        return forward(move, noise, steps)[-1]

    there = start @ torch.linalg.matrix_exp(matrix).T
    errors = [
        [float((move(velocity, a, steps) - b).norm()) for steps in (20, 40)]
        for move, a, b in ((last, start, there), (backward, there, start))
    ]
    for coarse, fine in errors:
        assert 3 < coarse / fine < 5
    back = backward(velocity, last(velocity, start, 40), 40)
    assert (back - start).norm() < errors[0][1]


def test_each_step_is_asked_at_its_own_two_ends():
    asked = []
    forward(lambda x, t, step, rows: asked.append((step, t)) or x, torch.zeros(1), 2)
    middle = grid(2)[1]
    assert asked == [(0, 0), (0, middle), (1, middle), (1, 1)]
    asked.clear()
    backward(lambda x, t, step, rows: asked.append((step, t)) or x, torch.zeros(1), 2)
    assert asked == [(1, 1), (1, middle), (0, middle), (0, 0)]


def test_codes_are_the_noise_that_the_closed_form_gives_and_decode_to_the_input():
    inputs, classes = drawn()
    lens = exact(32)
    with torch.no_grad():
        codes = lens.encode(inputs)
        noise, weights = lens.parted(codes)
        # The flow to a Gaussian is x = mean + spread * noise.
        torch.testing.assert_close(noise, (inputs - MEANS[classes]) / SPREAD, atol=1e-2, rtol=0)
        torch.testing.assert_close(weights, torch.eye(2)[classes][:, :, None].expand(-1, -1, 32))
        torch.testing.assert_close(lens.decode(codes), inputs, atol=1e-3, rtol=0)
        errors = [
            float((lens.decode(lens.encode(inputs)) - inputs).square().mean()) for lens in map(exact, (6, 12))
        ]
    # Of each step what is lost is of third order.
    assert errors[1] < errors[0] / 16
    with torch.no_grad():
        corrected = exact(6, corrections=1)
        assert (corrected.decode(corrected.encode(inputs)) - inputs).square().mean() < errors[0] / 4


def test_the_other_class_is_the_closed_forms_and_hardly_more_is_done_than_convinces():
    inputs, classes = drawn()
    lens = exact(64, margins=((0.0, 1.0), (1.0, 0.0)))
    with torch.no_grad():
        codes = lens.encode(inputs)
        whole = lens.guided_toward(codes, 1 - classes, torch.ones(len(codes), 64))
        # At 1 the weights are those of the other class, and its flow takes the same noise.
        expected = MEANS[1 - classes] + inputs - MEANS[classes]
        torch.testing.assert_close(lens.decode(whole), expected, atol=5e-3, rtol=0)
        found = lens.counterfactual(codes, classes, 1 - classes)
        logits = lens.classifier(lens.decode(found))
    assert (logits.argmax(1) == 1 - classes).all()
    noise, weights = lens.parted(found)
    assert torch.equal(noise, lens.parted(codes)[0])
    # It is near the first of a fine ladder that convinces.
    heights = torch.linspace(0, 6, 25)
    for row in range(4):
        tried = lens.guided_toward(codes[row].expand(25, -1), 1 - classes[row].expand(25), lens.strengths(heights))
        with torch.no_grad():
            there = lens.convinces(tried, classes[row].expand(25), 1 - classes[row].expand(25))[1]
        first = float(heights[there][0])
        taken = lens.strengths(torch.tensor([first - 0.25, first + 0.25]).clamp_min(0))
        own = (weights[row, 1 - classes[row]] - lens.parted(codes[row : row + 1])[1][0, 1 - classes[row]]).amax()
        assert taken[0].amax() - 1e-3 <= own <= taken[1].amax() + 1e-3
    torch.testing.assert_close(weights.sum(1), torch.ones(len(codes), 64))


def test_a_correction_never_makes_an_inversion_worse():
    # So stiff that what a step misses grows where it is taken back; the second row stands still.
    rates = torch.tensor([[30.0], [0.0]])

    def velocity(x, t, step, rows):
        return rates[rows] * x

    data = torch.ones(2, 3)
    errors = []
    for corrections in (0, 1, 3):
        noise = backward(velocity, data, 4, corrections)
        assert torch.equal(noise[1], data[1])
        errors.append(float((forward(velocity, noise, 4)[-1] - data)[0].norm()))
    assert errors[1] <= errors[0]
    assert errors[2] <= errors[0]


def test_only_rows_that_miss_too_much_are_corrected():
    asked = []
    rates = torch.tensor([[1.0], [0.01]])

    def velocity(x, t, step, rows):
        asked.append(rows.tolist())
        return rates[rows] * x

    data = torch.ones(2, 3)
    noise = backward(velocity, data, 4, corrections=6, tolerance=1e-3)
    # Two velocities of each step backward and two of the check are everybody's, the others the first row's alone.
    assert asked.count([0, 1]) == 16
    assert 2 <= asked.count([0]) == len(asked) - 16
    assert (forward(velocity, noise, 4)[-1] - data).abs().max() < 0.01


def test_waypoints_give_one_step_after_another_its_own_weights_and_share_their_runs():
    inputs, classes = drawn(12)
    lens = exact(7)
    with torch.no_grad():
        codes = lens.encode(inputs)
        strengths = torch.tensor([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]).expand(12, -1).clone()
        strengths[0, 2:4] = 0
        moved = lens.guided_toward(codes, 1 - classes, strengths)
        asked = []
        handle = lens.flow.register_forward_pre_hook(lambda _flow, given: asked.append(len(given[0])))
        found = lens.waypoints(codes, moved)
        handle.remove()
        torch.testing.assert_close(lens.decode(found.codes.flatten(0, 1)).view_as(found.decoded), found.decoded)
    assert found.codes.shape == (12, 5, WIDTH + 2 * 7)
    assert torch.equal(found.codes[:, 0], moved)
    assert torch.equal(found.codes[:, -1], codes)
    own, mixed = lens.parted(codes)[1], lens.parted(found.codes[:, 2])[1]
    assert torch.equal(mixed[:, :, 4:], own[:, :, 4:])
    assert torch.equal(mixed[:, :, :4], lens.parted(moved)[1][:, :, :4])
    # Steps that are not guided make no point, and neither does the first row's third: the counterfactual's run, of
    # two conditions where it is guided, and 5, 3 and 1 steps from it.
    assert torch.equal(found.decoded[:, 3], found.decoded[:, 4])
    counterfactual = 2 * (12 * (3 + 2 * 4) - 1)
    assert sum(asked) == counterfactual + 2 * (12 * (5 + 3 + 1) - 5)


def test_guidance_is_the_papers_formula():
    generator = torch.Generator().manual_seed(1)
    states, flow = torch.randn(5, WIDTH, generator=generator), Gaussians()
    times = torch.full((5,), 0.3)
    each = [flow(states, times, torch.eye(2)[[c] * 5]) for c in (0, 1)]
    none = flow(states, times, torch.zeros(5, 2))
    # (1 + w) of the class less w of none (eq. 6), at w = 2.
    torch.testing.assert_close(guided(flow, states, 0.3, torch.tensor([[3.0, 0.0]] * 5)), 3 * each[0] - 2 * none)
    torch.testing.assert_close(
        guided(flow, states, 0.3, torch.tensor([[-2.0, 3.0]] * 5)), 3 * each[1] - 2 * each[0]
    )
    torch.testing.assert_close(guided(flow, states, 0.3, torch.zeros(5, 2)), none)
    mixed = torch.tensor([[1.0, 0.0], [-2.0, 3.0], [0.0, 0.0], [0.3, 0.7], [2.0, -0.5]])
    rows = torch.cat([guided(flow, states[i : i + 1], 0.3, mixed[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(guided(flow, states, 0.3, mixed), rows)


@pytest.mark.parametrize("k", [2, 5])
def test_terms_make_up_the_weights_again(k):
    weights = torch.randn(20, k, generator=torch.Generator().manual_seed(k))
    conditions, shares = terms_of(weights)
    torch.testing.assert_close((shares[:, :, None] * conditions).sum(0), weights)
    torch.testing.assert_close(shares.sum(0), torch.ones(20))
    assert conditions.min() >= 0
    # Each that is asked for is a distribution over classes, or no condition.
    torch.testing.assert_close(conditions[:2].sum(2), (shares[:2] != 0).float())
    assert not conditions[2].any()


def test_latent_attributions_are_complete_along_the_path_of_conditions():
    lens = exact(6, corrections=1)
    backend = xlens.registry.loading.load_backend("flow")()
    inputs, classes = drawn(2)
    explainer = xlens.LensExplainer(Fitted(lens.classifier, lens, lens.spec, None, backend, {}))
    explanation = explainer.explain(inputs, n_steps=8)
    change = inputs - explanation.counterfactual
    # The classifier is linear, so what each value contributes is known without any path.
    linear = lens.classifier.model.linear.weight
    expected = change * (linear[classes] - linear[1 - classes])
    torch.testing.assert_close(explanation.attributions["lig"], expected, atol=0.02, rtol=1e-3)
    torch.testing.assert_close(
        explanation.attributions["lig"].sum(1),
        explanation.scores - explanation.counterfactual_scores,
        rtol=1e-2,
        atol=0.1,
    )


def test_steps_share_what_the_score_changes_by_and_the_noise_has_no_part_in_it():
    lens = exact(6)
    backend = xlens.registry.loading.load_backend("flow")()
    inputs, classes = drawn(4)
    explainer = xlens.LensExplainer(Fitted(lens.classifier, lens, lens.spec, None, backend, {}))
    found = explainer.explain(inputs, n_steps=4)
    assert not found.code_attributions[:, :WIDTH].any()
    with torch.no_grad():
        points = lens.waypoints(found.codes, found.counterfactual_codes).decoded
        logits = lens.classifier(points.flatten(0, 1)).view(4, 4, 2)
    margins = (logits[:, :, 0] - logits[:, :, 1]) * (1 - 2 * classes[:, None])
    contributed = found.code_attributions[:, WIDTH:].view(4, 2, 6)
    # The last two steps are the first that have their own weights again.
    by_pair = contributed.sum(1).view(4, 3, 2).sum(2)
    torch.testing.assert_close(by_pair.flip(1), margins.diff(dim=1), atol=1e-3, rtol=1e-4)
    # Of two classes each gains what the other loses.
    torch.testing.assert_close(contributed[:, 0], contributed[:, 1])
    torch.testing.assert_close(found.feature_contributions.sum(1), margins[:, -1] - margins[:, 0])


def test_what_is_drawn_anew_is_of_the_same_distribution():
    lens = exact(16)
    with torch.no_grad():
        for target in (0, 1):
            found = lens.sample(4000, target, torch.Generator().manual_seed(target))
            torch.testing.assert_close(found.mean(0), MEANS[target], atol=0.04, rtol=0)
            torch.testing.assert_close(found.std(0), torch.full((WIDTH,), SPREAD), atol=0.04, rtol=0)
        codes = lens.encode(drawn(2)[0])
        codes[:, :WIDTH] = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
        varied = lens.invariances(codes, 4000, 3.0, torch.Generator().manual_seed(0), "nuisance")
        # Three times as much new noise as own, brought back to a variance of 1.
        noise = varied[0, :, :WIDTH]
        torch.testing.assert_close(noise.mean(0), codes[0, :WIDTH] / math.sqrt(10), atol=0.06, rtol=0)
        torch.testing.assert_close(noise.std(0), torch.full((WIDTH,), 3 / math.sqrt(10)), atol=0.04, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 8, 30])
@pytest.mark.parametrize("depth", [0.1, 0.5, 1.0])
def test_the_ladder_goes_from_nothing_to_the_strongest_at_its_depth(steps, depth):
    rungs = ladder(steps, depth, 4.0)
    assert not rungs[0].any()
    assert rungs[-1].max() == 4
    assert (rungs.diff(dim=0) >= 0).all()
    assert (rungs[1:, -1] > 0).all()
    times = torch.tensor(grid(steps)[:-1])
    deep = times >= 1 - depth
    assert torch.equal(rungs[-1] > 0, deep) or int(deep.sum()) == 0
    # Little comes late.
    assert not rungs[1][times < 0.5][:-1].any()


def test_heights_between_two_rungs_are_between_their_guidance():
    lens = exact(4)
    torch.testing.assert_close(lens.strengths(torch.tensor([0.0, len(lens.rungs) - 1.0])), lens.rungs[[0, -1]])
    torch.testing.assert_close(lens.strengths(torch.tensor([1.5]))[0], lens.rungs[1:3].mean(0))


def test_an_input_that_convinces_already_stays():
    inputs, classes = drawn()
    lens = exact(8, margins=((0.0, -99.0), (-99.0, 0.0)))
    with torch.no_grad():
        codes = lens.encode(inputs)
        found = lens.counterfactual(codes, 1 - classes, classes)
    assert torch.equal(found, codes)


def test_an_inversion_of_a_steady_velocity_asks_nothing_twice():
    rates = torch.tensor([[3.0], [-2.0], [0.01]])
    asked = []

    def velocity(x, t, step, rows):
        asked.append(len(rows))
        return rates[rows] * torch.cat([x[:, 1:], x[:, :1].sin()], 1)

    data = torch.linspace(-1, 1, 12).view(3, 4)
    plain = backward(velocity, data, 5, corrections=4, tolerance=1e-3)
    before = sum(asked)
    asked.clear()
    torch.testing.assert_close(backward(velocity, data, 5, 4, 1e-3, steady=True), plain, atol=1e-6, rtol=0)
    # Of all steps but the first, the velocity of each row at the step's own beginning.
    assert sum(asked) == before - 4 * 3


@pytest.mark.parametrize("steps", [8, 12, 16])
@pytest.mark.parametrize("together", [1, 4, 40])
def test_a_run_that_was_kept_is_the_one_that_its_codes_make(steps, together):
    """Of one row, an early run may convince first, and a later one in the end."""
    inputs, classes = drawn(40)
    lens = exact(steps)
    with torch.no_grad():
        for some in torch.arange(40).split(together):
            codes = lens.encode(inputs[some])
            found = lens.counterfactual(codes, classes[some], 1 - classes[some])
            kept, anew = (lens.waypoints(codes, found).decoded for _ in range(2))
            torch.testing.assert_close(kept, anew, atol=1e-5, rtol=0)


def test_waypoints_begin_with_the_run_that_the_search_has_made():
    inputs, classes = drawn(12)
    lens = exact(8)
    asked = []
    lens.flow.register_forward_pre_hook(lambda _flow, given: asked.append(len(given[0])))
    with torch.no_grad():
        codes = lens.encode(inputs)
        # The third stays what it is, as it convinces already.
        found = lens.counterfactual(codes, classes, torch.where(torch.arange(12) == 2, classes, 1 - classes))
        assert [row for row in range(12) if torch.equal(found[row], codes[row])] == [2]
        passes, points = [], []
        # What was asked for once is forgotten.
        for _ in range(2):
            asked.clear()
            points.append(lens.waypoints(codes, found))
            passes.append(sum(asked))
        torch.testing.assert_close(points[0].decoded, points[1].decoded, atol=1e-5, rtol=0)
        assert torch.equal(points[0].codes, points[1].codes)
        # None of the eight steps of the other rows is run again, two velocities each.
        assert passes[0] + 11 * 8 * 2 <= passes[1]
        # Codes that were changed since are others.
        changed = lens.counterfactual(codes, classes, 1 - classes)
        changed[:, : lens.noise] += 1
        moved = codes.clone()
        moved[:, : lens.noise] += 1
        torch.testing.assert_close(lens.waypoints(moved, changed).decoded[:, 0], lens.decode(changed))
