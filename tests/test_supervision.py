"""Class labels come from f, unless the user asked for the data's own."""

import dataclasses

import torch

import xlens
from xlens.contracts import Run
from xlens.data import as_data
from xlens.training import supervising_logits, survey
from xlens.training.stream import BatchStream


def prepared(supervision):
    torch.manual_seed(0)
    classifier = xlens.Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)))
    inputs = torch.randn(40, 1, 4, 4)
    predicted = classifier(inputs).argmax(1)
    data = as_data((inputs, (predicted + 1) % 3))
    with classifier.frozen():
        found = survey(classifier, data, progress=False, use_labels=supervision == "labels")
    run = Run(seed=0, device=torch.device("cpu"), spec=found.spec, logits=found.logits, supervision=supervision)
    return classifier, run, data, predicted


def test_the_classifiers_outputs_are_computed_once_and_follow_the_shuffle():
    classifier, run, data, _ = prepared("classifier")
    calls = []
    classifier.model.register_forward_hook(lambda *_: calls.append(1))
    batch = BatchStream(data, 16, seed=3).next()
    kept = supervising_logits(classifier, run, batch)
    assert not calls
    torch.testing.assert_close(kept, classifier(batch.inputs).detach())
    # A stream without positions asks f again.
    streamed = dataclasses.replace(batch, index=None)
    torch.testing.assert_close(supervising_logits(classifier, run, streamed), kept)


def test_labels_supervise_when_asked():
    classifier, run, data, predicted = prepared("labels")
    batch = BatchStream(data, 40, seed=3).next()
    logits = supervising_logits(classifier, run, batch)
    assert torch.equal(logits.argmax(1), (predicted[batch.index] + 1) % 3)
    assert (logits.amax(1) >= 1).all()
