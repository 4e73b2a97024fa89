"""What every backend has from its base, and what it is told of the data."""

import pytest
import torch
import toys

from xlens.contracts.backend import Spec
from xlens.errors import NotFittedError
from xlens.nn import ImageEncoder


def test_a_backend_explains_nothing_before_it_is_fitted():
    with pytest.raises(NotFittedError, match=r"toy: nothing is fitted yet.*xlens.fit\(model, data, backend\)"):
        toys.Toy().explain(torch.zeros(1, 1, 8, 8))


def test_a_constant_channel_has_a_span_of_one():
    spec = Spec(
        shape=(2, 8, 8),
        num_classes=2,
        minimum=(0.0, 1.0),
        maximum=(4.0, 1.0),
        mean=(2.0, 1.0),
        std=(1.0, 0.0),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )
    assert spec.span().flatten().tolist() == [4.0, 1.0]
    opaque = torch.cat([torch.rand(3, 1, 8, 8), torch.ones(3, 1, 8, 8)], 1)
    nearly = opaque.clone()
    nearly[:, 1] += 1e-4
    encoder = ImageEncoder(spec, 3, 4)
    assert (encoder(opaque) - encoder(nearly)).abs().max() < 1e-2
