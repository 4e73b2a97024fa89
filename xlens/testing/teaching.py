"""Checks of lenses on a hidden layer, which show real inputs, and of lenses that can be taught."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from xlens.contracts import SupportsRetrieval, SupportsTeaching
from xlens.contracts.backend import Run
from xlens.testing.bench import Bench, quiet
from xlens.testing.capabilities import declared_capabilities_are_there
from xlens.testing.checking import check, require, same
from xlens.testing.extras import side_information_is_taken
from xlens.testing.manners import leaves_the_data_alone
from xlens.training.processes import process_state_restored


@check(needs=(declared_capabilities_are_there, leaves_the_data_alone), capability="retrieve")
def retrieved_inputs_are_real(bench: Bench) -> None:
    """``retrieve`` returns inputs of the data ``(N, *S)``, of the classes that it is asked for."""
    classes = torch.arange(len(bench.inputs)) % 3
    codes = bench.codes()
    with bench.asking() as lens:
        keeping = cast(SupportsRetrieval, lens)
        found = {
            "any class": keeping.retrieve(codes.clone()),
            "given classes": keeping.retrieve(codes.clone(), classes),
        }
        seen = bench.classifier(found["given classes"]).argmax(1)
    real = bench.world.inputs.flatten(1)
    for name, inputs in found.items():
        right = tuple(inputs.shape) == (len(codes), *bench.candidate.shape)
        require(
            right and all(bool((real == one.flatten()).all(1).any()) for one in inputs),
            f"{bench.backend.name}: what retrieve({name}) returns are no inputs of the data",
            given=tuple(inputs.shape),
            allowed=f"({len(codes)}, *{bench.candidate.shape}), exactly as they are in the data",
        )
    require(
        bool((seen == classes).all()),
        f"{bench.backend.name}: retrieve does not heed the classes",
        given=f"{int((seen == classes).sum())} of {len(classes)} are in the class that was asked for",
        do="keep inputs of every class that the classifier predicts",
    )


@check(needs=(declared_capabilities_are_there, side_information_is_taken), capability="teach")
def teaching_goes_on_from_where_it_was(bench: Bench) -> None:
    """``informativeness`` is ``(N,)``, finite, decided by its generator; ``teach`` changes what is learned."""
    name, world = bench.backend.name, bench.world
    table = world.inputs.flatten(1).mean(1, keepdim=True).gt(world.inputs.mean()).float()
    unseen = table.clone()
    unseen[8:] = torch.nan
    lens = bench.fit(side_info=unseen).lens
    taught = cast(SupportsTeaching, lens)

    def ask(seed: int, strategy: str) -> Tensor:
        return taught.informativeness(bench.inputs.clone(), strategy, torch.Generator().manual_seed(seed))

    with bench.asking():
        for strategy in ("mutual_information", "max_entropy"):
            found = ask(0, strategy)
            require(
                tuple(found.shape) == (len(bench.inputs),)
                and bool(found.isfinite().all())
                and same(found, ask(0, strategy)),
                f"{name}: informativeness({strategy!r}) is wrong",
                given=f"shape {tuple(found.shape)}, or other values the second time",
                allowed=f"({len(bench.inputs)},), finite, the same for the same generator",
            )
        before = {key: value.clone() for key, value in lens.state_dict().items()}
    run = Run(seed=0, device=bench.classifier.device, spec=bench.base.explainer.spec, progress=False)
    with quiet(), torch.enable_grad(), process_state_restored(), bench.classifier.frozen(seed=0):
        taught.teach(world.inputs[8:40].clone(), table[8:40].clone(), run)
    after = lens.state_dict()
    changed = [key for key in after if key not in before or not same(before[key], after[key], exactly=True)]
    require(
        bool(changed) and all(bool(value.isfinite().all()) for value in lens.parameters()),
        f"{name}: teach changes nothing",
        do="learn on from the current state, with what was known before and what is new",
    )
