"""Backends that break a check of the groups api and manners, as it happens to people."""

from __future__ import annotations

import dataclasses

import torch
from broken import after_fit, breaks, candidate, with_lens
from exemplary import Exemplary, ExemplaryLens

import xlens
from xlens.training import Trainer

# --- api ---------------------------------------------------------------------------------------------------


@breaks("api.name_is_the_entry_point")
def no_name():
    @xlens.options
    class Broken(Exemplary):
        name = "Not A Name"

    return candidate(Broken())


@breaks("api.written_for_this_contract")
def for_an_older_contract():
    @xlens.options
    class Broken(Exemplary):
        contract = 0

    return candidate(Broken())


@breaks("api.options_are_frozen")
def settable():
    @xlens.options
    class Broken(Exemplary):
        pass

    Broken.__setattr__ = object.__setattr__
    return candidate(Broken())


@breaks("api.options_have_defaults")
def needs_a_path():
    @xlens.options
    class Broken(Exemplary):
        path: str = xlens.param("", help="weights")

        def __post_init__(self):
            if not self.path:
                raise xlens.errors.OptionError("exemplary: path is missing")

    return candidate(Broken(path="here"))


@breaks("api.options_have_help")
def without_help():
    @xlens.options
    class Broken(Exemplary):
        width: int = dataclasses.field(default=3)

    return candidate(Broken())


@breaks("api.options_have_names_of_their_own")
def takes_a_model_of_its_own():
    @xlens.options
    class Broken(Exemplary):
        model: str = xlens.param("small", help="which model")

    return candidate(Broken())


@breaks("api.options_survive_json")
def an_option_that_is_no_json():
    @xlens.options
    class Broken(Exemplary):
        layers: frozenset = xlens.param(frozenset({1, 2}), help="layers")

    return candidate(Broken())


@breaks("api.constraints_are_enforced")
def a_plain_dataclass():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Broken(Exemplary):
        width: int = xlens.param(3, ge=1, help="width")

    return candidate(Broken())


@breaks("api.builds_or_refuses_any_shape")
def builds_whatever():
    @xlens.options
    class Broken(Exemplary):
        def build(self, classifier, spec):
            return ExemplaryLens()

    return candidate(Broken())


# --- manners -----------------------------------------------------------------------------------------------


@breaks("manners.fits_a_lens")
def raises():
    return after_fit(lambda lens, classifier, data, run: 1 / 0)


@breaks("manners.leaves_the_model_alone")
def leaves_f_in_training_mode():
    return after_fit(lambda lens, classifier, data, run: classifier.model.train())


@breaks("manners.does_not_swallow_the_model")
def swallows_a_weight():
    @xlens.options
    class Broken(Exemplary):
        def build(self, classifier, spec):
            lens = super().build(classifier, spec)
            lens.register_parameter("first", next(classifier.model.parameters()))
            return lens

    return candidate(Broken())


@breaks("manners.leaves_the_data_alone")
def writes_to_its_argument():
    class Lens(ExemplaryLens):
        def encode(self, inputs):
            return super().encode(inputs.clamp_(max=1.9))

    return candidate(with_lens(Lens))


@breaks("manners.leaves_the_process_alone")
def seeds_everything():
    @xlens.options
    class Broken(Exemplary):
        def __post_init__(self):
            torch.manual_seed(0)

    return candidate(Broken())


@breaks("manners.takes_any_iterable")
def wants_an_order():
    return after_fit(lambda lens, classifier, data, run: run.logits.argmax(1))


def stepwise(lens, steps):
    """Train without the Trainer."""
    optimizer = torch.optim.Adam([lens.offset], 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        lens.offset.square().sum().backward()
        optimizer.step()


@breaks("manners.reports_its_steps")
def trains_in_silence():
    @xlens.options
    class Broken(Exemplary):
        def train(self, lens, classifier, data, run):
            stepwise(lens, self.steps)

    return candidate(Broken())


@breaks("manners.reports_its_steps")
def has_a_second_phase_in_silence():
    return after_fit(lambda lens, classifier, data, run: stepwise(lens, 3))


@breaks("manners.reports_its_steps")
def reports_each_epoch():
    @xlens.options
    class Broken(Exemplary):
        def train(self, lens, classifier, data, run):
            optimizers = {"lens": torch.optim.Adam([lens.offset], self.rate)}
            trainer = Trainer(run, "offset", networks={"lens": lens}, optimizers=optimizers, steps=self.steps)

            def epoch(batch):
                for _ in range(8):
                    loss = lens.offset.square().sum()
                    trainer.minimise(loss, "lens")
                return {"loss": loss}

            trainer.fit(data, epoch, batch_size=self.batch_size)

    return candidate(Broken())


@breaks("manners.gives_the_same_for_the_same_seed")
def draws_from_the_clock():
    def change(lens, classifier, data, run):
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            lens.offset += 0.01 * torch.rand(64, generator=generator)

    return after_fit(change)


@breaks("manners.explains_f_and_not_the_labels")
def learns_the_labels():
    def change(lens, classifier, data, run):
        for batch in data.batches():
            if batch.labels is not None:
                lens.balance += torch.bincount(batch.labels, minlength=3)

    return after_fit(change)


@breaks("manners.begins_with_an_earlier_lens")
def begins_anew_all_the_same():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            return super().fit(classifier, data, dataclasses.replace(run, start_from=None))

    return candidate(Broken())


@breaks("manners.can_be_interrupted")
def swallows_the_interruption():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            try:
                return super().fit(classifier, data, run)
            except BaseException:
                return self.build(classifier, run.spec)

    return candidate(Broken())


@breaks("manners.resumes_where_it_stopped")
def begins_again():
    @xlens.options
    class Broken(Exemplary):
        def fit(self, classifier, data, run):
            return super().fit(classifier, data, dataclasses.replace(run, resume=False))

    return candidate(Broken())
