"""What the paper of SVAE asks its lens: samples of q(z1|x), redrawn z2, the head's verdict, Fig. 7."""

import dataclasses

import pytest
import torch
import xlens_svae
from guard import unchanged
from quick_svae import quick
from torch import distributions as D
from xlens_svae import SVAE

from xlens.errors import DataError, OptionError


def test_predictions_are_means_over_draws_of_the_posterior(fitted, digits):
    x, model = digits.test[:8], fitted.lens.model
    found = xlens_svae.class_probabilities(fitted, x, draws=4000, seed=3)
    with torch.no_grad():
        q = model.predictive(model.trunk(x))
        torch.manual_seed(1)
        z = D.Normal(q.mean, (0.5 * q.log_variance).exp()).sample((4000,))[:, :, : model.evidence]
        expected = model.head(z).softmax(2).mean(0)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(8))
    assert torch.equal(found, xlens_svae.class_probabilities(fitted, x, draws=4000, seed=3))
    at_the_mean = xlens_svae.class_probabilities(fitted, x)
    assert not torch.equal(at_the_mean, found)
    with pytest.raises(OptionError, match="draws must be an int >= 1, got 0"):
        xlens_svae.class_probabilities(fitted, x, draws=0)


def test_m2_predicts_from_the_class_alone_however_z_is_drawn(baseline, digits):
    x = digits.test[:5]
    torch.testing.assert_close(
        xlens_svae.class_probabilities(baseline, x, draws=7), xlens_svae.class_probabilities(baseline, x)
    )


def test_the_papers_invariances_redraw_z2(digits):
    explainer = quick(digits.model, digits.train, SVAE.paper(steps=3, hidden=32))
    x = digits.test[:3]
    with unchanged(digits.model):
        found = explainer.invariances(x, 6, scale=2.0, seed=5)
        redrawn = xlens_svae.redrawn(explainer, x, 6, 2.0, seed=5)
    assert torch.equal(found.variants, redrawn)
    # From N(0, 4), and not around the input's own.
    codes = torch.full((1, 15), 50.0)
    with explainer.classifier.frozen():
        drawn = explainer.lens.invariances(codes, 4000, 2.0, torch.Generator().manual_seed(0), "nuisance")[0]
    assert (drawn[:, :10] == 50).all()
    assert drawn[:, 10:].mean().abs() < 0.1
    assert float(drawn[:, 10:].std()) == pytest.approx(2, abs=0.1)
    around = explainer.lens.invariances(codes, 9, 2.0, torch.Generator().manual_seed(0), "class")
    assert (around[:, :, 10:] == 50).all()


def test_the_heads_verdict_is_of_the_variant_encoded_again(fitted, digits):
    x = digits.test[:6]
    found = fitted.invariances(x, 5, scale=3.0)
    kept = xlens_svae.kept_by_head(fitted, x, found.variants)
    own = xlens_svae.class_probabilities(fitted, x).argmax(1)
    each = torch.stack(
        [xlens_svae.class_probabilities(fitted, found.variants[:, j]).argmax(1) for j in range(5)], 1
    )
    assert torch.equal(kept, each == own[:, None])
    assert xlens_svae.kept_by_head(fitted, x, x[:, None]).all()
    assert not xlens_svae.kept_by_head(fitted, x, x[own != own[0]][:1].expand(6, 1, 1, 8, 8))[own == own[0]].any()
    with pytest.raises(DataError, match="kept_by_head: the variants do not fit"):
        xlens_svae.kept_by_head(fitted, x, found.variants[:2])


def test_the_invariance_test_is_what_the_single_calls_say(fitted, digits):
    x = digits.test[:12]
    test = xlens_svae.invariance_test(fitted, x, (0.0, 1.0, 5.0), 4, seed=2)
    variants = xlens_svae.redrawn(fitted, x, 4, 5.0, seed=2)
    head = xlens_svae.kept_by_head(fitted, x, variants).float().mean()
    with fitted.classifier.frozen(), torch.no_grad():
        said = fitted.classifier(variants.flatten(0, 1)).argmax(1).view(12, 4)
        own = fitted.classifier(x).argmax(1)
        rebuilt = fitted.lens.decode(fitted.lens.encode(x))
    torch.testing.assert_close(test.by_head[2], head)
    torch.testing.assert_close(test.by_classifier[2], (said == own[:, None]).float().mean())
    torch.testing.assert_close(test.distance[2], (variants - rebuilt[:, None]).flatten(2).norm(dim=2).mean())
    assert (test.distance.diff() > 0).all()


def test_fig_7_moves_one_dimension_for_each_class(fitted, digits):
    x = digits.test[:3]
    with unchanged(digits.model):
        found = xlens_svae.contrasts(fitted, x)
    d1 = fitted.lens.model.evidence
    with torch.no_grad(), fitted.classifier.frozen():
        codes = fitted.lens.encode(x)
        for i in range(3):
            for c in (0, 4, 9):
                moved = codes[i].clone()
                moved[found.dims[i, c]] = found.values[i, c]
                torch.testing.assert_close(
                    fitted.lens.decode(moved[None])[0], found.variants[i, c], atol=1e-5, rtol=1e-4
                )
                best = float(fitted.lens.class_probabilities(moved[None])[0, c])
                for dim in range(d1):  # no other single move is surer
                    rows = codes[i].repeat(25, 1)
                    rows[:, dim] = torch.linspace(-4, 4, 25)
                    assert float(fitted.lens.class_probabilities(rows)[:, c].max()) <= best + 1e-5
        said = fitted.classifier(found.variants.flatten(0, 1)).argmax(1).view(3, 10)
    assert torch.equal(found.by_classifier, said == torch.arange(10))
    assert found.by_head.float().mean() > 0.3
    assert found.attributions.shape == found.variants.shape == (3, 10, 1, 8, 8)
    assert len(found.plot().axes) == 2 * 3 * 11
    assert {field.name for field in dataclasses.fields(found)} >= {"dims", "values", "by_head"}
    with pytest.raises(OptionError, match="contrasts: values are wrong"):
        xlens_svae.contrasts(fitted, x, [])


def test_m2_has_them_too(baseline, digits):
    found = xlens_svae.contrasts(baseline, digits.test[:2])
    own = xlens_svae.class_probabilities(baseline, digits.test[:2]).argmax(1)[:, None] == torch.arange(10)
    assert ((found.dims == torch.arange(10)) | own).all()
    assert found.by_head.all()
