"""The medXGAN backend: layout of its codes, its losses, and that it learns on real digits."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
import toys
import xlens_medxgan
from guard import unchanged
from toys import linear_classifier, spec
from xlens_medxgan import MedXGAN
from xlens_medxgan.critics import ClassifierCritic, ProjectionDiscriminator, shifted
from xlens_medxgan.evidence import Evidence
from xlens_medxgan.networks import PrincipalComponents, Prior

import xlens
from xlens import LensExplainer
from xlens.datasets import small_cnn, train_classifier
from xlens.errors import OptionError, UnsupportedError

SHAPES = [(1, 8, 8), (1, 8, 128), (1, 16, 100), (3, 37, 20), (2, 64, 64), (4, 128, 96), (3, 128, 128)]

SHORT = xlens.MaskOptions(steps=100)


@pytest.fixture(scope="module")
def fitted(digits):
    model, images = digits
    with unchanged(model):
        return xlens.fit(
            model, images.train, "medxgan", steps=200, width=16, mask=xlens.MaskOptions(steps=120), progress=False
        )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("linear", [True, False])
def test_any_size_channels_and_aspect(shape, linear):
    classifier = linear_classifier(shape)
    lens = MedXGAN(nuisance_code=6, class_code=4, width=4, linear=linear).build(classifier, spec(shape)).eval()
    inputs = torch.rand(3, *shape)
    codes = lens.encode(inputs)
    assert codes.shape == (3, 10)
    decoded = lens.decode(codes)
    assert decoded.shape == inputs.shape
    assert decoded.min() >= -1.5
    assert decoded.max() <= 2.0
    judge = ProjectionDiscriminator(spec(shape), width=8)
    assert judge.judge(judge(inputs), torch.tensor([0, 1, 1])).shape == (3,)


@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 16, 16), (20,), (6, 9)])
def test_what_is_no_picture_gets_networks_for_vectors(shape):
    with pytest.raises(UnsupportedError, match="1 to 4 channels and sides of at least 8.*network='dense'"):
        MedXGAN(network="convolutional").build(linear_classifier(shape), spec(shape))
    backend = MedXGAN(nuisance_code=6, class_code=4, hidden=16)
    lens = backend.build(linear_classifier(shape), spec(shape)).eval()
    inputs = torch.rand(3, *shape)
    codes = lens.encode(inputs)
    assert codes.shape == (3, 10)
    assert lens.decode(codes).shape == inputs.shape
    judge = ProjectionDiscriminator(spec(shape), dense=16)
    assert judge.judge(judge(inputs), torch.tensor([0, 1, 1])).shape == (3,)
    # There is nothing to shift.
    assert shifted(inputs, torch.Generator().manual_seed(1)) is inputs


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_vectors_are_fitted_on():
    torch.manual_seed(0)
    vectors = torch.randn(80, 12)
    model = torch.nn.Linear(12, 2).eval()
    sizes = {"steps": 6, "batch_size": 16, "nuisance_code": 4, "class_code": 3, "hidden": 16}
    explainer = xlens.fit(model, vectors, "medxgan", progress=False, **sizes)
    assert explainer.sample(2, target=1).shape == (2, 12)
    assert explainer.counterfactual(vectors[:3]).shape == (3, 12)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(OptionError, match="reference=2.*0 to 1"):
        MedXGAN(reference=2).build(linear_classifier((1, 8, 8)), spec((1, 8, 8)))
    with pytest.raises(OptionError, match="set inversion_steps"):
        MedXGAN(encoder=False).build(linear_classifier((1, 8, 8)), spec((1, 8, 8)))
    with pytest.raises(OptionError, match="Did you mean 'steps'"):
        MedXGAN(step=3)


def test_evidence_amount_is_linear_in_the_margin_between_the_class_medians():
    evidence = Evidence(spec((1, 8, 8), k=2, margins=((0.0, 3.0), (5.0, 0.0))), reference=0, block=4)
    margins = torch.tensor([-3.0, 1.0, 5.0, -9.0, 99.0])
    logits = torch.stack([torch.zeros(5), margins], 1)
    classes, amount = evidence.of_logits(logits)
    assert classes.tolist() == [1] * 5
    torch.testing.assert_close(amount, torch.tensor([0.0, 0.5, 1.0, 0.0, 1.25]))
    # What f is asked to say at these amounts is what it says at these margins.
    wanted = evidence.target(classes[:3], amount[:3])
    torch.testing.assert_close(wanted, logits[:3].softmax(1))


def test_blocks_hold_one_class_each_and_the_reference_none():
    evidence = Evidence(spec((1, 8, 8), k=4), reference=1, block=3)
    kind = evidence.draw(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(kind.square().sum(1), torch.full((4,), 3.0))
    blocks = evidence.place(torch.tensor([0, 1, 2, 3]), torch.full((4,), 0.5), kind)
    used = blocks.view(4, 3, 3).abs().sum(2) > 0
    assert used.tolist() == [[True, False, False], [False] * 3, [False, True, False], [False, False, True]]
    back = evidence.take(blocks, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(back[[0, 2, 3]], 0.5 * kind[[0, 2, 3]])
    assert not back[1].any()


def test_class_term_is_the_kl_of_torch_distributions():
    torch.manual_seed(0)
    logits, wanted = torch.randn(5, 3), torch.rand(5, 3).softmax(1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(wanted), torch.distributions.Categorical(logits=logits)
    )
    torch.testing.assert_close(F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean"), expected.mean())


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    # Well separated variances, so that the components themselves are well defined.
    scale = 2.0 ** -torch.arange(16).view(1, 1, 4, 4)
    images = torch.randn(400, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scale
    basis = PrincipalComponents.of(images, 5)
    other = PCA(5, svd_solver="full").fit(images.flatten(1).numpy())
    cosine = (basis.directions.T @ torch.tensor(other.components_, dtype=torch.float32).T).diagonal().abs()
    torch.testing.assert_close(cosine, torch.ones(5), atol=2e-2, rtol=0)
    found = torch.tensor(other.explained_variance_ * 399 / 400, dtype=torch.float32).sqrt()
    torch.testing.assert_close(basis.deviations, found, atol=1e-2, rtol=1e-2)


def test_prior_draws_have_the_covariance_that_it_was_given_and_whitening_undoes_it():
    prior = Prior(3)
    root = torch.tensor([[2.0, 0, 0], [1.0, 0.5, 0], [0, -0.3, 1.5]])
    prior.covariance.copy_(root @ root.T)
    prior.mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    prior.refresh()
    drawn = prior.draw(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.T.cov(), prior.covariance, atol=0.08, rtol=0.03)
    torch.testing.assert_close(prior.whiten(drawn).T.cov(), torch.eye(3), atol=0.03, rtol=0)


def test_critic_begins_with_the_classifiers_opinion_and_never_touches_it(digits):
    model, images = digits
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    critic = ClassifierCritic(xlens.Classifier(model), images.train[:2], margin=4.0)
    x, y = images.train[:64], images.train_labels[:64]
    seen = critic(x)
    own = critic.judge(seen, y)
    assert (own > critic.judge(seen, 1 - y)).float().mean() > 0.95
    own.mean().backward()
    torch.optim.SGD(critic.parameters(), 1.0).step()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, model.parameters(), strict=True))


def test_it_learns_digits(fitted, digits):
    model, images = digits
    with unchanged(model):
        explanation = fitted.explain(images.test)
    figures = explanation.fidelity
    assert figures.agrees.float().mean() >= 0.95
    assert figures.flips.float().mean() >= 0.97
    assert figures.ssim.mean() >= 0.8
    assert figures.monotone.mean() >= 0.95
    for c in (0, 1):
        assert (model(fitted.sample(200, c)).argmax(1) == c).float().mean() >= 0.95


def test_counterfactual_keeps_everything_but_the_evidence(fitted, digits):
    model, images = digits
    with unchanged(model):
        explanation = fitted.explain(images.test[:40])
    d1 = fitted.backend.nuisance_code
    assert torch.equal(explanation.codes[:, :d1], explanation.counterfactual_codes[:, :d1])
    positive = explanation.target == 1
    assert not explanation.counterfactual_codes[positive, d1:].any()
    assert explanation.counterfactual_codes[~positive, d1:].any(1).all()
    # All of the difference is evidence.
    assert explanation.feature_names[0] == "everything else"
    assert not explanation.feature_contributions[:, 0].any()


def test_invariances_hold_one_part_and_vary_the_other(fitted, digits):
    _, images = digits
    generator = torch.Generator().manual_seed(0)
    d1 = fitted.backend.nuisance_code
    with fitted.classifier.frozen():
        codes = fitted.lens.encode(images.test[:6])
        around = fitted.lens.invariances(codes, 5, 0.5, generator, "nuisance")
        kinds = fitted.lens.invariances(codes, 5, 0.5, generator, "class")
    assert torch.equal(around[:, :, d1:], codes[:, None, d1:].expand(-1, 5, -1))
    assert torch.equal(kinds[:, :, :d1], codes[:, None, :d1].expand(-1, 5, -1))
    assert around[:, :, :d1].std(1).mean() > 0.1
    torch.testing.assert_close(kinds[:, :, d1:].norm(dim=2), codes[:, None, d1:].norm(dim=2).expand(-1, 5))


def test_inversion_improves_each_row_on_its_own(fitted, digits):
    _, images = digits
    x = images.test[:6]
    with fitted.classifier.frozen():
        lens = fitted.lens
        start = lens.initial(x)
        together = lens.inversion.search(x, start, steps=25)
        alone = torch.cat([lens.inversion.search(x[i : i + 1], start[i : i + 1], steps=25) for i in range(6)])
        p = fitted.classifier.probabilities(x)
        loss = lens.inversion.loss
        assert (loss(together, x, p) < loss(start, x, p)).all()
        drawn = lens.invert(x, steps=5, restarts=3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)
    assert drawn.shape == (3, 6, together.shape[1])
    assert (drawn[0] - drawn[1]).abs().mean() > 0.1


def test_three_classes_with_a_reference_in_the_middle():
    from sklearn.datasets import load_digits

    digits = load_digits()
    keep = digits.target < 3
    images = torch.tensor(digits.images[keep], dtype=torch.float32).div(16).unsqueeze(1)
    labels = torch.tensor(digits.target[keep])
    torch.manual_seed(0)
    model = small_cnn((1, 8, 8), 3)
    train_classifier(model, images, labels, steps=150, progress=False)
    with unchanged(model):
        explainer = xlens.fit(
            model, images, "medxgan", reference=1, steps=150, width=16, mask=SHORT, progress=False
        )
        explanation = explainer.explain(images[:60])
    others = explanation.target != 1
    assert (explanation.contrast[others] == 1).all()
    assert explanation.fidelity.agrees.float().mean() >= 0.9
    assert explanation.fidelity.flips.float().mean() >= 0.9
    # From one class to another, neither of them the reference.
    zeros = images[labels == 0][:20]
    with unchanged(model):
        toward = explainer.explain(zeros, contrast=2)
    assert toward.fidelity.flips.float().mean() >= 0.8
    assert [f.class_index for f in explainer.features] == [None, 0, 2]


def test_the_papers_settings_train_without_encoder_or_critic(digits):
    model, images = digits
    backend = MedXGAN.paper(steps=12, inversion_steps=4, nuisance_code=8, width=8)
    with unchanged(model):
        explainer = xlens.fit(model, images.train, backend, mask=SHORT, progress=False)
    assert explainer.lens.encoder is None
    with pytest.warns(xlens.errors.UntrustworthyWarning), unchanged(model):
        explanation = explainer.explain(images.test[:4], carry="none")
    assert explanation.reconstruction.shape == (4, 1, 8, 8)


def test_invert_takes_an_explainer_and_a_seed(fitted, digits):
    model, images = digits
    x = images.test[:3]
    with unchanged(model):
        found = xlens_medxgan.invert(fitted, x, steps=3, restarts=2, seed=1)
    with fitted.classifier.frozen():
        generator = torch.Generator().manual_seed(1)
        assert torch.equal(found, fitted.lens.invert(x, steps=3, restarts=2, generator=generator))
    assert not found.requires_grad
    assert not torch.equal(found, xlens_medxgan.invert(fitted, x, steps=3, restarts=2, seed=2))
    with pytest.raises(OptionError, match="invert: restarts must be an int >= 1, got 0"):
        xlens_medxgan.invert(fitted, x, restarts=0)
    other = LensExplainer(dataclasses.replace(fitted.fitted, lens=toys.ToyLens()))
    with pytest.raises(UnsupportedError, match="invert: this lens cannot.*ToyLens.*Allowed: a MedXGANLens"):
        xlens_medxgan.invert(other, x)
