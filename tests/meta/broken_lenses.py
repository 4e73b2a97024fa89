"""Lenses that break a check of what they return, mean and can do, as it happens to people."""

from __future__ import annotations

import dataclasses

import torch
from broken import after_fit, breaks, candidate, having_learned, with_lens
from exemplary import Exemplary, ExemplaryLens

import xlens

# --- correctness -------------------------------------------------------------------------------------------


@breaks("correctness.shapes_are_right")
def squeezes():
    class Lens(ExemplaryLens):
        def encode(self, inputs):
            return super().encode(inputs).squeeze(0)

    return candidate(with_lens(Lens))


@breaks("correctness.everything_is_finite")
def divides_by_zero_for_one_pair():
    class Lens(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            moved = super().counterfactual(codes, target, contrast)
            count = 1 - ((target == 2) & (contrast == 1)).to(codes)
            return moved / count.unsqueeze(1)

    return candidate(with_lens(Lens))


@breaks("correctness.dtypes_are_kept")
def takes_the_default_dtype():
    class Lens(ExemplaryLens):
        def decode(self, codes):
            return super().decode(codes) + torch.zeros(1, 8, 8)

    return candidate(with_lens(Lens))


@breaks("correctness.tensors_are_registered")
def forgets_to_register():
    class Lens(ExemplaryLens):
        def __init__(self):
            super().__init__()
            self.grid = torch.zeros(8)

    return candidate(with_lens(Lens))


@breaks("correctness.features_name_the_code")
def names_twice():
    class Lens(ExemplaryLens):
        @property
        def features(self):
            return [dataclasses.replace(feature, name="evidence") for feature in super().features]

    return candidate(with_lens(Lens))


@breaks("correctness.a_row_does_not_depend_on_its_batch")
def subtracts_the_batch_mean():
    class Lens(ExemplaryLens):
        def encode(self, inputs):
            return super().encode(inputs - 0.01 * inputs.mean())

    return candidate(with_lens(Lens))


@breaks("correctness.each_row_has_its_own_classes")
def takes_the_first_class():
    class Lens(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            return super().counterfactual(codes, target, contrast[:1].expand_as(contrast))

    return candidate(with_lens(Lens))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def keeps_a_number_beside_its_state():
    class Lens(ExemplaryLens):
        gain = 0.0

        def decode(self, codes):
            return super().decode(codes) + self.gain

    @xlens.options
    class Broken(Exemplary):
        def build(self, classifier, spec):
            super().build(classifier, spec)
            return Lens()

        def fit(self, classifier, data, run):
            lens = super().fit(classifier, data, run)
            lens.gain = 0.01
            return lens

    return candidate(Broken())


# --- meaning -----------------------------------------------------------------------------------------------


@breaks("meaning.codes_decode_to_what_was_encoded")
def decodes_the_mirror_image():
    class Mirrored(ExemplaryLens):
        def decode(self, codes):
            return super().decode(codes).flip(3)

    return having_learned(Mirrored)


@breaks("meaning.counterfactuals_flip_f")
def changes_nothing():
    class Stuck(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            return codes.clone()

    return having_learned(Stuck)


@breaks("meaning.attributions_lie_on_the_cause")
def drowns_the_evidence():
    class Drowning(ExemplaryLens):
        """Leaves the evidence where it is, and paints the rest of the picture in the other class's colour."""

        reference_class = 2

        def counterfactual(self, codes, target, contrast):
            background, bright, dark = codes.split(64, 1)
            free = ((bright == 0) & (dark == 0)).to(codes)
            colour = torch.tensor([0.0, 2.5, -2.5])[contrast].unsqueeze(1)
            painted = torch.cat([background + free * colour, bright, dark], 1)
            removed = super().counterfactual(codes, target, contrast)
            return torch.where((contrast == 0).unsqueeze(1), removed, painted)

    return having_learned(Drowning)


# --- capabilities ------------------------------------------------------------------------------------------


@breaks("capabilities.declared_capabilities_are_there")
def declares_too_much():
    class Lens(ExemplaryLens):
        sample = None

    return candidate(with_lens(Lens))


@breaks("capabilities.capabilities_are_declared")
def declares_too_little():
    @xlens.options
    class Broken(Exemplary):
        capabilities = tuple(name for name in Exemplary.capabilities if name != "sample")

    return candidate(Broken())


@breaks("capabilities.samples_are_reproducible")
def ignores_the_generator():
    class Lens(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(n, target, torch.Generator().manual_seed(0))

    return candidate(with_lens(Lens))


@breaks("capabilities.samples_are_of_their_class")
def samples_another_class():
    class Confused(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(n, (target + 1) % 3, generator)

    return having_learned(Confused)


@breaks("capabilities.variants_hold_the_other_part")
def varies_everything():
    class Lens(ExemplaryLens):
        def invariances(self, codes, n, scale, generator, vary):
            varied = super().invariances(codes, n, scale, generator, vary)
            return varied + 0.1 * scale * torch.randn(varied.shape, generator=generator)

    return candidate(with_lens(Lens))


@breaks("capabilities.variants_keep_the_class")
def varies_too_much():
    class Wild(ExemplaryLens):
        def invariances(self, codes, n, scale, generator, vary):
            return super().invariances(codes, n, 200 * scale, generator, vary)

    return having_learned(Wild)


@breaks("capabilities.inversion_starts_anew")
def inverts_once():
    class Lens(ExemplaryLens):
        def invert(self, inputs, *, steps, restarts, generator):
            return super().invert(inputs, steps=steps, restarts=restarts, generator=generator)[0]

    return candidate(with_lens(Lens))


@breaks("capabilities.divergence_is_a_distance")
def is_apart_from_itself():
    class Lens(ExemplaryLens):
        def divergence(self, inputs, variants, part):
            return super().divergence(inputs, variants, part) + 1

    return candidate(with_lens(Lens))


@breaks("capabilities.directions_have_length_one")
def forgets_to_normalise():
    class Lens(ExemplaryLens):
        @property
        def directions(self):
            return {"brighter": torch.ones(192)}

    return candidate(with_lens(Lens))


@breaks("capabilities.retrieved_inputs_are_real")
def makes_up_what_it_retrieves():
    class Lens(ExemplaryLens):
        def retrieve(self, codes, classes=None, first=()):
            return super().retrieve(codes, classes, first) + 0.01

    return candidate(with_lens(Lens))


@breaks("capabilities.teaching_goes_on_from_where_it_was")
def cannot_be_taught():
    class Lens(ExemplaryLens):
        def teach(self, inputs, side_info, run):
            pass

    return candidate(with_lens(Lens))


@breaks("capabilities.side_information_is_taken")
def takes_gaps_for_numbers():
    def change(lens, classifier, data, run):
        if run.side_info is not None:
            with torch.no_grad():
                lens.offset += run.side_info.mean()

    return after_fit(change)


@breaks("capabilities.another_lens_is_built_upon")
def expects_something_else():
    def change(lens, classifier, data, run):
        if run.over is not None:
            run.over.codes_of(data)

    return after_fit(change)


# --- speed -------------------------------------------------------------------------------------------------


@breaks("speed.explaining_costs_few_decodings")
def searches_forever():
    class Lens(ExemplaryLens):
        encodes_directly = False

        def encode(self, inputs):
            codes = super().encode(inputs)
            for _ in range(1000):
                self.decode(codes)
            return codes

    return candidate(with_lens(Lens))


@breaks("speed.a_search_is_called_one")
def hides_its_search():
    class Lens(ExemplaryLens):
        def encode(self, inputs):
            codes = super().encode(inputs)
            for _ in range(100):
                self.decode(codes)
            return codes

    return candidate(with_lens(Lens))
