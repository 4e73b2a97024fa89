"""How far the decision is, against a fine walk."""

import dataclasses

import pytest
import torch
import toys
from directed import Directed
from guard import unchanged

from xlens.evaluation import flip_distance


@pytest.fixture(scope="module")
def directed(fitted):
    return toys.explainer_with(Directed(), fitted)


def test_it_says_where_the_decision_flips(directed, trained, images, labels):
    plain = images[labels == 0][:6]
    with unchanged(trained):
        found = flip_distance(directed, plain, target=0, contrast=1)
    torch.testing.assert_close(found.used, torch.full((6,), 9.0))
    codes = plain.flatten(1)
    for i in range(6):
        distances = torch.linspace(0, 9, 721)
        path = (codes[i] + distances[:, None] * directed.lens.patch).view(-1, 1, 8, 8)
        with torch.no_grad(), directed.classifier.frozen():
            flipped = directed.classifier(path).argmax(1) == 1
        assert flipped.any()
        assert found.flip[i] == pytest.approx(float(distances[flipped][0]), abs=0.04)
    # Away from it, f never sees a bright patch.
    assert flip_distance(directed, plain, target=0, contrast=2).flip.shape == (6,)
    never = flip_distance(toys.explainer_with(toys.StuckLens(), directed), plain, target=0, contrast=1)
    assert never.flip.isinf().all()
    assert not never.used.any()
    assert not never.reached.any()


def test_it_says_whether_the_margin_of_real_inputs_was_reached(directed, images, labels):
    plain = images[labels == 0][:6]
    with torch.no_grad(), directed.classifier.frozen():
        logits = directed.classifier((plain.flatten(1) + 9 * directed.lens.patch).view(-1, 1, 8, 8))
    margins = logits[:, 1] - logits[:, 0]
    assert (logits.argmax(1) == 1).all()

    def asked(goal):
        table = [[0.0, 1.0, 1.0], [goal, 0.0, 1.0], [1.0, 1.0, 0.0]]
        spec = dataclasses.replace(directed.spec, class_margins=tuple(map(tuple, table)))
        return flip_distance(dataclasses.replace(directed.fitted, spec=spec), plain, target=0, contrast=1).reached

    middle = float(margins.sort().values[2:4].mean())
    assert asked(middle).equal(margins >= middle)
    assert asked(middle).sum() == 3
    # The margin of a class without inputs is not known: 1, the median of the others, stands in.
    assert asked(0.0).equal(margins >= 1)
