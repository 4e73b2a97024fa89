"""A lens that can be taught, and pictures to ask about."""

import pytest
import torch
from torch import nn

import xlens


@pytest.fixture(scope="module")
def pool():
    """Pictures that are bright on the left or on the right, by more or less."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(160, 1, 8, 8, generator=generator)
    images[::2, ..., :4] += torch.rand(80, 1, 1, 1, generator=generator)
    images[1::2, ..., 4:] += torch.rand(80, 1, 1, 1, generator=generator)
    return images


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def folder(pool, model, tmp_path_factory):
    """A lens of which nothing is known yet."""
    fitted = xlens.fit(
        xlens.Classifier(model, layer="1"), pool, "ilvm", attributes=("left", "how much"),
        kinds=("binary", "ordinal:3"), steps=60, layers=1, hidden=8, teaching_steps=120, progress=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("lens")
    fitted.save(path)
    return path


@pytest.fixture
def fresh(folder, model, tmp_path):
    """A copy of the lens in a folder of its own."""
    explainer = xlens.load(folder, model)
    explainer.save(tmp_path / "lens")
    return explainer, tmp_path / "lens"
