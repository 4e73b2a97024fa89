"""What is learned of the data before a fit."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from toys import pictures, trained_cnn

import xlens
from xlens.data import as_data
from xlens.training import survey


@pytest.fixture(scope="module")
def images():
    return pictures(96, 0)[0]


class Jittered(Dataset):
    """Another view of an input each time, as training data sets have it."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] + 0.01 * torch.randn(self.inputs.shape[1:])


def test_outputs_are_kept_only_of_inputs_that_come_back_the_same(images):
    classifier = xlens.Classifier(trained_cnn())
    with classifier.frozen():
        assert survey(classifier, as_data(images), progress=False).logits is not None
        assert survey(classifier, as_data(Jittered(images)), progress=False).logits is None


def test_the_survey_looks_at_all_of_sorted_data():
    inputs = torch.linspace(0, 1, 4000).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight[:] = torch.tensor([[-1.0], [1.0]])
        model[1].bias[:] = torch.tensor([8.0, -8.0])
    classifier = xlens.Classifier(model)
    with classifier.frozen():
        sample = survey(classifier, as_data(inputs), progress=False).sample
    assert sample.min() < 0.05
    assert sample.max() > 0.8
