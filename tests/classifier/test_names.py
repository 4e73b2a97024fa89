"""Names of classes in the forms in which models carry them."""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import xlens
from xlens.errors import ModelError


def names(given_names):
    return xlens.Classifier(nn.Linear(2, 3), class_names=given_names).class_names


FORMS = {
    "list": ["a", "b", "c"],
    "array": np.array(["a", "b", "c"]),
    "by index": {0: "a", 1: "b", 2: "c"},
    "in another order": {2: "c", 0: "a", 1: "b"},
    "of json": {"0": "a", "2": "c", "1": "b"},
    "by numpy's index": {np.int64(1): "b", np.int64(0): "a", np.int64(2): "c"},
    "ordered": OrderedDict([(1, "b"), (0, "a"), (2, "c")]),
    "read-only": MappingProxyType({1: "b", 0: "a", 2: "c"}),
    "keys": dict.fromkeys("abc").keys(),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_come_in_the_order_of_the_classes(form):
    assert names(FORMS[form]) == ("a", "b", "c")


@given(st.lists(st.text(), min_size=1, max_size=30), st.randoms(), st.booleans())
def test_any_order_of_a_mapping_is_the_same(given_names, draw, as_text):
    pairs = [(str(i) if as_text else i, name) for i, name in enumerate(given_names)]
    draw.shuffle(pairs)
    assert names(dict(pairs)) == tuple(given_names)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("cat", r"not names. Given: 'cat'.*pass a list: class_names=\['cat', ...\]"),
        (b"cat", "not names"),
        (3, "not names"),
        pytest.param({"cat", "dog"}, "no order", id="a set"),
        ({"cat": 0, "dog": 1}, "id2label, from index to name, and not label2id"),
        ({1: "a", 2: "b"}, "not the classes. Given: keys 1, 2.*every index from 0 to K - 1"),
        ({0: "a", 2: "b"}, "not the classes"),
        ({0: "a", "0": "b"}, "not the classes"),
        ({0: "a", "1x": "b"}, "not the classes"),
        ({True: "b", 0: "a"}, "not the classes"),
        ({0.0: "a", 1.0: "b"}, "not the classes"),
        ({-1: "a", 0: "b"}, "not the classes"),
        ({}, "not the classes"),
    ],
    ids=str,
)
def test_what_has_no_order_or_is_no_names_is_refused(wrong, says):
    with pytest.raises(ModelError, match=says):
        names(wrong)


@pytest.mark.parametrize("half", [["a", "b\udcff", "c"], {0: "a", 1: "\ud800", 2: "c"}])
def test_half_characters_are_refused_because_no_file_takes_them(half):
    with pytest.raises(ModelError, match="half characters.*Given: '.*\\\\ud.*UTF-8"):
        names(half)


@pytest.mark.usefixtures("toy_installed")
def test_id2label_reaches_the_explanation_and_the_saved_lens(trained, images, tmp_path):
    import toys

    named = xlens.Classifier(trained, class_names={"2": "dark", "0": "none", "1": "bright"})
    explainer = xlens.fit(named, images, toys.Toy(), mask=toys.SHORT_MASK, progress=False)
    explainer.save(tmp_path)
    assert xlens.load(tmp_path, trained).explain(images[:1]).class_names == ("none", "bright", "dark")
