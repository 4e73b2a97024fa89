"""Classes by name, wherever a class is asked for."""

import numpy as np
import pandas as pd
import pytest
import torch

import xlens
from xlens.errors import DataError
from xlens.evaluation import flip_distance


@pytest.fixture(scope="module")
def named(fitted):
    """The fitted explainer with names of its classes."""
    classifier = xlens.Classifier(fitted.classifier.model, class_names=("none", "bright", "dark"))
    return xlens.LensExplainer(fitted.fitted.around(classifier))


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_name_is_its_index(named, images):
    for target, contrast, index, against in [
        ("bright", "dark", 1, 2),
        (["bright", "dark", "none"], "bright", None, None),
        (np.array(["bright", "dark", "none"]), ("dark", "none", "dark"), [1, 2, 0], [2, 0, 2]),
    ]:
        if index is None:
            with pytest.raises(DataError, match="same class"):
                named.explain(images[:3], target=target, contrast=contrast)
            continue
        found = named.explain(images[:3], target=target, contrast=contrast, attributions=())
        assert torch.equal(found.target, torch.as_tensor(index).expand(3))
        assert torch.equal(found.contrast, torch.as_tensor(against).expand(3))
    by_name = named.counterfactual(images[:2], target="bright", contrast="none")
    assert torch.equal(by_name, named.counterfactual(images[:2], target=1, contrast=0))
    by_name = flip_distance(named, images[:2], target="bright", contrast="none")
    assert torch.equal(by_name.flip, flip_distance(named, images[:2], target=1, contrast=0).flip)
    asked = {"methods": ["random"], "progress": False}
    by_name = xlens.evaluate(named, images[:4], target=["bright"] * 4, contrast="none", **asked)
    assert by_name.records() == xlens.evaluate(named, images[:4], target=1, contrast=0, **asked).records()


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
@pytest.mark.parametrize(
    "classes",
    [
        np.array([2, 0, 1], dtype=">i2")[::-1],
        np.array([1, 0, 2], dtype=np.uint64),
        pd.Series([1, 0, 2], index=[7, 8, 9]),
        pd.Series([1, 0, 2], dtype="Int64"),
    ],
    ids=["mirrored and big-endian", "unsigned", "column", "column with room for none"],
)
def test_classes_are_the_same_however_they_lie(fitted, images, classes):
    found = fitted.counterfactual(images[:3], target=classes, contrast=np.array([2, 1, 0])[::-1].copy()[::-1])
    right = fitted.counterfactual(images[:3], target=torch.tensor([1, 0, 2]), contrast=[2, 1, 0])
    assert torch.equal(found, right)


@pytest.mark.filterwarnings("ignore::xlens.errors.XlensWarning")
def test_a_class_as_an_unsigned_number(fitted, images):
    assert fitted.explain(images[:1], target=np.uint64(1), attributions=()).target.tolist() == [1]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("brigt", "Did you mean 'bright'"),
        ("1", "Allowed: none, bright, dark"),
        (["bright", "drak"], "Did you mean 'dark'"),
        (["bright", 1], "names alone, or their indices alone"),
        (["bright"] * 3, "or 2 of them"),
        ("\ud800", "ud800"),
    ],
)
def test_what_is_no_name_is_refused(named, images, target, says):
    with pytest.raises(DataError, match=says):
        named.explain(images[:2], target=target)


def test_a_name_of_two_classes_says_nothing(fitted, images):
    twice = xlens.Classifier(fitted.classifier.model, class_names=("a", "b", "a"))
    explainer = xlens.LensExplainer(fitted.fitted.around(twice))
    with pytest.raises(DataError, match="name of several classes.*class 0 and class 2"):
        explainer.explain(images[:2], target="a")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("explain", lambda e, x, **c: e.explain(x, **c)),
        ("counterfactual", lambda e, x, **c: e.counterfactual(x, **c)),
        ("flip_distance", lambda e, x, **c: xlens.evaluation.flip_distance(e, x, **c)),
    ],
)
def test_errors_name_the_method_that_was_called(fitted, images, name, call):
    for wrong in ({"target": 99}, {"contrast": 99}, {"target": 0, "contrast": 0}):
        with pytest.raises(DataError, match=f"^{name}: "):
            call(fitted, images[:2], **wrong)
