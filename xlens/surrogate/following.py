"""A surrogate at work: it answers, and is told now and then what the classifier says of the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from xlens.classifier.answering import answered_by
from xlens.classifier.classifier import Classifier
from xlens.classifier.hooks import of_this_thread
from xlens.surrogate.distilling import Answers, Distillation
from xlens.surrogate.fidelity import SurrogateFidelity, fidelity_of
from xlens.surrogate.network import SurrogateNetwork
from xlens.surrogate.options import SurrogateOptions

__all__ = ["Surrogate"]


class Surrogate:
    """Surrogate of a classifier of latents, which follows it to where the lens goes.

    Within :meth:`answering` whoever holds the classifier asks the surrogate. Of what is asked with a gradient,
    which is what a lens learns from, some is kept; after every few steps the classifier itself is asked about that,
    without a gradient, and the surrogate learns from its answers.

    Args:
        classifier: of latents, which is the user's after decoding.
        distillation: the network, with what it has learned from.
        options: how often the classifier is asked.
    """

    def __init__(self, classifier: Classifier, distillation: Distillation, options: SurrogateOptions) -> None:
        self.classifier, self.options = classifier, options
        # Of the same model, and not swapped with it.
        self._true = classifier.replaced()
        self._distillation = distillation
        self._made = Answers(options.memory)
        self._asked: Tensor | None = None
        self._steps = 0
        self._said: list[Tensor] = []
        self._heard: list[Tensor] = []

    @property
    def network(self) -> SurrogateNetwork:
        """What answers."""
        return self._distillation.network

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Context in which the surrogate answers whoever holds the classifier."""

        def keep(_module: Any, given: tuple[Tensor, ...]) -> None:
            if torch.is_grad_enabled() and given[0].requires_grad:
                self._asked = given[0].detach()

        handle = self.network.register_forward_pre_hook(of_this_thread(keep))
        try:
            with answered_by(self.classifier, self.network):
                yield
        finally:
            handle.remove()
            self._asked = None

    def after_step(self) -> None:
        """Count a step of the lens, and ask the classifier where it is time."""
        self._steps += 1
        if self._steps % self.options.ask_every or self._asked is None:
            return
        latents, self._asked = self._some(self._asked), None
        with torch.no_grad():
            said, heard = self.network(latents), self._true(latents)
        finite = heard.isfinite().all(1) & said.isfinite().all(1)
        self._said.append(said[finite].cpu())
        self._heard.append(heard[finite].cpu())
        self._made.add(latents[finite], heard[finite])
        for _ in range(self.options.follow_steps):
            self._distillation.step(self._made, latest=int(finite.sum()))

    @property
    def fidelity(self) -> SurrogateFidelity:
        """How well it has stood for the classifier, on what the lens asked in the second half of its training."""
        late = len(self._heard) // 2
        if not self._heard:
            return fidelity_of(torch.zeros(0, 2), torch.zeros(0, 2))
        return fidelity_of(torch.cat(self._said[late:]), torch.cat(self._heard[late:]))

    @property
    def holds(self) -> bool:
        """Whether it says what the classifier says often enough; what was never compared does not."""
        return self.fidelity.agreement >= self.options.agreement

    def state(self) -> dict[str, Any]:
        """Return everything that it has learned and kept, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._distillation.optimizer.state_dict(),
            "generator": self._distillation.generator.get_state(),
            "steps": self._steps,
            "latents": self._made.latents,
            "logits": self._made.logits,
            "said": list(self._said),
            "heard": list(self._heard),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.network.load_state_dict(state["network"])
        self._distillation.optimizer.load_state_dict(state["optimizer"])
        self._distillation.generator.set_state(state["generator"])
        self._steps = state["steps"]
        self._made.latents, self._made.logits = state["latents"], state["logits"]
        self._said, self._heard = list(state["said"]), list(state["heard"])

    def _some(self, latents: Tensor) -> Tensor:
        drawn = torch.randperm(len(latents), generator=self._distillation.generator)[: self.options.asked]
        return latents[drawn.to(latents.device)]
