"""Backends that break a check of lenses that edit inputs, as it happens to people."""

from __future__ import annotations

import dataclasses

from broken import SHAPE, breaks
from exemplary_edits import ExemplaryEditingLens, ExemplaryEdits

import xlens
from xlens.testing import Candidate


def editing(lens_class):
    @xlens.options
    class Broken(ExemplaryEdits):
        def build(self, classifier, spec):
            super().build(classifier, spec)
            return lens_class(classifier)

    return Candidate(Broken(), learned=ExemplaryEdits(), shape=SHAPE)


@breaks("capabilities.edits_keep_to_their_parts")
def counts_a_pixel_twice():
    class Lens(ExemplaryEditingLens):
        def edit(self, inputs, target, contrast):
            local = super().edit(inputs, target, contrast)
            return dataclasses.replace(local, parts=local.parts + local.parts.flip(1))

    return editing(Lens)


@breaks("capabilities.edits_do_not_depend_on_the_batch")
def fills_with_the_mean_of_the_batch():
    class Lens(ExemplaryEditingLens):
        def edit(self, inputs, target, contrast):
            local = super().edit(inputs, target, contrast)
            return dataclasses.replace(local, filled=local.filled + 0.02 * inputs.mean())

    return editing(Lens)


@breaks("capabilities.fills_do_not_ask_the_classifier")
def fills_with_what_the_classifier_likes():
    class Lens(ExemplaryEditingLens):
        def fill(self, inputs, mask):
            liked = self._classifier[0](inputs.detach())[:, :1, None, None]
            return super().fill(inputs, mask) + 1e-3 * liked

    return editing(Lens)


@breaks("capabilities.problems_are_said_where_nothing_flips")
def says_nothing():
    class Lens(ExemplaryEditingLens):
        def edit(self, inputs, target, contrast):
            local = super().edit(inputs, target, contrast)
            never = (target == 2)[:, None, None, None].to(inputs.dtype)
            return dataclasses.replace(local, parts=local.parts * (1 - never), problems=(None,) * len(inputs))

    return editing(Lens)
