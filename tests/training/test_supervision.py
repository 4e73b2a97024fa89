"""Class labels come from the classifier, unless the user asked for the data's own."""

import dataclasses

import torch

import xlens
from xlens.contracts.backend import Run
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


def test_stratified_batches_hold_each_class_in_its_share():
    labels = torch.cat([torch.zeros(150), torch.ones(50)]).long()
    data = as_data((torch.randn(200, 3), labels))
    for strata, most in ((labels, 1), (None, 20)):
        stream = BatchStream(data, 20, seed=0, strata=strata)
        counts = torch.tensor([int(stream.next().labels.sum()) for _ in range(30)])
        assert ((counts - 5).abs() <= most).all()
        if strata is None:
            assert ((counts - 5).abs() > 1).any()
    # An epoch is still every input once, and the next one has another order.
    stream = BatchStream(data, 20, seed=0, strata=labels)
    first, second = (torch.cat([stream.next().index for _ in range(10)]) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(200))
    assert torch.equal(second.sort().values, torch.arange(200))
    assert not torch.equal(first, second)
