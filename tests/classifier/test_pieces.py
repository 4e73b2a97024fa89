"""A classifier is asked in pieces of a size that its machine is quick with."""

from __future__ import annotations

import pytest
import torch

from xlens.classifier.pieces import in_pieces, piece


@pytest.mark.parametrize(("shape", "size"), [((3, 224, 224), 4), ((1, 28, 28), 835), ((3, 4096, 4096), 1)])
def test_large_inputs_are_few(shape, size):
    assert piece(torch.empty(2, *shape, device="cpu")[:1]) == size


def test_every_piece_is_asked_and_in_order():
    seen = []

    def classifier(inputs):
        seen.append(len(inputs))
        return inputs.flatten(1)[:, :2]

    inputs = torch.arange(30.0)[:, None, None, None].expand(30, 3, 224, 224)
    assert torch.equal(in_pieces(classifier, inputs)[:, 0], torch.arange(30.0))
    assert seen == [4, 4, 4, 4, 4, 4, 4, 2]


def test_of_an_accelerator_memory_is_not_in_the_way():
    assert piece(torch.empty(4, 3, 512, 512, device="meta")) == 256
