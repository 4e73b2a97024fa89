"""scikit-learn's digits, a network trained on them, and side information on some of them."""

import pytest
from on_digits import hidden, load, train
from torch import nn


@pytest.fixture(scope="session")
def digits():
    return load()


@pytest.fixture(scope="session")
def model(digits):
    return train(digits)


@pytest.fixture(scope="session")
def flat(digits, model):
    """The same as vectors, which need no mask: images and a classifier of them."""
    return digits[0].flatten(1), nn.Sequential(nn.Unflatten(1, (1, 8, 8)), model)


@pytest.fixture(scope="session")
def some(digits):
    return hidden(digits)
