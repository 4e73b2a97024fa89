"""New inputs drawn from a lens."""

from __future__ import annotations

import pytest
import torch
import toys

from xlens.errors import DataError, OptionError


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
