"""Labels: looked at where they are used, and anything else beside the inputs left alone."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import xlens
from xlens.data import as_data
from xlens.errors import DataError, XlensWarning

X = torch.arange(6 * 2 * 3, dtype=torch.float32).view(6, 2, 3)
Y = torch.arange(6) % 2


class Rows(Dataset):
    """Inputs with something beside each."""

    def __init__(self, beside, key=None):
        self.beside, self.key = beside, key

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return {"image": X[i], self.key: self.beside[i]} if self.key else (X[i], self.beside[i])


class Stream(IterableDataset):
    """The same, as a stream."""

    def __init__(self, beside):
        self.beside = beside

    def __iter__(self):
        return zip(X, self.beside, strict=True)


#: What lies beside six inputs and is no label, as one thing for each.
BESIDE = {
    "names of files": [f"{i}.png" for i in range(6)],
    "boxes": [torch.rand(i, 4) for i in range(6)],
    "dicts": [{"boxes": torch.rand(i, 4), "labels": torch.arange(i)} for i in range(6)],
    "two targets": [(0, 1), (1, 0), (0, 1), (1, 0), (1, 0), (0, 1)],
    "targets of different kinds": [(i, f"{i}") for i in range(6)],
    "none": [None] * 6,
    "some": [0, None, 1, 0, None, 1],
    "masks": [torch.ones(3, 3) for _ in range(6)],
    "objects": [object() for _ in range(6)],
    "several labels": [torch.tensor([1, 1, 0]) for _ in range(6)],
}


def test_of_several_targets_beside_the_inputs_the_first_are_the_labels():
    others = torch.arange(6.0)
    for form in [(X, Y, others), [X, Y, others], (X.numpy(), Y.numpy(), others.numpy()), (X, Y, others, None)]:
        labels = [batch.labels for batch in loaded(form)]
        assert torch.equal(torch.cat(labels), Y)
    assert all(batch.labels is None for batch in loaded((X, None, others)))
    for first in (Y[:, None], torch.eye(2)[Y], Y.tolist(), pd.Series(Y.numpy()), Y.numpy()):
        labels = [batch.labels for batch in loaded((X, first, others))]
        assert torch.equal(torch.cat(labels), Y)
    for name, beside in BESIDE.items():
        assert all(batch.labels is None for batch in loaded((X, beside, others))), name
    frame = pd.DataFrame(X.flatten(1).numpy())
    assert torch.equal(torch.cat([batch.labels for batch in as_data((frame, Y, others)).batches(4)]), Y)
    for three in [(X, X, X), [X, X, X]]:
        assert sum(len(batch.inputs) for batch in as_data(three).batches(4)) == 18


def loaded(batches):
    found = list(as_data(batches).batches(4))
    assert torch.equal(torch.cat([batch.inputs for batch in found]), X)
    return found


def test_several_labels_of_each_input_beside_classes_are_warned_of(trained, images):
    classifier = xlens.Classifier(trained)
    # Outside of this a network in train mode takes note of what it sees, and this one is the other tests' too.
    with classifier.frozen():
        rows = torch.ones(len(images), int(classifier(images[:1]).shape[1]))
    mask = xlens.MaskOptions(steps=1, pool=64)
    for data in [(images, rows), TensorDataset(images, rows), DataLoader(TensorDataset(images, rows), 32)]:
        with pytest.warns(XlensWarning, match="as of independent labels.*outputs='multilabel'"):
            xlens.fit(trained, data, "svae", steps=1, mask=mask, progress=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for beside in (torch.eye(rows.shape[1])[torch.arange(len(images)) % rows.shape[1]], rows[:, :-1], rows / 2):
            xlens.fit(trained, (images, beside), "svae", steps=1, mask=mask, progress=False)
        labels = xlens.Classifier(trained, outputs="multilabel", label=0)
        xlens.fit(labels, (images, rows), "svae", steps=1, mask=mask, progress=False)
    assert not any("independent labels" in str(one.message) for one in seen)


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_no_label_is_left_alone(name):
    beside = BESIDE[name]
    forms = [
        Rows(beside),
        Rows(beside, key="label"),
        Stream(beside),
        DataLoader(Rows(beside), batch_size=4, collate_fn=lambda rows: (torch.stack([x for x, _ in rows]), rows)),
        (X, beside),
        (X.numpy(), beside),
        [(X[:4], beside[:4]), (X[4:], beside[4:])],
    ]
    for form in forms:
        for batch in loaded(form):
            assert batch.labels is None
            assert batch.unlabelled


WHOLE = {
    "none": None,
    "text": pd.Series(list("abcdef")),
    "frame": pd.DataFrame({"a": range(6), "b": range(6)}),
    "dict": {"boxes": torch.rand(6, 4)},
    "boxes": torch.rand(6, 4),
    "boxes of many": torch.rand(6, 5, 4),
    "two targets": (Y, 1 - Y),
    "two arrays": [Y.numpy(), Y.numpy()],
    "path": "labels.csv",
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_lies_whole_beside_the_inputs_is_left_alone(name):
    assert all(batch.labels is None for batch in loaded((X, WHOLE[name])))


LABELS = {
    "tensor": Y,
    "array": Y.numpy(),
    "big-endian": Y.numpy().astype(">i8"),
    "mirrored": Y.flip(0).numpy()[::-1],
    "list": Y.tolist(),
    "column": Y[:, None],
    "series": pd.Series(Y.numpy()),
    "frame": pd.DataFrame({"y": Y.numpy()}),
    "one-hot": torch.eye(2)[Y],
    "one-hot ints": torch.eye(2, dtype=torch.long)[Y].numpy(),
    "one-hot of three": torch.eye(3, dtype=torch.bool)[Y],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_every_form_are_classes(name):
    labels = LABELS[name]
    forms = [(X, labels), [(X[:4], labels[:4]), (X[4:], labels[4:])]]
    if isinstance(labels, torch.Tensor):
        forms += [TensorDataset(X, labels), DataLoader(TensorDataset(X, labels), batch_size=4)]
    for form in forms:
        assert torch.equal(torch.cat([batch.labels for batch in loaded(form)]).long(), Y)


def test_two_batches_are_no_pair():
    assert len(list(as_data([X, X + 1]).batches())) == 2
    assert len(list(as_data([(X, Y), (X, Y)]).batches())) == 2
    assert len(list(as_data([X, (X + 1, Y)]).batches())) == 2


@given(st.integers(2, 5), st.integers(1, 8), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_one_hot_rows_are_their_class_and_nearly_one_hot_rows_are_none(classes, n, seed):
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    inputs, rows = torch.rand(n, 1, 2, 2), torch.eye(classes)[labels]
    assert torch.equal(as_data((inputs, rows)).take(torch.arange(n)).labels, labels)
    soft = rows.clone()
    soft[seed % n] = 1 / classes
    assert as_data((inputs, soft)).take(torch.arange(n)).labels is None


def test_another_number_of_labels_is_no_labels():
    for form in ((X, Y[:4]), (X, Y[:4].tolist()), (X, pd.Series(Y[:4].numpy())), [(X, Y[:4]), (X, torch.zeros(4))]):
        (found, *_) = as_data(form).batches()
        assert found.labels is None
        assert found.unlabelled == "4 labels for 6 inputs"


@pytest.mark.usefixtures("toy_installed")
class TestSupervision:
    """``supervision="labels"`` uses them, and says what is wrong."""

    def fit(self, trained, data):
        import toys

        return xlens.fit(trained, data, toys.Toy(), supervision="labels", mask=toys.SHORT_MASK, progress=False)

    def test_one_hot_rows_are_taken_for_classes(self, trained, images, labels):
        explainer = self.fit(trained, (images, torch.eye(3)[labels]))
        assert explainer.provenance["supervision"] == "labels"

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda labels: [f"{i}.png" for i in labels], "a list of str.*no numbers"),
            (lambda labels: None, "no labels"),
            (lambda labels: torch.rand(len(labels), 4), r"shape \(96, 4\).*one-hot"),
            (lambda labels: (labels, labels), "several targets"),
            (lambda labels: labels[:-2], "94 labels for 96 inputs"),
            (lambda labels: torch.eye(4)[labels + 1], "outside the classifier's classes"),
        ],
        ids=["names", "none", "boxes", "two", "fewer", "outside"],
    )
    def test_what_is_no_label_is_said(self, trained, images, labels, change, says):
        with pytest.raises(DataError, match=says):
            self.fit(trained, (images, change(labels)))

    @pytest.mark.parametrize("name", ["names of files", "two targets", "dicts"])
    def test_of_a_data_set_too(self, trained, images, name):
        class Images(Rows):
            def __getitem__(self, i):
                return images[i], BESIDE[name][i]

        with pytest.raises(DataError, match="have no labels. Given: a list of"):
            self.fit(trained, Images(None))


def test_a_planted_fault_is_found(monkeypatch):
    """Were everything beside the inputs made a batch of, as a loader does, most of the above would fail."""
    from torch.utils.data import default_collate

    with pytest.raises((TypeError, RuntimeError, AttributeError, UserWarning)):
        default_collate([Rows(BESIDE["boxes"])[i] for i in range(6)])
