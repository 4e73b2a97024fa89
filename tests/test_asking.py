"""Asking a lens itself: frozen, seeded, without gradients, and only a lens of the kind that is asked."""

from __future__ import annotations

import dataclasses
import types

import pytest
import torch
import toys
from guard import unchanged

import xlens
from xlens.contracts import check_count, seeded
from xlens.errors import OptionError, UnsupportedError
from xlens.fitted import _MEMBERS


def test_the_lens_is_asked_with_everything_as_it_was_afterwards(fitted, trained, images):
    trained.train()
    inputs = images[:3].clone().requires_grad_()
    with unchanged(trained), xlens.asking(fitted) as lens:
        assert lens is fitted.lens
        assert not trained.training
        codes = lens.encode(inputs)
        first = torch.rand(1)
    assert not codes.requires_grad
    with xlens.asking(fitted, toys.ToyLens, "mine"):
        assert torch.equal(torch.rand(1), first)


def test_it_is_asked_in_inference_mode_too(fitted, images):
    with torch.inference_mode(), xlens.asking(fitted) as lens:
        assert not lens.encode(images[:2]).is_inference()


def test_whatever_is_an_explainer_may_be_asked(fitted):
    alike = types.SimpleNamespace(**{name: getattr(fitted, name) for name in (*_MEMBERS, "spec")})
    for one in (alike, fitted.fitted):
        with xlens.asking(one) as lens:
            assert lens is fitted.lens


def test_what_is_no_explainer_and_a_lens_of_another_kind_are_refused(fitted):
    class Other(toys.ToyLens):
        pass

    with pytest.raises(UnsupportedError, match="mine: this lens cannot.*a ToyLens, fitted by 'toy'.*a Other"):
        with xlens.asking(fitted, Other, "mine"):
            pass
    with pytest.raises(OptionError, match="mine: explainer is no explainer. Given: Tensor"):
        with xlens.asking(torch.zeros(1), toys.ToyLens, "mine"):
            pass
    with xlens.asking(dataclasses.replace(fitted.fitted, lens=Other()), toys.ToyLens) as lens:
        assert isinstance(lens, Other)


def test_seeds_and_counts_are_checked():
    drawn = [torch.rand(3, generator=seeded(5, torch.device("cpu"))) for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], torch.rand(3, generator=seeded(6, torch.device("cpu"))))
    for wrong in (-1, 1.5, True, 2**63):
        with pytest.raises(OptionError, match="seed must be an int >= 0"):
            seeded(wrong, torch.device("cpu"))
    for wrong in (0, 2.0, True):
        with pytest.raises(OptionError, match="draw: restarts must be an int >= 1"):
            check_count("draw", wrong, "restarts")
