"""What is trained here may draw from the global generators."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _global_generators():
    with torch.random.fork_rng():
        yield
