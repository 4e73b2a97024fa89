"""What the broken backends are made with: the exemplary one with a single thing changed."""

from __future__ import annotations

from exemplary import Exemplary

import xlens
from xlens.testing import Candidate

SHAPE = (1, 8, 8)


def with_lens(lens_class, backend=Exemplary):
    """Return the exemplary backend around another lens."""

    @xlens.options
    class Broken(backend):
        def build(self, classifier, spec):
            super().build(classifier, spec)
            return lens_class()

    return Broken()


def candidate(backend):
    return Candidate(backend, learned=Exemplary(), shape=SHAPE)


def having_learned(lens_class):
    """Return a candidate whose instance that should have learned the toy world is broken."""
    return Candidate(Exemplary(), learned=with_lens(lens_class), shape=SHAPE)


def beside_its_state(lens_class, change):
    """Return a candidate whose ``fit`` changes its lens in a way that is not saved."""

    @xlens.options
    class Broken(Exemplary):
        def build(self, classifier, spec):
            super().build(classifier, spec)
            return lens_class()

        def fit(self, classifier, data, run):
            lens = super().fit(classifier, data, run)
            change(lens)
            return lens

    return candidate(Broken())


def after_fit(change):
    """Return a candidate that does something more at the end of ``fit``."""

    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            lens = super().fit(classifier, data, run)
            change(lens, classifier, data, run)
            return lens

    return candidate(Broken())


#: (check, function that makes the candidate that it has to catch).
BROKEN = []


def breaks(check):
    """Register what the decorated function returns under the check that has to catch it."""

    def decorate(function):
        BROKEN.append((check, function))
        return function

    return decorate
