"""What the doctests in the package may use: a small classifier, its images and a fitted explainer.

And in which order several workers take the files of tests.
"""

import importlib
from collections import Counter

import pytest
from longest import LONGEST


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config):
    """Have files handed out in the order below, and not by how many tests they have."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config, items):
    """Put the files that take longest first, and of the others those with most tests."""
    if not hasattr(config, "workerinput"):
        return
    file_of = lambda item: item.nodeid.split("::")[0]  # noqa: E731
    count = Counter(map(file_of, items))
    items.sort(key=lambda item: (-LONGEST.get(file_of(item), 0), -count[file_of(item)]))


@pytest.fixture(scope="session")
def _doctest_objects():
    import torch

    import xlens
    from xlens.datasets import load_images, small_cnn, train_classifier

    torch.manual_seed(0)
    images = load_images("digits")
    classifier = small_cnn((1, 8, 8))
    train_classifier(classifier, images.train, images.train_labels, steps=60, progress=False)
    explainer = xlens.fit(
        classifier, images.train, backend="medxgan", steps=30, mask=xlens.MaskOptions(steps=60), progress=False
    )
    return {"classifier": classifier, "images": images.train, "explainer": explainer}


@pytest.fixture(autouse=True)
def _doctest_names(request, doctest_namespace):
    if isinstance(request.node, pytest.DoctestItem):
        names = {"classifier", "images", "explainer"}
        sources = "".join(example.source for example in request.node.dtest.examples)
        if any(name in sources for name in names):
            doctest_namespace.update(request.getfixturevalue("_doctest_objects"))
            # What an example shows does not depend on how well a mask is fitted.
            _fit_short_masks(request.getfixturevalue("monkeypatch"))


def _fit_short_masks(monkeypatch):
    import xlens
    from xlens.api import fit

    def briefly(model, *args, mask=None, **options):
        # On a hidden layer there is none.
        short = None if getattr(model, "layer", None) else xlens.MaskOptions(steps=3, batch_size=16, pool=64)
        return fit(model, *args, mask=mask or short, **options)

    monkeypatch.setattr("xlens.api.fit", briefly)
    # By its module: in the package, the name is that of a function, which has taken the other by its name.
    monkeypatch.setattr(importlib.import_module("xlens.at_once"), "fit", briefly)
