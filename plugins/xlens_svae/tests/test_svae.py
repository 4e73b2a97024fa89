"""The SVAE backend: any input, that it learns what the classifier ignores, and all that a fit goes through."""

import dataclasses

import pytest
import torch
import toys
import xlens_svae
from guard import unchanged
from quick_svae import quick
from torch import nn
from toys import linear_classifier, spec
from xlens_svae import SVAE

import xlens
from xlens.contracts import CAPABILITIES
from xlens.errors import OptionError, UnsupportedError

SHAPES = [(1, 8, 8), (3, 20, 14), (5, 6, 9), (2, 64, 80), (20,)]


# --- any input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("preset", [SVAE, SVAE.paper, SVAE.semi], ids=["ours", "paper", "semi"])
def test_any_shape(shape, preset):
    classifier = linear_classifier(shape, 3)
    lens = preset(hidden=24).build(classifier, spec(shape, 3)).eval()
    inputs = torch.rand(3, *shape)
    with torch.no_grad():
        codes = lens.encode(inputs)
        decoded = lens.decode(codes)
        alone = lens.decode(lens.encode(inputs[1:2]))
    assert decoded.shape == inputs.shape
    torch.testing.assert_close(decoded[1:2], alone)
    torch.testing.assert_close(lens.class_probabilities(codes).sum(1), torch.ones(3))
    dims = [d for feature in lens.features for d in feature.dims]
    assert dims == list(range(codes.shape[1]))
    if len(shape) == 3:
        assert decoded.min() >= -1.5
        assert decoded.max() <= 2.0


def test_large_images_get_convolutions_and_small_ones_do_not():
    def convolutions(backend, shape):
        lens = backend.build(linear_classifier(shape, 3), spec(shape, 3))
        return any(isinstance(module, nn.Conv2d) for module in lens.modules())

    assert convolutions(SVAE(), (2, 64, 80))
    assert not convolutions(SVAE(), (1, 28, 28))
    assert convolutions(SVAE(network="convolutional"), (1, 28, 28))
    with pytest.raises(UnsupportedError, match="convolutions need images"):
        SVAE(network="convolutional").build(linear_classifier((20,), 3), spec((20,), 3))


def test_options_that_m2_does_not_have_are_refused_together():
    with pytest.raises(OptionError, match=r"M2 has no class_code, beta.*class_code=3, beta=0.9"):
        SVAE.semi(class_code=3, beta=0.9)
    assert SVAE.semi(nuisance_code=3).nuisance_code == 3


def test_m2s_class_parts_are_probabilities(baseline, digits):
    lens, model = baseline.lens, baseline.lens.model
    codes = lens.encode(digits.test[:20])
    generator = torch.Generator().manual_seed(0)
    moved = lens.counterfactual(codes, torch.zeros(20).long(), torch.arange(20) % 9 + 1)
    drawn = lens.invariances(codes, 5, 2.0, generator, "class").flatten(0, 1)
    for found in (moved, drawn):
        assert (found[:, :10] >= 0).all()
        torch.testing.assert_close(found[:, :10].sum(1), torch.ones(len(found)))
    outside = torch.tensor([[0.5, -0.5, 1.0], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(model.admissible(outside), torch.tensor([[1 / 3, 0, 2 / 3], [0.2, 0.3, 0.5]]))


class Read(nn.Module):
    """The classifier: which of the first three numbers is largest."""

    def forward(self, inputs):
        return 8 * inputs[:, :3]


@pytest.mark.parametrize("shuffled", [True, False])
def test_centres_and_covariances_are_those_of_all_data(monkeypatch, shuffled):
    """Also of classes that a sorted stream brings last; a class that is never predicted is guessed."""
    torch.manual_seed(0)
    inputs = torch.randn(600, 5)
    inputs[:, 2] -= 9  # never the largest
    classes = inputs[:, :3].argmax(1)
    order = torch.randperm(600) if shuffled else classes.argsort(stable=True)
    inputs, classes = inputs[order], classes[order]
    backend = SVAE(steps=2, hidden=8, class_code=3)
    lens = quick(Read(), inputs.split(50), backend).lens
    with torch.no_grad():
        evidence = lens.encode(inputs)[:, :3].double()
    for c in (0, 1):
        own = evidence[classes == c]
        torch.testing.assert_close(lens.centres[c].double(), own.mean(0), atol=1e-6, rtol=1e-5)
        covariance = lens.factors[c].double() @ lens.factors[c].double().T
        torch.testing.assert_close(covariance, own.T.cov(correction=0), atol=2e-6, rtol=1e-3)
    weight = (8 * inputs[:, :3]).double().softmax(1)[:, 2:]
    expected = (weight * evidence).sum(0) / weight.sum()
    torch.testing.assert_close(lens.centres[2].double(), expected, atol=1e-5, rtol=1e-3)


def test_vectors_from_fit_to_explanation():
    torch.manual_seed(0)
    inputs = torch.randn(300, 6) * torch.tensor([1.0, 5, 0.2, 1, 1, 1]) + 3
    model = nn.Linear(6, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 0, 0, 0, 0, 0], [-2.0, 0, 0, 0, 0, 0]]))
        model.bias.copy_(torch.tensor([-6.0, 6.0]))
    explainer = quick(model, inputs, SVAE(steps=300, hidden=64, class_code=2, nuisance_code=5))
    with unchanged(model):
        explanation = explainer.explain(inputs[:60])
        found = explainer.invariances(inputs[:60], 5)
    assert explanation.fidelity.flips.float().mean() >= 0.9
    assert found.share_kept.mean() >= 0.9
    # f reads the first value alone, so that is what may not vary; the second is what varies most.
    spread = found.variants.std(1).mean(0) / inputs.std(0)
    assert spread[0] < 0.5 * spread[1]


# --- learning --------------------------------------------------------------------------------------------


def test_it_learns_digits(fitted, digits):
    with fitted.classifier.frozen(), torch.no_grad():
        logits = fitted.classifier(digits.test)
        probabilities = fitted.lens.class_probabilities(fitted.lens.encode(digits.test))
    assert (probabilities.argmax(1) == logits.argmax(1)).float().mean() >= 0.93
    with unchanged(digits.model):
        found = fitted.invariances(digits.test, 4)
        far = fitted.invariances(digits.test, 4, scale=3.0)
        carried = fitted.invariances(digits.test, 4, carry="residual")
    assert found.share_kept.mean() >= 0.92
    assert far.share_kept.mean() >= 0.85
    assert carried.share_kept.mean() >= 0.94
    # A lens that ignores z2 keeps everything, and varies nothing.
    assert found.diversity.mean() >= 0.3
    assert far.diversity.mean() >= 0.8


def test_counterfactuals_toward_a_chosen_class_move_z1_alone(fitted, digits):
    inputs = digits.test[:80]
    with fitted.classifier.frozen(), torch.no_grad():
        target = fitted.classifier(inputs).argmax(1)
    contrast = (target + 1 + torch.arange(80) % 9) % 10
    with unchanged(digits.model):
        explanation = fitted.explain(inputs, contrast=contrast, carry="residual", attributions=("lig",))
    assert explanation.fidelity.decoding_flips.float().mean() >= 0.95
    assert explanation.fidelity.flips.float().mean() >= 0.8
    d1 = fitted.backend.class_code
    assert torch.equal(explanation.codes[:, d1:], explanation.counterfactual_codes[:, d1:])
    assert not explanation.feature_contributions[:, d1:].any()
    assert explanation.feature_names[0] == "class evidence 1"
    assert explanation.feature_names[d1] == "nuisance 1"


def test_counterfactual_stops_where_f_is_as_sure_as_of_real_inputs(fitted, digits):
    inputs = digits.test[:60]
    lens = fitted.lens
    with fitted.classifier.frozen(), torch.no_grad():
        codes = lens.encode(inputs)
        target = fitted.classifier(inputs).argmax(1)
        contrast = (target + 1) % 10
        moved = lens.counterfactual(codes, target, contrast)
        alone = lens.counterfactual(codes[5:6], target[5:6], contrast[5:6])
        logits = fitted.classifier(lens.decode(moved))
    torch.testing.assert_close(moved[5:6], alone)
    rows = torch.arange(60)
    margins = logits[rows, contrast] - logits[rows, target]
    goal = torch.tensor(fitted.spec.class_margins)[contrast, target]
    assert (margins >= goal).float().mean() >= 0.7
    # As far along the line to the centre as it takes, and the step differs between inputs.
    d1 = fitted.backend.class_code
    line = lens.centres[contrast] - codes[:, :d1]
    ways = ((moved - codes)[:, :d1] * line).sum(1) / line.square().sum(1)
    torch.testing.assert_close((moved - codes)[:, :d1], ways[:, None] * line, atol=1e-4, rtol=1e-3)
    assert len(ways.mul(100).round().unique()) > 1


def test_samples_are_of_their_class(fitted, digits):
    with unchanged(digits.model):
        for c in (0, 4, 9):
            samples = fitted.sample(50, c)
            with fitted.classifier.frozen(), torch.no_grad():
                assert (fitted.classifier(samples).argmax(1) == c).float().mean() >= 0.9


def test_invariances_draw_one_part_and_hold_the_other(fitted, digits):
    generator = torch.Generator().manual_seed(0)
    d1 = fitted.backend.class_code
    with torch.no_grad():
        codes = fitted.lens.encode(digits.test[:6])
    own = codes[:, None].expand(-1, 400, -1)
    around = fitted.lens.invariances(codes, 400, 2.0, generator, "nuisance")
    assert torch.equal(around[:, :, :d1], own[:, :, :d1])
    change = (around - own)[:, :, d1:]
    torch.testing.assert_close(change.std((0, 1)), torch.full((16,), 2.0), atol=0.15, rtol=0)
    assert change.mean(1).abs().max() < 0.5
    # The paper's test draws anew, whatever the input's own z2 is.
    anew = fitted.lens.redrawn(codes, 400, 2.0, generator)
    assert torch.equal(anew[:, :, :d1], own[:, :, :d1])
    torch.testing.assert_close(anew[:, :, d1:].std((0, 1)), torch.full((16,), 2.0), atol=0.15, rtol=0)
    assert anew[:, :, d1:].mean(1).abs().max() < 0.5
    moved = fitted.lens.invariances(codes, 5, 1.0, generator, "class")
    assert torch.equal(moved[:, :, d1:], own[:, :5, d1:])
    assert moved[:, :, :d1].std(1).min() > 0


def test_m2_learns_the_class_and_what_its_code_says(baseline, digits):
    with torch.no_grad(), baseline.classifier.frozen():
        codes = baseline.lens.encode(digits.test)
        logits = baseline.classifier(digits.test)
    torch.testing.assert_close(codes[:, :10], baseline.lens.class_probabilities(codes))
    assert (codes.argmax(1) < 10).any()
    assert (codes[:, :10].argmax(1) == logits.argmax(1)).float().mean() >= 0.8
    torch.testing.assert_close(baseline.lens.centres.argmax(1), torch.arange(10))
    assert len(baseline.features) == 26


# --- storing, resuming, capabilities -----------------------------------------------------------------------


def test_saved_and_loaded_it_says_the_same(fitted, baseline, digits, tmp_path):
    for name, explainer in (("svae", fitted), ("semivae", baseline)):
        explainer.save(tmp_path / name)
        again = xlens.load(tmp_path / name, digits.model)
        assert again.backend == explainer.backend
        for ask in (lambda e: e.invariances(digits.test[:3], 2).variants, lambda e: e.sample(3, 1)):
            assert torch.equal(ask(again), ask(explainer))
        before, after = (e.counterfactual(digits.test[:3], carry="none") for e in (explainer, again))
        assert torch.equal(before, after)


@pytest.mark.parametrize("preset", [SVAE, SVAE.semi], ids=["ours", "semi"])
def test_resumed_it_is_the_same_lens(digits, tmp_path, preset):
    backend = preset(steps=24, hidden=16)

    def stop(event):
        if event.phase == "svae" and event.step == 9:
            raise KeyboardInterrupt

    whole = quick(digits.model, digits.train, backend, output_dir=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        quick(digits.model, digits.train, backend, output_dir=tmp_path / "part", on_step=stop)
    resumed = quick(digits.model, digits.train, backend, output_dir=tmp_path / "part", resume=True)
    for (name, one), other in zip(whole.lens.state_dict().items(), resumed.lens.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_labels_of_the_data_are_used_only_when_asked_for(digits):
    # Nearly all the same: with a single class there would be nothing to contrast.
    labels = torch.zeros(len(digits.train), dtype=torch.long)
    labels[:20] = 1
    backend = SVAE(steps=60, hidden=32, consistency=0.0)
    asked = quick(digits.model, (digits.train, labels), backend, supervision="labels")
    unasked = quick(digits.model, (digits.train, labels), backend)
    for explainer, says_zero in ((asked, True), (unasked, False)):
        with torch.no_grad():
            found = explainer.lens.class_probabilities(explainer.lens.encode(digits.test)).argmax(1)
        assert bool((found == 0).float().mean() > 0.9) == says_zero


def test_what_it_declares_its_lens_can_do(fitted):
    for capability in SVAE.capabilities:
        protocol = CAPABILITIES[capability]
        assert protocol is None or isinstance(fitted.lens, protocol)
    assert "svae" in xlens.backends()


def test_class_probabilities_and_redrawn_take_an_explainer_and_a_seed(fitted, digits):
    lens, x = fitted.lens, digits.test[:6]
    with unchanged(digits.model):
        found = xlens_svae.class_probabilities(fitted, x)
        variants = xlens_svae.redrawn(fitted, x, 4, 0.5, seed=2)
    codes = lens.encode(x)
    torch.testing.assert_close(found, lens.class_probabilities(codes))
    drawn = lens.redrawn(codes, 4, 0.5, torch.Generator().manual_seed(2))
    torch.testing.assert_close(variants, lens.decode(drawn.flatten(0, 1)).view(6, 4, 1, 8, 8))
    assert not torch.equal(variants, xlens_svae.redrawn(fitted, x, 4, 0.5, seed=3))
    with pytest.raises(OptionError, match="redrawn: n must be an int >= 1, got 0"):
        xlens_svae.redrawn(fitted, x, 0)
    other = xlens.LensExplainer(dataclasses.replace(fitted.fitted, lens=toys.ToyLens()))
    with pytest.raises(UnsupportedError, match="this lens cannot.*ToyLens.*Allowed: a SVAELens"):
        xlens_svae.class_probabilities(other, x)
