"""The flow lens: codes of noise, which is everything else, and of each class's weight at each step of the ODE."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xlens import Classifier, Feature, Spec
from xlens.contracts import Waypoints
from xlens.nn import AskingLens, margin_over_rest
from xlens_flow.guidance import guided
from xlens_flow.ode import Velocity, backward, forward, grid, step_forward
from xlens_flow.runs import Runs, recalled, remember
from xlens_flow.search import least_height
from xlens_flow.velocities import Velocities

__all__ = ["FlowLens", "ladder"]

#: Rungs of the ladder above the first, which is no change; how much higher than need be, and tries at most.
_RUNGS, _RESOLUTION, _TRIES = 6, 0.25, 6
#: Steps of the ODE from one waypoint to the next.
_A_POINT = 2
#: Runs that go on at once, at least, where a batch is smaller.
_TOGETHER = 16


class FlowLens(AskingLens):
    """A rectified flow that is conditional on the classifier's probabilities, run backward and forward.

    A code is the noise from which the input flows under its own probabilities, and for each class its weight at
    each of the ODE's steps: early ones decide on what is coarse, late ones on detail. Both make the input again;
    other weights make what it would be as another class, and the weights between lie on the way. Attributes, which
    are side information of the fit, have weights too: 0 asks for nothing beyond what the input has, 1 for the
    attribute (or for a standard deviation above the mean), -1 for its absence.

    Args:
        classifier: the user's classifier.
        spec: the data and the classes.
        flow: the velocity network.
        ode_steps: Heun's steps between noise and data.
        corrections: of each step backward, at most.
        tolerance: root mean square that a step backward may miss, in half ranges of the data.
        strongest: the hardest guidance that a counterfactual is tried with.
        depth: share of the way back to noise that a counterfactual goes at most.
        guidance: of what is drawn anew.
        attribute_names: names of the attributes; numbered where there are none.

    References:
        Su, Song, Meng, Ermon (2023), Dual Diffusion Implicit Bridges for Image-to-Image Translation, alg. 1.
    """

    low: Tensor
    high: Tensor
    rungs: Tensor
    inversion_error: Tensor

    def __init__(
        self,
        classifier: Classifier,
        spec: Spec,
        flow: Velocities,
        *,
        ode_steps: int,
        corrections: int,
        tolerance: float,
        strongest: float,
        depth: float,
        guidance: float,
        attribute_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(classifier, spec)
        self.flow, self.guidance, self._attribute_names = flow, guidance, attribute_names
        self.ode_steps, self.corrections, self.tolerance = ode_steps, corrections, tolerance
        self.noise, self.bounded = math.prod(spec.shape), spec.is_image
        # Its passes of a network are many: a mask, where one is asked for, is fitted on fewer inputs.
        self.encodes_directly, self.masked, self.examined = False, False, True
        self.register_buffer("low", spec.per_channel("minimum"), persistent=False)
        self.register_buffer("high", spec.per_channel("maximum"), persistent=False)
        self.register_buffer("rungs", ladder(ode_steps, depth, strongest), persistent=False)
        # Of inputs of the fit: squared error of the decoding of the code, in squared ranges of the data.
        self.register_buffer("inversion_error", torch.full((), torch.nan))

    @property
    def features(self) -> list[Feature]:
        """``everything else``, the noise, and weights at the ODE's steps: evidence for classes, attributes."""
        parts = [Feature("everything else", tuple(range(self.noise)), "nuisance")]
        for c, name in enumerate(self.class_names):
            first = self.noise + c * self.ode_steps
            dims = tuple(range(first, first + self.ode_steps))
            parts.append(Feature(f"evidence for {name}", dims, "class", c))
        for a, name in enumerate(self.attribute_names, self.spec.num_classes):
            first = self.noise + a * self.ode_steps
            parts.append(Feature(name, tuple(range(first, first + self.ode_steps)), "attribute"))
        return parts

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the attributes that are conditions, beside the classes."""
        return self._attribute_names or tuple(f"attribute {a + 1}" for a in range(self.flow.num_attributes))

    def encode(self, inputs: Tensor) -> Tensor:
        """Run the flow backward from inputs ``(N, *S)`` under the classifier's own probabilities, to ``(N, d)``."""
        own = F.pad(self.classifier.probabilities(inputs).to(inputs.dtype), (0, self.flow.num_attributes))
        weights = own[:, :, None].expand(-1, -1, self.ode_steps)
        data = self.flow.standardised(inputs)
        velocity = self._velocity(weights)
        noise = backward(velocity, data, self.ode_steps, self.corrections, self.tolerance, steady=True)
        return self.joined(noise, weights)

    def decode(self, codes: Tensor) -> Tensor:
        """Run the flow forward from codes ``(N, d)`` to inputs ``(N, *S)``."""
        noise, weights = self.parted(codes)
        return self._shown(forward(self._velocity(weights), noise, self.ode_steps)[-1])

    @torch.no_grad()
    def waypoints(self, codes: Tensor, moved: Tensor) -> Waypoints:
        """Return points at each of which two more steps have the input's own weights again, the last steps first.

        All begin with the counterfactual's run and go on with the input's own weights from some step on, so that
        none is run from noise on, and none twice.

        Args:
            codes: ``(N, d)`` of inputs.
            moved: ``(N, d)`` of the same noise.
        """
        noise, own = self.parted(codes)
        weights = self.parted(moved)[1]
        states = recalled(
            self, moved, lambda rows: forward(self._velocity(weights[rows]), noise[rows], self.ode_steps)
        )
        differ = (weights != own).any(1)
        ends, mixed = [states[-1]], [weights]
        found = self._rejoined(states, own, differ)
        for step in reversed(range(0, self.ode_steps, _A_POINT)):
            rows = differ[:, step : step + _A_POINT].any(1)
            end, mix = ends[-1].clone(), mixed[-1].clone()
            end[rows], mix[:, :, step : step + _A_POINT] = found[step], own[:, :, step : step + _A_POINT]
            ends.append(end)
            mixed.append(mix)
        decoded = self._shown(torch.cat(ends)).unflatten(0, (len(ends), -1)).transpose(0, 1)
        return Waypoints(torch.stack([self.joined(noise, mix) for mix in mixed], 1), decoded)

    def _rejoined(self, states: list[Tensor], own: Tensor, differ: Tensor) -> dict[int, Tensor]:
        """Return where runs end that go on with their own weights from a step on, by that step.

        Args:
            states: ``(N, *S)`` before each step, of other weights.
            own: ``(N, K + A, steps)`` the weights that they go on with.
            differ: ``(N, steps)`` where the other weights are not the same; rows without any are left out.
        """
        velocity = self._velocity(own)
        rows, running, begun = differ[:0, 0].long(), states[0][:0], {}
        for step in range(self.ode_steps):
            if step % _A_POINT == 0:
                fresh = differ[:, step : step + _A_POINT].any(1).nonzero()[:, 0]
                begun[step] = slice(len(rows), len(rows) + len(fresh))
                rows, running = torch.cat([rows, fresh]), torch.cat([running, states[step][fresh]])
            size = max(len(own), _TOGETHER)
            parts = zip(running.split(size), rows.split(size), strict=True)
            running = torch.cat([step_forward(velocity, part, step, self.ode_steps, some) for part, some in parts])
        return {step: running[own_rows] for step, own_rows in begun.items()}

    @torch.no_grad()
    def counterfactual(self, codes: Tensor, target: Tensor, contrast: Tensor) -> Tensor:
        """Keep the noise, and guide it toward the contrast class, away from what it was.

        How hard and from how far back is found for each row: the first point up a ladder, from little and late to
        much and early, at which the classifier is as sure as of real inputs of that class.
        """

        noise, own = self.parted(codes)
        # All runs begin like the input's own, as far as nothing is guided.
        latest = int((self.rungs[1] > 0).nonzero()[0])
        runs = Runs(forward(self._velocity(own), noise, self.ode_steps, last=latest), self.ode_steps)

        def slack(rows: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
            strengths = self.strengths(heights)
            tried = self.guided_toward(codes[rows], contrast[rows], strengths)
            begun = (strengths > 0).to(torch.uint8).argmax(1)
            run = runs.run(self._velocity(self.parted(tried)[1]), rows, begun)
            logits = self.classifier(self._shown(run[-1])).to(codes.dtype)
            found = self.slack(logits, target[rows], contrast[rows])
            there = (found >= 0).nonzero()[:, 0]
            # The last height that convinces is the one that is taken.
            runs.keep(rows[there], heights[there], [state[there] for state in run])
            return found, margin_over_rest(logits, contrast[rows])

        # Without any guidance the classifier says what it said of the input, which is what the weights are.
        seen = own[:, : self.spec.num_classes, -1].clamp_min(torch.finfo(codes.dtype).tiny).log()
        at_zero = self.slack(seen, target, contrast)
        heights = least_height(slack, at_zero, len(self.rungs) - 1, _RESOLUTION, _TRIES)
        moved = self.guided_toward(codes, contrast, self.strengths(heights))
        remember(self, moved, runs.states, runs.heights == heights)
        return moved

    def strengths(self, heights: Tensor) -> Tensor:
        """Return the guidance at each step of the ODE ``(N, steps)`` at heights on the ladder ``(N,)``."""
        below = heights.floor().long().clamp(0, len(self.rungs) - 2)
        return torch.lerp(self.rungs[below], self.rungs[below + 1], (heights - below)[:, None])

    def guided_toward(self, codes: Tensor, contrast: Tensor, strengths: Tensor) -> Tensor:
        """Return codes ``(N, d)`` whose weights are moved toward a class; at 1 they are there, above it beyond.

        Args:
            codes: ``(N, d)``.
            contrast: ``(N,)``.
            strengths: ``(N, steps)``.
        """
        noise, weights = self.parted(codes)
        of_classes, others = weights.tensor_split([self.spec.num_classes], 1)
        goal = F.one_hot(contrast, self.spec.num_classes).to(codes.dtype)[:, :, None]
        of_classes = of_classes + strengths[:, None] * (goal - of_classes)
        return self.joined(noise, torch.cat([of_classes, others], 1))

    @torch.no_grad()
    def sample(self, n: int, target: int, generator: torch.Generator) -> Tensor:
        """Return `n` new inputs ``(n, *S)`` of class `target`, by classifier-free guidance."""
        noise = torch.randn(n, self.noise, generator=generator, device=self.low.device)
        weights = noise.new_zeros(n, self.spec.num_classes + self.flow.num_attributes, self.ode_steps)
        weights[:, target] = self.guidance
        return self.decode(self.joined(noise, weights))

    @torch.no_grad()
    def invariances(self, codes: Tensor, n: int, scale: float, generator: torch.Generator, vary: str) -> Tensor:
        """Return codes ``(N, n, d)``: noise drawn anew around its own with the weights held, or the reverse.

        Args:
            codes: ``(N, d)``.
            n: variants per input.
            scale: of the noise that is added before all of it is brought back to a variance of 1; for ``"class"``
                the standard deviation of the logarithm of what the weights at each step are multiplied by.
            generator: draws it.
            vary: ``"nuisance"`` for the noise, ``"class"`` for the weights.
        """
        noise, weights = self.parted(codes.repeat_interleave(n, 0))
        if vary == "nuisance":
            drawn = torch.randn(noise.shape, generator=generator, device=codes.device)
            noise = (noise + scale * drawn) / (1 + scale**2) ** 0.5
        else:
            drawn = torch.randn(len(noise), 1, self.ode_steps, generator=generator, device=codes.device)
            weights = weights * (scale * drawn).exp()
        return self.joined(noise, weights).view(len(codes), n, -1)

    def _velocity(self, weights: Tensor) -> Velocity:
        def velocity(states: Tensor, time: float, step: int, rows: Tensor) -> Tensor:
            return guided(self.flow, states, time, weights[rows, :, step])

        return velocity

    def _shown(self, states: Tensor) -> Tensor:
        """Return what states at the end of the ODE are as inputs ``(N, *S)``."""
        found = self.flow.restored(states)
        return torch.maximum(torch.minimum(found, self.high), self.low) if self.bounded else found

    def parted(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Split codes ``(N, d)`` into noise ``(N, *S)`` and weights ``(N, K + A, steps)``."""
        noise, weights = codes.split([self.noise, codes.shape[1] - self.noise], 1)
        return noise.view(-1, *self.spec.shape), weights.view(len(codes), -1, self.ode_steps)

    @staticmethod
    def joined(noise: Tensor, weights: Tensor) -> Tensor:
        """Join noise ``(N, *S)`` and weights ``(N, K + A, steps)`` to codes ``(N, d)``."""
        return torch.cat([noise.flatten(1), weights.flatten(1)], 1)


def ladder(ode_steps: int, depth: float, strongest: float) -> Tensor:
    """Return the guidance at each step of the ODE, rung by rung ``(R, steps)``.

    It goes from none, through little in the late half, to the strongest from its depth on: hard guidance of late
    steps changes less of an input than weak guidance of all, at the same effect on classifiers.

    Args:
        ode_steps: steps of the ODE.
        depth: share of the way back to noise at the topmost rung.
        strongest: guidance there.
    """
    times = torch.tensor(grid(ode_steps)[:-1])
    deepest = 1 - depth
    rows = [torch.zeros(ode_steps)]
    for rung in range(1, _RUNGS + 1):
        begun = torch.lerp(torch.tensor(max(0.5, deepest)), torch.tensor(deepest), (rung - 1) / (_RUNGS - 1))
        # The last step is always guided, however few there are.
        guided_steps = (times >= min(float(begun) - 1e-6, float(times[-1]))).float()
        rows.append(guided_steps * strongest * rung / _RUNGS)
    return torch.stack(rows)
