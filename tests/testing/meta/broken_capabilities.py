"""Backends that break a check of the groups capabilities and speed, as it happens to people."""

from __future__ import annotations

import dataclasses

import torch
from broken import after_fit, breaks, candidate, having_learned, with_lens
from exemplary import Exemplary, ExemplaryLens

import xlens

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


@breaks("capabilities.samples_are_reproducible")
def samples_once():
    class Lens(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(1, target, generator).repeat(n, 1, 1, 1)

    return candidate(with_lens(Lens))


@breaks("capabilities.samples_are_of_their_class")
def samples_another_class():
    class Confused(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(n, (target + 1) % 3, generator)

    return having_learned(Confused)


@breaks("capabilities.samples_are_of_their_class")
def samples_two_classes_as_one():
    class Confused(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(n, min(target, 1), generator)

    return having_learned(Confused)


@breaks("capabilities.variants_hold_the_other_part")
def varies_everything():
    class Lens(ExemplaryLens):
        def invariances(self, codes, n, scale, generator, vary):
            varied = super().invariances(codes, n, scale, generator, vary)
            noise = torch.randn(varied.shape, generator=generator, device=codes.device)
            return varied + 0.1 * scale * noise

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


@breaks("capabilities.inversion_starts_anew")
def starts_from_one_point():
    class Lens(ExemplaryLens):
        def invert(self, inputs, *, steps, restarts, generator):
            found = super().invert(inputs, steps=steps, restarts=1, generator=generator)
            return found.repeat(restarts, 1, 1)

    return candidate(with_lens(Lens))


@breaks("capabilities.inversion_finds_the_input")
def inverts_nothing():
    class Random(ExemplaryLens):
        def invert(self, inputs, *, steps, restarts, generator):
            return torch.randn(restarts, len(inputs), 192, generator=generator)

    return having_learned(Random)


@breaks("capabilities.divergence_is_a_distance")
def is_apart_from_itself():
    class Lens(ExemplaryLens):
        def divergence(self, inputs, variants, part):
            return super().divergence(inputs, variants, part) + 1

    return candidate(with_lens(Lens))


@breaks("capabilities.divergence_is_a_distance")
def ignores_the_part():
    class Lens(ExemplaryLens):
        def divergence(self, inputs, variants, part):
            return super().divergence(inputs, variants, "nuisance")

    return candidate(with_lens(Lens))


@breaks("capabilities.divergence_is_a_distance")
def sees_the_first_row():
    class Lens(ExemplaryLens):
        def divergence(self, inputs, variants, part):
            first = torch.arange(len(inputs)) == 0
            return super().divergence(inputs, variants, part) * first

    return candidate(with_lens(Lens))


@breaks("capabilities.divergence_is_a_distance")
def stops_the_gradient():
    class Lens(ExemplaryLens):
        def divergence(self, inputs, variants, part):
            return super().divergence(inputs, variants.detach(), part) + 0 * variants.sum()

    return candidate(with_lens(Lens))


@breaks("capabilities.directions_have_length_one")
def forgets_to_normalise():
    class Lens(ExemplaryLens):
        @property
        def directions(self):
            return {"brighter": torch.ones(192)}

    return candidate(with_lens(Lens))


@breaks("capabilities.waypoints_lead_from_code_to_code")
def goes_another_way():
    class Lens(ExemplaryLens):
        def waypoints(self, codes, moved):
            found = super().waypoints(codes, moved)
            return dataclasses.replace(found, decoded=found.decoded + 0.05)

    return candidate(with_lens(Lens))


@breaks("capabilities.waypoints_lead_from_code_to_code")
def goes_the_other_way_round():
    class Lens(ExemplaryLens):
        def waypoints(self, codes, moved):
            return super().waypoints(moved, codes)

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


@breaks("capabilities.side_information_is_taken")
def ignores_side_information():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            return super().fit(classifier, data, dataclasses.replace(run, side_info=None))

    return candidate(Broken())


@breaks("capabilities.side_information_is_taken")
def ignores_which_row_it_is():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            lens = super().fit(classifier, data, dataclasses.replace(run, side_info=None))
            if run.side_info is not None:
                lens.brighter.mul_(torch.sign(run.side_info[:, -1].mean()))
            return lens

    return candidate(Broken())


@breaks("capabilities.another_lens_is_built_upon")
def expects_something_else():
    def change(lens, classifier, data, run):
        if run.over is not None:
            run.over.codes_of(data)

    return after_fit(change)


@breaks("capabilities.another_lens_is_built_upon")
def ignores_the_other_lens():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            return super().fit(classifier, data, dataclasses.replace(run, over=None))

    return candidate(Broken())


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


@breaks("capabilities.a_hidden_layer_is_fitted_on")
def declares_any_values_and_takes_pictures_of_one_size():
    @xlens.options
    class Broken(Exemplary):
        capabilities = (*Exemplary.capabilities, "representations")

    return candidate(Broken())
