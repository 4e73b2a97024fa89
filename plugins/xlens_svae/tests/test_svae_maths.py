"""The SVAE backend's terms and objectives, against torch.distributions and references that go input by input."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import distributions as D
from toys import linear_classifier, spec
from xlens_svae import SVAE
from xlens_svae.objective import Consistency
from xlens_svae.terms import Gaussian, entropy, log_likelihood, m2_bound

import xlens
from xlens.data import Batch
from xlens.errors import OptionError
from xlens.training import Processes

# --- the terms, against torch.distributions ------------------------------------------------------------


def normal(gaussian):
    return D.Independent(D.Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp()), 1)


def test_gaussian_kls_are_those_of_torch_distributions():
    torch.manual_seed(0)
    one, other = (Gaussian(2 * torch.randn(7, 5), 2 * torch.randn(7, 5)) for _ in range(2))
    torch.testing.assert_close(one.kl(other), D.kl_divergence(normal(one), normal(other)))
    standard = D.Independent(D.Normal(torch.zeros(7, 5), 1.0), 1)
    torch.testing.assert_close(one.kl(), D.kl_divergence(normal(one), standard))
    part = slice(1, 4)
    expected = D.kl_divergence(
        D.Normal(one.mean, (one.log_variance / 2).exp()), D.Normal(other.mean, (other.log_variance / 2).exp())
    )
    torch.testing.assert_close(one.part(part).kl(other.part(part)), expected[:, part].sum(1))


def test_a_wild_variance_is_bounded():
    wild = Gaussian(torch.zeros(1, 2), torch.tensor([[500.0, -500.0]]))
    assert wild.kl(Gaussian(torch.zeros(1, 2), torch.tensor([[-500.0, 500.0]]))).isfinite().all()


def test_likelihood_and_entropy_are_those_of_torch_distributions():
    torch.manual_seed(0)
    inputs, decoded = torch.randn(6, 2, 3, 3), torch.randn(6, 2, 3, 3)
    variance = torch.tensor([0.3, 2.0]).view(1, 2, 1, 1)
    expected = D.Normal(decoded, variance.sqrt()).log_prob(inputs).sum((1, 2, 3))
    torch.testing.assert_close(log_likelihood(inputs, decoded, variance), expected)
    logits = 3 * torch.randn(6, 4)
    torch.testing.assert_close(entropy(logits), D.Categorical(logits=logits).entropy())


# --- the objectives, against references that go input by input -------------------------------------------


class Recorder:
    """Stands where a trainer would, and keeps the loss instead of stepping down it."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.processes = Processes()

    def minimise(self, loss, name):
        self.loss = loss


def one_step(backend, shape=(1, 4, 4), k=3, n=5):
    """Return everything about one step of a backend on random data."""
    torch.manual_seed(1)
    classifier = linear_classifier(shape, k)
    facts = spec(shape, k)
    lens = backend.build(classifier, facts)
    batch = Batch(torch.rand(n, *shape) * 3 - 1.5)
    run = xlens.Run(seed=0, device=torch.device("cpu"), spec=facts)
    recorder = Recorder(7)
    terms = backend._step(classifier, lens, recorder, run)(batch)
    return SimpleNamespace(
        model=lens.model, x=batch.inputs, logits=classifier(batch.inputs).detach(), terms=terms,
        loss=recorder.loss, spec=facts, classifier=classifier,
    )  # fmt: skip


def test_the_papers_objective_is_eq_6_term_by_term():
    backend = SVAE.paper(hidden=16)
    assert (backend.alpha, backend.beta) == (6000.0, 0.9)
    done = one_step(backend)
    model, total = done.model, 0.0
    noise = torch.randn(5, 15, generator=torch.Generator().manual_seed(7))
    collected = {"reconstruction": [], "prior": [], "sufficiency": [], "classes": []}
    sigma = math.sqrt(backend.noise) * 0.7
    for i in range(5):
        x = done.x[i : i + 1]
        y = torch.zeros(1, 3)
        y[0, done.logits[i].argmax()] = 1.0
        hidden = model.trunk(x)
        informed, predictive = normal(model.informed(hidden, y)), normal(model.predictive(hidden))
        z = informed.mean + informed.base_dist.scale * noise[i]
        recon = sum(
            D.Normal(mean, sigma).log_prob(value)
            for mean, value in zip(model.decoder(z).flatten(), x.flatten(), strict=True)
        )
        prior = D.kl_divergence(informed, D.Independent(D.Normal(torch.zeros(1, 15), torch.ones(1, 15)), 1))[0]
        sufficiency = D.kl_divergence(informed, predictive)[0]
        classes = D.Categorical(logits=model.head(z[:, :10])).log_prob(done.logits[i].argmax())[0]
        for name, value in zip(collected, (recon, prior, sufficiency, -classes), strict=True):
            collected[name].append(value)
        total = total + 0.9 * recon - 0.9 * prior - (1 - 0.9) * sufficiency + 6000.0 * classes
    assert done.terms.keys() == collected.keys()
    for name, values in collected.items():
        torch.testing.assert_close(done.terms[name], torch.stack(values).mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(done.loss, -total / 5, rtol=1e-4, atol=1e-3)


def test_beta_of_one_is_refused_because_nothing_would_train_the_predictor():
    for beta in (1.0, 1, 1.5):
        with pytest.raises(OptionError, match=f"beta must be a number > 0 and < 1, got {beta}"):
            SVAE(beta=beta)


def test_the_defaults_add_what_they_say_to_the_papers_bound():
    done = one_step(SVAE(hidden=16), shape=(5, 4, 4))
    t = done.terms
    # 80 values per input: alpha is a quarter of them, and the consistency weighs half of that.
    bound = 0.5 * (t["reconstruction"] - t["prior"]) - 0.5 * t["sufficiency"] - 20 * t["classes"]
    extra = 0.5 * 3 * t["price"] + 20 * t["predictive"] + 10 * t["consistency"]
    torch.testing.assert_close(done.loss, -bound + extra)
    labels = done.logits.softmax(1)
    informed = done.model.informed(done.model.trunk(done.x), labels)
    torch.testing.assert_close(t["price"], informed.part(slice(0, 6)).kl().mean())
    # Soft: the cross entropy is against f's probabilities, through a draw from q(z|x).
    generator = torch.Generator().manual_seed(7)
    torch.randn(5, 22, generator=generator)
    predictive = done.model.predictive(done.model.trunk(done.x))
    z = predictive.draw(torch.randn(5, 22, generator=generator))
    expected = -(done.logits.softmax(1) * done.model.head(z[:, :6]).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(t["predictive"], expected)


def test_consistency_asks_f_about_what_will_be_shown():
    done = one_step(SVAE(hidden=16))
    model, n = done.model, 5
    codes = torch.randn(n, 22)
    recorder = Recorder(3)
    found = Consistency(done.classifier, done.spec, 40, 2.0)(model, done.x, codes, done.logits, recorder)
    generator = torch.Generator().manual_seed(3)
    drawn = 2.0 * torch.rand(n, 1, generator=generator) * torch.randn(n, 16, generator=generator)
    kls = []
    for i in range(n):
        z = codes[i : i + 1].clone()
        if i != 2:
            z[:, 6:] = drawn[i] + (codes[i, 6:] if i > 2 else 0)
        shown = model.decoder(z)
        if i > 2:
            shown = (done.x[i] + shown - model.decoder(codes[i : i + 1])).clamp(-1.5, 2.0)
        p, q = (D.Categorical(logits=values) for values in (done.logits[i], done.classifier(shown)[0]))
        kls.append(D.kl_divergence(p, q))
    torch.testing.assert_close(found, torch.stack(kls).mean())


@pytest.mark.parametrize("soft", [True, False])
def test_m2_enumerates_the_class_as_a_slow_loop_does(soft):
    backend = SVAE.semi(hidden=16, nuisance_code=4, alpha=30.0, soft=soft)
    done = one_step(backend)
    model = done.model
    noise = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    sigma = math.sqrt(backend.noise) * 0.7
    total = 0.0
    for i in range(5):
        x = done.x[i : i + 1]
        hidden = model.trunk(x)
        q = D.Categorical(logits=model.head(hidden)[0])
        known = done.logits[i].softmax(0)
        if not soft:
            known = torch.eye(3)[known.argmax()]
        bound = backend.alpha * (known * q.logits).sum() + q.entropy()
        for c in range(3):
            y = torch.eye(3)[c : c + 1]
            posterior = normal(model.informed(hidden, y))
            z = posterior.mean + posterior.base_dist.scale * noise[i]
            recon = D.Normal(model.decoder(torch.cat([y, z], 1)), sigma).log_prob(x).sum()
            prior = D.Independent(D.Normal(torch.zeros(1, 4), torch.ones(1, 4)), 1)
            u = recon - D.kl_divergence(posterior, prior)[0]
            bound = bound + known[c] * u + q.probs[c] * u
        total = total + bound
    torch.testing.assert_close(done.loss, -total / 5, rtol=1e-4, atol=1e-3)


def test_m2_bound_by_hand():
    per_class = torch.tensor([[1.0, 3.0]])
    found = m2_bound(per_class, torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), alpha=10.0)
    assert found.item() == pytest.approx(3.0 + 2.0 + math.log(2) - 10 * math.log(2))


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 64, 80), (7,)], ids=["dense", "conv", "vector"])
@pytest.mark.parametrize("preset", [SVAE, SVAE.paper, SVAE.semi], ids=["ours", "paper", "semi"])
def test_every_weight_is_trained(preset, shape):
    done = one_step(preset(hidden=24), shape)
    done.loss.backward()
    untrained = [name for name, p in done.model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untrained
