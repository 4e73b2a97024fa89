"""Arrays as people have them: the same inputs whatever their strides, byte order and rights."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from xlens.data import as_data, as_inputs
from xlens.data.numbers import as_tensor
from xlens.errors import DataError

X = np.arange(7 * 2 * 3, dtype=np.float32).reshape(7, 2, 3)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def mapped(array, folder):
    np.save(folder / "x.npy", array)
    return np.load(folder / "x.npy", mmap_mode="r")


#: The same numbers, lying otherwise.
LYING = {
    "mirrored": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "upside down": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "little-endian": lambda x: x.astype(x.dtype.newbyteorder("<")),
    "columns first": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "read-only": read_only,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape))[1],
    "long doubles": lambda x: x.astype(np.longdouble),
    "half": lambda x: x.astype(np.float16),
    "unmasked": np.ma.MaskedArray,
}


@pytest.mark.parametrize("how", LYING)
def test_an_array_is_the_same_however_it_lies(how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lying = LYING[how](X)
        assert torch.equal(as_inputs(lying, (2, 3)), torch.from_numpy(X))
        assert torch.equal(as_data(lying).take(torch.arange(7)).inputs, torch.from_numpy(X))
        batches = as_data([lying[:4], lying[4:]]).batches()
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), torch.from_numpy(X))


@pytest.mark.parametrize("how", LYING)
def test_the_items_of_a_data_set_are_the_same_however_they_lie(how):
    class Rows(Dataset):
        def __len__(self):
            return 7

        def __getitem__(self, i):
            return LYING[how](X[i])

    assert torch.equal(as_data(Rows()).take(torch.arange(7)).inputs, torch.from_numpy(X))


@given(
    order=st.sampled_from("<>="),
    kind=st.sampled_from(["f2", "f4", "f8", "i2", "i4", "u1", "u2", "?"]),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    axes=st.permutations([0, 1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_any_view_is_read_as_numpy_reads_it(order, kind, flips, axes):
    base = (X % 2).astype(f"{order}{kind}").transpose(axes)
    view = base[tuple(slice(None, None, step) for step in flips)]
    view.flags.writeable = False
    found = as_tensor(view)
    assert found.tolist() == view.tolist()


def test_a_mapped_file_is_left_as_it_is(tmp_path):
    x = mapped(X, tmp_path)
    assert torch.equal(as_inputs(x, (2, 3)), torch.from_numpy(X))
    as_data(x).take(torch.arange(2)).inputs.zero_()
    assert (np.load(tmp_path / "x.npy") == X).all()


def test_what_is_shared_is_never_written_to():
    x = read_only(X)
    as_tensor(x).zero_()
    assert (x == X).all()


def test_a_data_frame_is_a_table():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    assert torch.equal(as_inputs(frame, (2,)), torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


def test_a_data_frame_is_gone_through_by_its_rows():
    frame = pd.DataFrame({"a": np.arange(4, dtype=np.float32), "b": 1.0})
    labels = pd.Series([0, 1, 1, 0], index=[9, 8, 7, 6])
    for data in (frame, (frame, labels), (frame, labels.to_numpy())):
        found = as_data(data).take(torch.arange(4))
        assert torch.equal(found.inputs, torch.tensor(frame.to_numpy(), dtype=torch.float32))
        assert found.labels is None if data is frame else found.labels.tolist() == [0, 1, 1, 0]


def test_other_layouts_of_torch():
    x = torch.from_numpy(X)
    assert torch.equal(as_inputs(x.to_sparse(), (2, 3)), x)
    assert torch.equal(as_inputs(torch.nested.nested_tensor(list(x)), (2, 3)), x)
    with pytest.raises(DataError, match="not a tensor or array"):
        as_inputs(torch.nested.nested_tensor([x[0], x[0, :1]]), (2, 3))
    assert as_inputs(np.full((1, 2, 3), 2**64 - 1, np.uint64), (2, 3)).min() > 0
    assert torch.allclose(as_inputs(torch.quantize_per_tensor(x, 0.5, 0, torch.quint8), (2, 3)), x)


@pytest.mark.parametrize(
    "strange",
    [
        X.astype(np.complex64),
        torch.from_numpy(X).to(torch.complex64),
        np.ma.masked_less(X, 3),
        X.astype(str),
        X.astype(object),
        np.array([(1.0, 2)], dtype=[("a", "f4"), ("b", "i4")]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        [X[0], X[0, :1]],
        torch.from_numpy(X).to("meta"),
    ],
    ids=["complex", "complex tensor", "masked", "text", "objects", "records", "dates", "two shapes", "meta"],
)
def test_what_is_no_numbers_is_refused(strange):
    with pytest.raises(DataError):
        as_inputs(strange, (2, 3))
    if not isinstance(strange, list):
        with pytest.raises(DataError):
            list(as_data(strange).batches())
