"""New inputs drawn from a lens."""

from __future__ import annotations

import pytest
import torch
import toys

import xlens
from xlens.errors import DataError, OptionError, UnsupportedError, XlensWarning


def test_draws_name_what_is_wrong(ask, images):
    with pytest.raises(OptionError, match="scale must be a number >= 0, got -1"):
        ask("invariances", images[:1], 2, scale=-1)
    with pytest.raises(OptionError, match="seed must be an int.*got 'a'"):
        ask("sample", 1, 1, seed="a")


@pytest.mark.parametrize("target", [0, 1, 2])
def test_samples_are_of_their_class(ask, trained, target):
    samples = ask("sample", 6, target)
    assert samples.shape == (6, 1, 8, 8)
    other = torch.full((6,), (target + 1) % 3)
    assert (toys.margins(trained, samples, torch.full((6,), target), other) > 0).all()
    assert torch.equal(samples, ask("sample", 6, target))
    assert not torch.equal(samples, ask("sample", 6, target, seed=1))


def test_a_sample_of_a_class_that_does_not_exist(ask):
    with pytest.raises(DataError, match="target is not a class"):
        ask("sample", 3, 3)


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_a_number_of_variants_that_makes_no_sense(ask, images, n):
    with pytest.raises(OptionError, match="n must be an int >= 1"):
        ask("sample", n, 1)
    with pytest.raises(OptionError, match="n must be an int >= 1"):
        ask("invariances", images[:1], n)


def margin(trained, samples, target, contrast):
    full = lambda c: torch.full((len(samples),), c)  # noqa: E731
    return toys.margins(trained, samples, full(target), full(contrast))


def test_an_amount_is_a_share_of_the_way_from_the_counterfactual(ask, fitted):
    whole, half, none = (ask("sample", 5, 1, amount=amount) for amount in (1, 0.5, 0))
    assert torch.allclose(half, (whole + none) / 2, atol=1e-5)
    codes = fitted.lens.encode(whole)
    classes = torch.full((5,), 1), torch.full((5,), 0)
    assert torch.allclose(none, fitted.lens.decode(fitted.lens.counterfactual(codes, *classes)), atol=1e-5)
    assert torch.equal(whole, ask("sample", 5, 1))


def test_samples_at_the_boundary_are_undecided(ask, trained):
    whole = margin(trained, ask("sample", 8, 1), 1, 0)
    found = margin(trained, ask("sample", 8, 1, amount="boundary"), 1, 0)
    assert (found.abs() < 0.01 * whole).all()


@pytest.mark.parametrize("held", ["class", "contrast"])
def test_samples_without_a_boundary_on_their_way_are_said(ask, fitted, monkeypatch, held):
    """A lens whose counterfactuals keep the class, and one whose samples are of the contrast to begin with."""

    def counterfactual(self, codes, target, contrast):
        return codes

    def sample(self, n, target, generator):
        return drawn(n, (target + 1) % 3, generator)

    drawn = fitted.lens.sample
    if held == "class":
        monkeypatch.setattr(type(fitted.lens), "counterfactual", counterfactual)
    else:
        monkeypatch.setattr(type(fitted.lens), "sample", sample)
    with pytest.warns(XlensWarning, match="8 of 8 samples are not at the boundary"):
        ask("sample", 8, 1, amount="boundary")


def test_without_a_class_every_class_has_its_turn(ask, fitted):
    found = ask("sample", 7)
    with torch.no_grad(), fitted.classifier.frozen():
        assert fitted.classifier(found).argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_attributes_are_set(ask, fitted):
    found = ask("sample", 4, 2, attributes={"bright": 0.5})
    codes = fitted.lens.encode(ask("sample", 4, 2))
    codes[:, 64:128] = 0.5
    assert torch.allclose(found, fitted.lens.decode(codes), atol=1e-5)


def test_what_cannot_be_drawn(ask):
    for wrong, message in (
        ({"amount": 1.5}, "amount must be a number from 0 to 1, or 'boundary', got 1.5"),
        ({"amount": True}, "amount must be"),
        ({"amount": "edge"}, "amount must be"),
        ({"attributes": ["bright"]}, "attributes must be a dict"),
        ({"attributes": {"bright": float("nan")}}, "finite numbers"),
        ({"attributes": {"brigt": 1.0}}, "there is no feature 'brigt'.*Did you mean 'bright'"),
    ):
        with pytest.raises(OptionError, match=message):
            ask("sample", 2, 1, **wrong)
    vectors = xlens.fit(torch.nn.Linear(6, 2), torch.randn(20, 6), toys.Plain(), progress=False)
    with pytest.raises(UnsupportedError, match="backends that can: .*dif.*jlvm.*medxgan"):
        vectors.sample(2, 1)
