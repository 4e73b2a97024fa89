"""Fixtures: one toy classifier and one fitted lens for the whole session."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch
import toys

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images():
    return toys.pictures(96, seed=1)[0]


@pytest.fixture(scope="session")
def labels():
    return toys.pictures(96, seed=1)[1]


@pytest.fixture(scope="session")
def trained():
    """The trained network; handed over in train mode, with a hook, and one gradient in place."""
    return toys.trained_cnn()


@pytest.fixture(scope="session")
def fitted(trained):
    """An explainer with a faithful lens, whose mask is fitted in full."""
    import xlens

    return xlens.fit(trained, toys.pictures(240, seed=0)[0], toys.Toy(), progress=False)


@pytest.fixture(scope="session")
def digits():
    """A small network that tells two digits apart, and their images."""
    from xlens.demo import load_images, small_cnn, train_classifier

    torch.manual_seed(0)
    images = load_images("digits")
    model = small_cnn((1, 8, 8))
    train_classifier(model, images.train, images.train_labels, steps=150, progress=False)
    return model, images


@pytest.fixture
def short_mask(monkeypatch):
    """Fit the mask in three steps, for tests in which it does not matter."""
    monkeypatch.setattr("xlens.training.edit_mask._STEPS", 3)


@pytest.fixture
def toy_installed(monkeypatch):
    """Make the toy backends the only installed ones."""

    def entry_points(group):
        return [
            importlib.metadata.EntryPoint(name, f"toys:{variable}", group)
            for name, variable in (("toy", "TOY_PLUGIN"), ("plain", "PLAIN_PLUGIN"))
        ]

    monkeypatch.setattr("xlens.registry.entry_points", entry_points)
