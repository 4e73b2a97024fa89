"""Labels beside the data of an audit: taken, or refused in words, and never dropped."""

import numpy as np
import pytest
import torch
from shortcuts import SIDE, ByStamp, NoEdits, explainer_of, stamped
from torch.utils.data import DataLoader, TensorDataset

import xlens
from xlens.auditing.remedy import remedied
from xlens.errors import DataError
from xlens.fitted import Fitted

IMAGES, LABELS, _ = stamped(64)
#: For the independent labels "a", "b" and "c": the stamp is "b".
TABLE = torch.stack([1 - LABELS, LABELS, (torch.arange(64) % 3 == 0).long()], 1)


class Several(torch.nn.Module):
    """Three independent labels, of which the stamp is the second."""

    def forward(self, images):
        other, stamp = ByStamp()(images).unbind(1)
        return torch.stack([other - stamp, stamp, other], 1)


class Items(torch.utils.data.Dataset):
    """Inputs with anything beside them."""

    def __init__(self, beside):
        self.beside = beside

    def __len__(self):
        return len(self.beside)

    def __getitem__(self, i):
        return IMAGES[i], self.beside[i]


def about(label="b", names="abc"):
    classifier = xlens.Classifier(Several().eval(), outputs="multilabel", labels=names and [*names], label=label)
    like = explainer_of(ByStamp()).fitted
    return xlens.LensExplainer(Fitted(classifier, NoEdits().eval(), like.spec, None, like.backend, {"seed": 0}))


@pytest.fixture(scope="module")
def found():
    return xlens.audit(explainer_of(ByStamp()), (IMAGES, LABELS), search="windows", progress=False)


ODD = {
    "words in a list": (IMAGES, ["odd", "even"] * 32),
    "words in an array": (IMAGES, np.array(["odd", "even"] * 32)),
    "too few": (IMAGES, LABELS[:60]),
    "none for any": (IMAGES, []),
    "several of each": (IMAGES, TABLE),
    "several in lists": (IMAGES, TABLE.tolist()),
    "some missing": (IMAGES, [None, *LABELS[1:].tolist()]),
    "a data set of words": Items(["odd", "even"] * 32),
    "a data set of rows": Items(TABLE),
    "a loader of rows": DataLoader(TensorDataset(IMAGES, TABLE), batch_size=20),
    "batches of words": [(IMAGES[:32], ["odd"] * 32), (IMAGES[32:], ["even"] * 32)],
    "a dict of words": [{"image": IMAGES, "label": ["odd"] * 64}],
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_is_no_labels_is_refused_by_audit_and_remedy(found, data):
    with pytest.raises(DataError, match="^audit: what lies beside the inputs cannot be used as labels.*What to do"):
        xlens.audit(explainer_of(ByStamp()), data, progress=False)
    with pytest.raises(DataError, match=r"^Audit.remedy: what lies beside the inputs.*What to do"):
        found.remedy(data, 0)


NONE = {
    "inputs alone": IMAGES,
    "an array": IMAGES.numpy(),
    "None beside them": (IMAGES, None),
    "a None for each": (IMAGES, [None] * 64),
    "a data set without": TensorDataset(IMAGES),
    "a data set of None": Items([None] * 64),
    "batches": [IMAGES[:32], IMAGES[32:]],
    "a dict without": [{"image": IMAGES}],
}


@pytest.mark.parametrize("data", NONE.values(), ids=NONE)
def test_where_none_are_given_none_are_known(found, data):
    done = xlens.audit(explainer_of(ByStamp()), data, n=8, search="windows", progress=False)
    assert (done.seen.label == -1).all()
    with pytest.raises(DataError, match="accuracy needs labels"):
        found.remedy(data, 0)


def test_batches_of_which_some_have_labels_keep_these():
    data = [(IMAGES[:32], LABELS[:32]), IMAGES[32:]]
    done = xlens.audit(explainer_of(ByStamp()), data, search="windows", progress=False)
    order = done.seen.input.argsort()
    assert done.seen.label[order].tolist() == [*LABELS[:32].tolist(), *[-1] * 32]


pandas = pytest.importorskip("pandas")
FITTING = {
    "classes": (IMAGES, LABELS),
    "a table": (IMAGES, TABLE),
    "a table of floats": (IMAGES, TABLE.numpy().astype(float)),
    "a table of bools": (IMAGES, TABLE.bool()),
    "one-hot rows of all labels": (IMAGES, torch.stack([1 - LABELS, LABELS, 0 * LABELS], 1)),
    "one-hot rows of no and yes": (IMAGES, torch.stack([1 - LABELS, LABELS], 1)),
    "unknown in other columns": (IMAGES, torch.stack([torch.full((64,), torch.nan), LABELS, -LABELS], 1)),
    "a data frame without names": (IMAGES, pandas.DataFrame(TABLE.numpy())),
    "a data set": TensorDataset(IMAGES, TABLE),
    "a data set of arrays": Items(TABLE.numpy()),
    "a loader": DataLoader(TensorDataset(IMAGES, TABLE), batch_size=20),
}


NAMED = {
    "a data frame": (IMAGES, pandas.DataFrame(TABLE.numpy(), columns=["a", "b", "c"])),
    "columns in another order": (IMAGES, pandas.DataFrame(TABLE.numpy()[:, [1, 2, 0]], columns=["b", "c", "a"])),
    "more columns": (IMAGES, pandas.DataFrame({"age": range(64), "b": LABELS.numpy()})),
}
CASES = [(about(label, names), data) for label, names in (("b", "abc"), (1, None)) for data in FITTING.values()]
CASES += [(about(), data) for data in NAMED.values()]


@pytest.mark.parametrize(
    ("explainer", "data"), CASES, ids=[*FITTING, *(f"{one}, no names" for one in FITTING), *NAMED]
)
def test_of_several_labels_the_lens_takes_its_own(explainer, data):
    done = xlens.audit(explainer, data, n=24, search="windows", progress=False)
    assert done.seen.label.tolist() == LABELS[torch.from_numpy(done.seen.input)].tolist()
    # Nothing is filled: the accuracy is that of the classifier, by these labels.
    right = explainer.fitted.probabilities(IMAGES).argmax(1) == LABELS
    assert remedied(explainer.fitted, data, []).accuracy == pytest.approx(float(right.double().mean()))


UNCLEAN = {
    "unknown": TABLE * 2 - 1,
    "NaN": torch.where(TABLE == 1, 1.0, torch.nan),
    "shares": TABLE * 0.5,
    "too few columns": torch.cat([TABLE, TABLE], 1)[:, :5],
    "two columns of many": TABLE[:, 1:],
    "other columns": pandas.DataFrame({"a": LABELS.numpy(), "age": range(64), "c": range(64)}),
}


@pytest.mark.parametrize("table", UNCLEAN.values(), ids=UNCLEAN)
def test_where_its_own_cannot_be_told_the_error_says_to_pass_it(table):
    with pytest.raises(DataError, match=r"^audit: the lens is about the label 'b'.*pass the column of that label"):
        xlens.audit(about(), (IMAGES, table), progress=False)
    with pytest.raises(DataError, match=r"^Audit.remedy: the lens is about .*\(X, Y\[:, 1\]\)"):
        remedied(about().fitted, (IMAGES, table), [])


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 48, 48), (3, SIDE, SIDE), (1, 1, 1), (SIDE, SIDE)])
def test_inputs_of_another_shape_are_refused_by_audit_and_remedy(found, shape):
    data = torch.rand(8, *shape), torch.arange(8) % 2
    for call in (lambda: xlens.audit(explainer_of(ByStamp()), data), lambda: found.remedy(data, 0)):
        with pytest.raises(DataError, match="not the shape that the lens was fitted on"):
            call()
