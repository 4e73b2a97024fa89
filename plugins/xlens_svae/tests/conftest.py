"""Ten digits, and the two lenses on them that several files ask."""

from types import SimpleNamespace

import pytest
import torch
from quick_svae import quick
from xlens_svae import SVAE

from xlens.datasets import small_cnn, train_classifier


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).div(16).unsqueeze(1)
    labels = torch.tensor(data.target)
    held = torch.arange(len(images)) % 4 == 0
    torch.manual_seed(0)
    model = small_cnn((1, 8, 8), 10)
    train_classifier(model, images[~held], labels[~held], steps=300, progress=False)
    return SimpleNamespace(model=model, train=images[~held], test=images[held])


@pytest.fixture(scope="session")
def fitted(digits):
    return quick(digits.model, digits.train, SVAE(steps=900, hidden=192, batch_size=96))


@pytest.fixture(scope="session")
def baseline(digits):
    return quick(digits.model, digits.train, SVAE.semi(steps=150, hidden=128, batch_size=64))
