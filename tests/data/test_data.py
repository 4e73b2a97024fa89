"""Data in every form, read lazily, with faults named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from xlens.data import as_data, as_inputs
from xlens.errors import DataError, XlensError

X = torch.arange(7 * 2 * 3, dtype=torch.float32).view(7, 2, 3)
Y = torch.arange(7) % 2


class Stream(IterableDataset):
    """Single inputs, of unknown number."""

    def __iter__(self):
        return iter(X)


class Rows(Dataset):
    """Reads lazily, and counts."""

    def __init__(self, item=lambda i: (X[i], int(Y[i])), n=7):
        self.item, self.n, self.reads = item, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.reads.append(index)
        return self.item(index)


class Again:
    """An iterable that starts anew."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


INDEXED = {
    "tensor": lambda: X,
    "array": lambda: X.numpy(),
    "float64 array": lambda: X.double().numpy(),
    "integers": lambda: X.long(),
    "bytes": lambda: X.numpy().astype(np.uint8),
    "pair": lambda: (X, Y),
    "pair with a list": lambda: (X.numpy(), Y.tolist()),
    "tensor dataset": lambda: TensorDataset(X, Y),
    "dataset of tensors": lambda: Rows(lambda i: X[i]),
    "dataset of arrays": lambda: Rows(lambda i: (X[i].numpy(), Y[i])),
    "dataset of dicts": lambda: Rows(lambda i: {"image": X[i], "label": int(Y[i])}),
}
STREAMED = {
    "loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
    "loader without labels": lambda: DataLoader(TensorDataset(X), batch_size=3),
    "loader of dicts": lambda: DataLoader(Rows(lambda i: {"pixel_values": X[i]}), batch_size=3),
    "iterable dataset": lambda: Stream(),
    "loader of an iterable dataset": lambda: DataLoader(Stream(), batch_size=3),
    "list of tensors": lambda: [X[:4], X[4:]],
    "list of pairs": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "list of dicts": lambda: [{"inputs": X[:4], "labels": Y[:4]}, {"inputs": X[4:], "labels": Y[4:]}],
    "iterable": lambda: Again([X[:4].numpy(), X[4:].numpy()]),
}


@pytest.mark.parametrize("form", INDEXED | STREAMED)
def test_every_form_gives_the_same_inputs_again_and_again(form):
    data = as_data((INDEXED | STREAMED)[form]())
    for _ in range(2):
        batches = list(data.batches(3))
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), X)
        assert all(batch.inputs.dtype == torch.float32 for batch in batches)


@pytest.mark.parametrize("form", [name for name in INDEXED | STREAMED if "pair" in name or "dict" in name])
def test_labels_are_read_where_there_are_any(form):
    batches = list(as_data((INDEXED | STREAMED)[form]()).batches(3))
    if form == "loader of dicts":
        assert all(batch.labels is None for batch in batches)
    else:
        assert torch.equal(torch.cat([batch.labels for batch in batches]), Y)


@pytest.mark.parametrize("form", INDEXED)
def test_indexed_forms_have_a_length_and_stable_positions(form):
    data = as_data(INDEXED[form]())
    assert (data.indexed, len(data)) == (True, 7)
    batch = data.take(torch.tensor([5, 0]))
    assert torch.equal(batch.inputs, X[[5, 0]])
    assert batch.index.tolist() == [5, 0]


@pytest.mark.parametrize("form", STREAMED)
def test_streams_are_not_indexed(form):
    data = as_data(STREAMED[form]())
    assert not data.indexed
    with pytest.raises(TypeError):
        len(data)


@given(st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_shuffling_shows_every_input_once(batch_size, seed):
    batches = list(as_data((X, Y)).batches(batch_size, generator=torch.Generator().manual_seed(seed)))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(7))
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), X[index])
    assert torch.equal(torch.cat([batch.labels for batch in batches]), Y[index])


def test_a_data_set_is_read_batch_by_batch():
    rows = Rows()
    data = as_data(rows)
    assert rows.reads == []
    passing = data.batches(2)
    assert rows.reads == []
    next(passing)
    assert rows.reads == [0, 1]
    list(passing)
    assert rows.reads == list(range(7))


def test_a_tensor_is_not_copied():
    assert as_data(X)._source is X


def test_data_pass_through():
    data = as_data(X)
    assert as_data(data) is data


def with_fault(value):
    inputs = X.clone()
    inputs[5, 0, 0] = value
    return inputs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iter([X]), "used up after one pass.*list_iterator"),
        (lambda: (batch for batch in [X]), "used up after one pass.*generator"),
        (lambda: X[:0], "data: empty"),
        (lambda: X.numpy()[:0], "data: empty"),
        (lambda: (X[:0], Y[:0]), "data: empty"),
        (lambda: Rows(n=0), "data: empty"),
        (lambda: DataLoader(TensorDataset(X[:0])), "data: empty"),
        (lambda: 3, "cannot make batches of this. Given: int"),
        (lambda: "images/", "Given: str.*ImageFolder"),
        (lambda: Path("images"), "Given: .*Path.*ImageFolder"),
        (lambda: Image.new("RGB", (8, 8)), r"Given: Image.*torch.stack\(\[transform"),
        (lambda: {"inputs": X}, "Given: dict"),
        (lambda: None, "Given: NoneType"),
    ],
)
def test_unusable_data_are_refused_at_once(make, message):
    with pytest.raises(DataError, match=message):
        as_data(make())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_fault(torch.nan), "input 5 has values that are not finite"),
        (lambda: with_fault(-torch.inf), "input 5 has values that are not finite"),
        (lambda: TensorDataset(with_fault(torch.nan)), "input 5 has values that are not finite"),
        (lambda: [X[:4], with_fault(torch.nan)[4:]], "not finite"),
        (lambda: [{"pixels": X}], r"without inputs. Given: keys \['pixels'\]"),
        (lambda: [X[:0]], "has no inputs"),
        (lambda: ["no", "tensors"], "does not hold tensors.*ImageFolder"),
        (lambda: [Image.new("L", (8, 8))] * 2, r"does not hold tensors.*torch.stack\(\[transform"),
        (lambda: Rows(lambda i: Image.new("L", (8, 8))), r"torch.stack\(\[transform"),
        (lambda: np.array([["a"], ["b"]]), "tensors"),
        (lambda: Rows(lambda i: object()), "tensors"),
        (lambda: Rows(lambda i: torch.zeros(i + 1)), "shape|size"),
    ],
)
def test_faults_inside_are_named_when_read(make, message):
    with pytest.raises(DataError, match=message):
        list(as_data(make()).batches(3))


def test_an_exception_of_the_users_own_code_is_not_hidden():
    def broken(_index):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(as_data(Rows(broken)).batches(3))


@pytest.mark.parametrize("form", [X, X.numpy(), X.double(), X.tolist()])
def test_inputs_to_explain(form):
    assert torch.equal(as_inputs(form, (2, 3)), X)


def test_one_input_gets_a_batch_dimension():
    assert torch.equal(as_inputs(X[0], (2, 3)), X[:1])


def test_inputs_to_explain_are_a_copy_without_history():
    inputs = X.clone().requires_grad_()
    found = as_inputs(inputs, (2, 3))
    assert not found.requires_grad
    assert found.data_ptr() != inputs.data_ptr()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(4, 3, 3), r"not the shape.*Given: \(4, 3, 3\). Allowed: \(N, 2, 3\)"),
        (X[:0], "no inputs"),
        (with_fault(torch.nan), "input 5 has values that are not finite"),
        ("x", "not a tensor or array"),
        (None, "not a tensor or array"),
        (object(), "not a tensor or array"),
    ],
)
def test_inputs_that_cannot_be_explained(inputs, message):
    with pytest.raises(XlensError, match=message):
        as_inputs(inputs, (2, 3))
