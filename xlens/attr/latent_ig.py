"""Latent integrated gradients, with Captum's constructor-then-attribute form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xlens.attr.captum_form import CompleteAttribution, wrappable
from xlens.attr.curve import Curve, Decoded, Segment
from xlens.attr.evaluate import Score
from xlens.attr.integral import Integrator, Placement, integral_faults, path_integral
from xlens.attr.memory import budget_faults, points_in_flight
from xlens.attr.packing import Packing
from xlens.attr.paths import PATHS, CodePath, code_path
from xlens.attr.quadrature import Method
from xlens.attr.targets import (
    Target,
    as_tuple,
    baselines_like,
    decoded_batch,
    row_arguments,
    selected,
    target_index,
)
from xlens.classifier.frozen import frozen
from xlens.classifier.turns import Turn
from xlens.contracts.numbers import is_count, is_number, plain
from xlens.errors import DataError, OptionError, XlensWarning, did_you_mean

__all__ = ["LatentIntegratedGradients"]

_WHO = "LatentIntegratedGradients"


class LatentIntegratedGradients(CompleteAttribution):
    """Latent integrated gradients ``(N, *S)``: attributions along the path that a generator takes between codes.

    With ``decode`` the identity, and Captum's default ``method="gausslegendre"``, this is Captum's
    IntegratedGradients. It is a Captum ``Attribution``: ``captum.attr.NoiseTunnel(lig)`` and ``captum.metrics``
    take it. Modules are run in eval mode, without gradients to their parameters, and left as they are.

    Args:
        forward_func: the model, or any function of decoded inputs ``(N, *S)`` that returns ``(N,)`` or
            ``(N, ...)``. Where `decode` returns a tuple, its members are passed one by one.
        decode: the generator: maps codes, passed one by one where they are a tuple, to inputs. It builds no
            graph, but for ``attribute_codes`` and for curved paths.

    >>> import torch
    >>> from xlens.attr import LatentIntegratedGradients
    >>> lig = LatentIntegratedGradients(lambda x: x.square().sum(1), lambda z: torch.cat([z.sin(), z], 1))
    >>> maps, delta = lig.attribute(torch.ones(1, 1), return_convergence_delta=True, n_steps=200)
    >>> maps.round(decimals=3)  # sin(1)^2 and 1, together f(G(1)) - f(G(0))
    tensor([[0.7080, 1.0000]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        decode: Callable[..., Tensor | tuple[Tensor, ...]],
    ) -> None:
        super().__init__(forward_func)
        self.decode = decode

    @wrappable
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Tensor | float | tuple[Tensor | float, ...] | None = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Method = "midpoint",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        integrator: Integrator = "lig",
        path: CodePath = "linear",
        placement: Placement = "uniform",
        tolerance: float | None = None,
        memory_budget: int | None = None,
    ) -> Any:
        """Return what each pixel contributes to f(G(z)) - f(G(z0)).

        Args:
            inputs: codes z ``(N, d)``, or a tuple of them.
            baselines: codes z0 of the counterfactual: same shapes, single rows, or numbers; zeros if None.
            target: what of the output is explained, in Captum's forms: an int, a tuple of ints for outputs of
                more than two dimensions, a tensor or list with one per row, or None for outputs ``(N,)``.
            additional_forward_args: passed on to `forward_func`; tensors have one row per input.
            n_steps: segments, or nodes, of each path.
            method: the quadrature. ``"midpoint"`` goes by chords of the decoded path. Captum's
                ``"gausslegendre"`` and ``"riemann_..."`` take the path's exact velocity by forward-mode
                autograd; on smooth functions Gauss-Legendre converges fastest.
            internal_batch_size: points evaluated at once; it bounds the batch below N as well. None: as
                many as fit into `memory_budget`.
            return_convergence_delta: return the delta too.
            integrator: ``"lig"``, ``"idgi"`` or ``"lig_paper"`` (:func:`xlens.attr.path_integral`).
            path: ``"linear"`` between the codes, ``"geodesic"``, ``"guided"``, or ``"pixel"``, the straight line
                between the decoded ends.
            placement: ``"uniform"`` steps, or ``"decision"``: many where the output changes much.
            tolerance: refine each path until its delta is within this share of the difference; None keeps
                `n_steps`, as Captum does.
            memory_budget: bytes that points in flight may take; None for a default of the device.

        Returns:
            attributions of the shape that `decode` returns (a tuple where it returns one, and for codes in a tuple
            of one, in which Captum's metrics pass them), and with `return_convergence_delta` the delta ``(N,)``:
            their sum minus f(G(z)) - f(G(z0)).

        Raises:
            DataError: inputs, baselines or target do not fit.
            ModelError: a score or gradient is not finite, or does not follow its input.
            OptionError: an unknown name or a number out of range; all faults in one error.

        Warns:
            XlensWarning: a sum misses `tolerance` all the same, as at jumps, or with ``"lig_paper"``.
        """
        _check(integrator, method, placement, path, n_steps, tolerance, internal_batch_size, memory_budget)
        n_steps, tolerance, internal_batch_size = plain((n_steps, tolerance, internal_batch_size))
        with Turn(), torch.enable_grad(), self._frozen():
            problem = self._problem(inputs, baselines, target, additional_forward_args)
            batch = internal_batch_size or problem.points_in_flight(memory_budget)
            values, delta = path_integral(
                problem.score,
                problem.curve(path, batch),
                len(problem.end),
                device=problem.end.device,
                n_steps=n_steps,
                tolerance=tolerance,
                internal_batch_size=batch,
                integrator=integrator,
                method=method,
                placement=placement,
            )
        if tolerance is not None:
            _warn_of(delta, values, tolerance)
        attributions = problem.pixels.unpack_as_given(values)
        if isinstance(inputs, tuple) and len(inputs) == 1 and isinstance(attributions, Tensor):
            attributions = (attributions,)
        return (attributions, delta) if return_convergence_delta else attributions

    def attribute_codes(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Tensor | float | tuple[Tensor | float, ...] | None = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: Method = "midpoint",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        tolerance: float | None = None,
        memory_budget: int | None = None,
    ) -> Any:
        """Return what each dimension of the code contributes to the same difference.

        The integral along the straight line in code space, Captum's IntegratedGradients of f(G(z)). Arguments
        as for :meth:`attribute`.

        Returns:
            attributions of the shape of `inputs`, and the delta with `return_convergence_delta`.
        """

        def same(*codes: Tensor) -> Tensor | tuple[Tensor, ...]:
            return codes if isinstance(inputs, tuple) else codes[0]

        through = self.outputs(len(inputs) if isinstance(inputs, tuple) else 1)
        return LatentIntegratedGradients(through, same).attribute(
            inputs,
            baselines,
            target,
            additional_forward_args,
            n_steps,
            method,
            internal_batch_size,
            return_convergence_delta,
            tolerance=tolerance,
            memory_budget=memory_budget,
        )

    def outputs(self, count: int) -> Callable[..., Any]:
        """Return f(G(z)), of `count` codes and what else ``forward_func`` takes."""

        def through(*arguments: Any) -> Tensor:
            decoded = self.decode(*arguments[:count])
            return self.forward_func(*(decoded if isinstance(decoded, tuple) else (decoded,)), *arguments[count:])

        return through

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Put modules into eval mode meanwhile, and leave them, and the global RNGs, as they were."""
        with ExitStack() as stack:
            for function in (self.forward_func, self.decode):
                owner = getattr(function, "__self__", function)
                if isinstance(owner, nn.Module):
                    stack.enter_context(frozen(None, owner, seed=0, copy_parameters=False))
            yield

    def _problem(self, inputs: Any, baselines: Any, target: Target, additional_forward_args: Any) -> _Problem:
        parts = as_tuple(inputs, _WHO)
        starts = baselines_like(baselines, parts, _WHO)
        codes = Packing.like(parts)
        arguments = row_arguments(additional_forward_args, len(parts[0]), _WHO)
        start, end = (_usable(codes.pack(at)) for at in (starts, parts))
        index = target_index(target, len(end), _WHO)

        def decoded(packed: Tensor) -> Tensor | tuple[Tensor, ...]:
            # What a decoder makes in inference mode could not be differentiated: it is copied.
            made = self.decode(*codes.unpack(packed))
            return decoded_batch(made, len(packed), _WHO)

        with torch.no_grad():
            pixels = Packing.like(decoded(end[:1]))

        def score(points: Tensor, rows: Tensor) -> Tensor:
            further = [a[rows.to(a.device)] if isinstance(a, Tensor) and a.dim() else a for a in arguments]
            output = self.forward_func(*pixels.unpack(points), *further)
            return selected(output, index, rows, _WHO).to(points.device)

        return _Problem(start, end, pixels, lambda packed: pixels.pack(decoded(packed)), score)


@dataclass(frozen=True)
class _Problem:
    """One call, with tuples packed: codes at both ends, the generator, and the score of decoded points."""

    start: Tensor
    end: Tensor
    pixels: Packing
    decode: Callable[[Tensor], Tensor]
    score: Score

    def curve(self, path: CodePath, batch: int) -> Curve:
        if path == "pixel":
            with torch.no_grad():
                ends = [torch.cat([self.decode(p) for p in at.split(batch)]) for at in (self.start, self.end)]
            return Segment(*ends)
        codes = code_path(path, self.start, self.end, self.decode, self.score, batch)
        return Decoded(codes, self.decode)

    def points_in_flight(self, memory_budget: int | None) -> int:
        first = torch.zeros(1, dtype=torch.long, device=self.end.device)

        def one() -> Tensor:
            with torch.no_grad():
                point = self.decode(self.end[:1])
            point = point.detach().requires_grad_()
            with torch.enable_grad():
                score = self.score(point, first).sum()
                # A score that no gradient follows is refused where it is integrated.
                return torch.autograd.grad(score, point)[0] if score.requires_grad else point

        return points_in_flight(one, self.end.device, memory_budget)


def _usable(codes: Tensor) -> Tensor:
    if not codes.is_floating_point():
        raise DataError(
            f"{_WHO}: inputs are {codes.dtype}, and whole numbers have no gradient", do="pass them as floats"
        )
    codes = codes.detach()
    return codes.clone() if codes.is_inference() else codes


def _warn_of(delta: Tensor, values: Tensor, tolerance: float) -> None:
    difference = values.flatten(1).to(delta.dtype).sum(1) - delta
    missed = int((delta.abs() > 1.02 * tolerance * difference.abs().clamp_min(1e-3)).sum())
    if missed:
        warnings.warn(
            f"{_WHO}: {missed} of {len(delta)} attributions are not complete within {tolerance:g}; see the "
            "convergence delta (return_convergence_delta=True), and take more steps.",
            XlensWarning,
            stacklevel=4,  # over what makes the method wrappable
        )


def _check(
    integrator: Any,
    method: Any,
    placement: Any,
    path: Any,
    n_steps: Any,
    tolerance: Any,
    internal_batch_size: Any,
    memory_budget: Any,
) -> None:
    faults = integral_faults(integrator, method, placement) + budget_faults(memory_budget)
    if path not in PATHS:
        faults.append(f"path {path!r} is unknown.{did_you_mean(str(path), PATHS)} Known: {', '.join(PATHS)}")
    for name, value in (("n_steps", n_steps), ("internal_batch_size", internal_batch_size)):
        optional = name == "internal_batch_size" and value is None
        if not optional and not is_count(value):
            faults.append(f"{name} must be an int >= 1, got {value!r}")
    if tolerance is not None and not (is_number(tolerance) and tolerance > 0):
        faults.append(f"tolerance must be a number > 0 or None, got {tolerance!r}")
    if faults:
        raise OptionError(f"{_WHO}: " + "; ".join(faults))
