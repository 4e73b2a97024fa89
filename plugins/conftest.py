"""Fixtures that the tests of several plugins use."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """A small network that tells two digits apart, and their images."""
    from xlens.datasets import load_images, small_cnn, train_classifier

    torch.manual_seed(0)
    images = load_images("digits")
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=150, progress=False)
    return model, images
