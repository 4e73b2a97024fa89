"""Loaders that cannot put their items together: said in words; what the data set itself raises is left alone."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import xlens
from xlens.data import as_data
from xlens.errors import DataError


class Beside(Dataset):
    """Inputs with something beside them."""

    def __init__(self, inputs, beside):
        self.inputs, self.beside = inputs, beside

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        if isinstance(self.beside, Exception):
            raise self.beside
        return self.inputs[index], self.beside


def strict(items):
    return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("collate", [None, strict])
def test_a_collate_function_that_fails_on_none_is_refused_in_words(images, workers, collate):
    data = as_data(DataLoader(Beside(images, None), 16, num_workers=workers, collate_fn=collate))
    with pytest.raises(DataError, match="cannot put.*NoneType.*pass the data set itself") as said:
        next(data.batches())
    assert isinstance(said.value.__cause__, TypeError | RuntimeError)


def test_the_data_set_itself_is_taken(trained, images):
    whole = xlens.fit(trained, images, "svae", steps=1, mask=xlens.MaskOptions(steps=1, pool=64), progress=False)
    beside = Beside(images, None)
    found = xlens.fit(trained, beside, "svae", steps=1, mask=xlens.MaskOptions(steps=1, pool=64), progress=False)
    first, second = whole.lens.state_dict(), found.lens.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_the_data_set_raises_is_left_alone(images):
    for workers in (0, 1):
        with pytest.raises(ValueError, match="a broken file"):
            next(
                as_data(DataLoader(Beside(images, ValueError("a broken file")), 16, num_workers=workers)).batches()
            )
