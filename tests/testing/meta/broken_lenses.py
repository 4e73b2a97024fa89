"""Lenses that break a check of what they return, mean and can do, as it happens to people."""

from __future__ import annotations

import dataclasses

import torch
from broken import beside_its_state, breaks, candidate, having_learned, with_lens
from exemplary import ExemplaryLens

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
            return super().decode(codes) + torch.zeros(1, 8, 8, device=codes.device)

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

    return beside_its_state(Lens, lambda lens: setattr(lens, "gain", 0.01))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def keeps_the_sign_of_a_direction():
    class Lens(ExemplaryLens):
        sign = 1

        @property
        def directions(self):
            return {"brighter": self.sign * self.brighter}

    return beside_its_state(Lens, lambda lens: setattr(lens, "sign", -1))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def keeps_the_name_of_a_direction():
    class Lens(ExemplaryLens):
        named = "brighter"

        @property
        def directions(self):
            return {self.named: self.brighter}

    return beside_its_state(Lens, lambda lens: setattr(lens, "named", "found in fit"))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def keeps_the_unit_of_its_divergence():
    class Lens(ExemplaryLens):
        unit = 1.0

        def divergence(self, inputs, variants, part):
            return self.unit * super().divergence(inputs, variants, part)

    return beside_its_state(Lens, lambda lens: setattr(lens, "unit", 2.0))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def keeps_where_inversions_start():
    class Lens(ExemplaryLens):
        centre = 0.0

        def invert(self, inputs, *, steps, restarts, generator):
            return super().invert(inputs, steps=steps, restarts=restarts, generator=generator) + self.centre

    return beside_its_state(Lens, lambda lens: setattr(lens, "centre", 0.01))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def forgets_that_it_searches():
    return beside_its_state(ExemplaryLens, lambda lens: setattr(lens, "encodes_directly", False))


@breaks("correctness.saved_and_loaded_it_explains_the_same")
def forgets_its_reference_class():
    return beside_its_state(ExemplaryLens, lambda lens: setattr(lens, "reference_class", None))


@breaks("correctness.devices_are_kept")
def decodes_on_the_default_device():
    class Lens(ExemplaryLens):
        def decode(self, codes):
            return super().decode(codes) + torch.zeros(1, 8, 8, dtype=codes.dtype)

    return candidate(with_lens(Lens))


@breaks("correctness.devices_are_kept")
def samples_on_the_default_device():
    class Lens(ExemplaryLens):
        def sample(self, n, target, generator):
            return super().sample(n, target, generator) + torch.zeros(n, 1, 8, 8)

    return candidate(with_lens(Lens))


@breaks("correctness.one_class_is_a_class_for_each_row")
def writes_to_the_contrast():
    class Lens(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            return super().counterfactual(codes, target, contrast.clamp_(0, 2))

    return candidate(with_lens(Lens))


@breaks("manners.leaves_the_data_alone")
def forgets_the_target():
    class Lens(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            moved = super().counterfactual(codes, target, contrast)
            if target.stride() != (0,):
                target.zero_()
            return moved

    return candidate(with_lens(Lens))


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


@breaks("meaning.counterfactuals_flip_f")
def ignores_the_contrast():
    class Stubborn(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            return super().counterfactual(codes, target, torch.where(target == 0, 1, 0))

    return having_learned(Stubborn)


@breaks("meaning.counterfactuals_flip_f")
def cannot_do_one_pair():
    class Unable(ExemplaryLens):
        def counterfactual(self, codes, target, contrast):
            moved = super().counterfactual(codes, target, contrast)
            return torch.where(((target == 2) & (contrast == 1)).unsqueeze(1), codes, moved)

    return having_learned(Unable)


@breaks("meaning.features_are_of_their_class")
def confuses_its_classes():
    class Confused(ExemplaryLens):
        @property
        def features(self):
            swap = {None: None, 1: 2, 2: 1}
            return [dataclasses.replace(f, class_index=swap[f.class_index]) for f in super().features]

    return having_learned(Confused)


@breaks("meaning.attributions_lie_on_the_cause")
def drowns_the_evidence():
    class Drowning(ExemplaryLens):
        """Leaves the evidence where it is, and paints the rest: in the other class's colour, or in stripes."""

        def counterfactual(self, codes, target, contrast):
            background, bright, dark = codes.split(64, 1)
            free = ((bright == 0) & (dark == 0)).to(codes)
            colour = torch.tensor([0.0, 2.5, -2.5])[contrast].unsqueeze(1)
            painted = torch.cat([background + free * colour, bright, dark], 1)
            # Stripes in which f loses sight of a patch that is still there; found by trying.
            low = torch.tensor([0.0, -4.0, -2.0])[target].unsqueeze(1)
            stripes = torch.where(torch.arange(64) % 2 == 0, torch.full_like(low, 4.0), low)
            striped = torch.cat([torch.where(free > 0, stripes, background), bright, dark], 1)
            return torch.where((contrast == 0).unsqueeze(1), striped, painted)

    return having_learned(Drowning)
