"""The part of an explainer that learns from people: what to ask about next, and learning from the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from xlens.classifier.turns import Turn
from xlens.contracts.backend import Run, StepEvent
from xlens.contracts.numbers import check_count, check_seed
from xlens.counterfactual.fit_mask import fit_edit_mask
from xlens.data import Data, as_data, side_info_table
from xlens.errors import DataError, OptionError, UnsupportedError, did_you_mean, warn
from xlens.fitted import Fitted
from xlens.training.processes import process_state_restored

__all__ = ["STRATEGIES", "Strategy", "Teaching"]

#: How ``query`` chooses inputs to ask a person about.
Strategy = Literal["power_mutual_information", "mutual_information", "max_entropy", "random"]
#: The same, as names.
STRATEGIES: tuple[str, ...] = get_args(Strategy)
#: Before the name of what inputs are drawn in proportion to.
_POWER = "power_"
#: Inputs that are asked about at once, and of which the statistics for a new mask are taken.
_BATCH = _SAMPLE = 256


class Teaching:
    """Active learning with a lens: what a person should be asked about next, and learning from the answers.

    It is what ``explainer.teaching`` returns.

    Args:
        fitted: classifier, lens and mask.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted

    def query(self, pool: Any, n: int, strategy: Strategy = "power_mutual_information", *, seed: int = 0) -> Tensor:
        """Return which inputs of a pool a person should be asked about next, ``(n,)`` positions, the first first.

        Args:
            pool: ``(M, *S)`` inputs of which the side information is not known.
            n: how many to ask about; all of the pool if it is smaller.
            strategy: ``"mutual_information"`` of the answer and what the lens has to learn (BALD), the largest
                first; ``"power_mutual_information"``, drawn in proportion to it, so that what is asked about
                together is not all alike; ``"max_entropy"`` of the answer; or ``"random"``.
            seed: seeds what is drawn.

        Raises:
            UnsupportedError: this lens cannot be taught.
            OptionError: an unknown strategy, or a number out of range.

        References:
            Houlsby et al. (2011), Bayesian Active Learning for Classification and Preference Learning; Kirsch et
            al. (2023), Stochastic Batch Acquisition.
        """
        fitted = self.fitted
        lens = fitted.require("teach")
        check_count("query", n)
        if strategy not in STRATEGIES:
            raise OptionError(
                f"query: unknown strategy {strategy!r}.{did_you_mean(str(strategy), STRATEGIES)}",
                allowed=", ".join(STRATEGIES),
            )
        with fitted.asking():
            inputs = fitted.inputs(pool)
            if strategy == "random":
                order = torch.randperm(len(inputs), generator=fitted.generator(seed), device=fitted.device)
                return order[:n].cpu()
            parts, of = [], strategy.removeprefix(_POWER)
            for part in inputs.split(_BATCH):
                # The same draws for each part, so that its size does not decide between two inputs.
                generator = fitted.generator(seed)
                parts.append(lens.informativeness(part.to(fitted.device), of, generator))
            value = torch.cat(parts)
            if strategy.startswith(_POWER):
                value = _drawn(value, generator)
            return value.argsort(descending=True, stable=True)[:n].cpu()

    def teach(
        self,
        inputs: Any,
        side_info: Any,
        *,
        refit_mask: bool = True,
        seed: int = 0,
        on_step: Callable[[StepEvent], None] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Learn from more side information, going on from the current state. The lens itself changes.

        Where there is a mask, it is fitted anew on the real inputs that the lens keeps, because the lens's
        counterfactuals have changed. After an error or Ctrl-C everything is as it was before.

        Args:
            inputs: ``(N, *S)``.
            side_info: ``(N, A)`` in the columns that `fit` was given, NaN where not observed.
            refit_mask: False leaves the mask as it is, which saves its time between rounds of teaching. Edits flip
                all the same, but take more of the image than they need, until :meth:`refit_mask` is called.
            seed: seeds everything random.
            on_step: called with a :class:`xlens.StepEvent` after each step.
            progress: show a progress bar; None shows it on a terminal.

        Raises:
            UnsupportedError: this lens cannot be taught.
            DataError: inputs or side information do not fit.

        Warns:
            XlensWarning: the mask would be fitted anew, and the lens keeps no inputs for it; or another lens works
                on this one's codes, and changes with it. Warnings come before anything is learned.
        """
        fitted = self.fitted
        lens = fitted.require("teach")
        seed = check_seed(seed)
        source = fitted.inputs(inputs).to(fitted.device)
        table = side_info_table("teach", side_info)
        if table.dim() != 2 or len(table) != len(source) or bool(table.isinf().any()):
            raise DataError(
                "teach: side_info does not fit the inputs",
                given=tuple(table.shape),
                allowed=f"({len(source)}, A), finite, NaN where not observed",
            )
        run = Run(seed=seed, device=fitted.device, spec=fitted.spec, on_step=on_step, progress=progress)
        kept = fitted.lens.kept_inputs
        if fitted.mask is not None and refit_mask and kept is None:
            warn(
                "teach: the mask stays as it is, for this lens keeps no inputs to fit it anew on: edits may take "
                "more of the image than they need. Call explainer.teaching.refit_mask(data)."
            )
        if above := fitted.above:
            warn(
                f"teach: over this lens lies {' and '.join(f'the {name!r} lens' for name in above)}, made for its "
                "codes as they are: what it says changes, too. Fit it anew afterwards."
            )
        before = {key: value.clone() for key, value in fitted.lens.state_dict().items()}
        try:
            with self._training(seed):
                lens.teach(source, table, run)
            fitted.lens.eval().requires_grad_(False)
            if fitted.mask is not None and refit_mask and kept is not None:
                self._fit_mask(Data(kept.cpu()), run)
        except BaseException:
            fitted.lens.load_state_dict(before)
            raise
        finally:
            fitted.lens.eval().requires_grad_(False)

    def refit_mask(
        self,
        data: Any = None,
        *,
        seed: int = 0,
        on_step: Callable[[StepEvent], None] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Fit the mask anew around the lens as it is now, as `fit` did.

        :meth:`teach` does so, unless it is told not to; ``xlens label`` leaves it out between its rounds.

        Args:
            data: inputs, in any form that :func:`xlens.fit` takes; None for those that the lens keeps.
            seed: seeds everything random.
            on_step: called with a :class:`xlens.StepEvent` after each step.
            progress: show a progress bar; None shows it on a terminal.

        Raises:
            UnsupportedError: there is no mask, or no data, and the lens keeps none.
            DataError: the data do not fit.

        >>> explainer.teaching.refit_mask(images, progress=False)
        """
        fitted = self.fitted
        seed = check_seed(seed)
        if fitted.mask is None:
            raise UnsupportedError("refit_mask: there is none to fit", allowed="lenses that decode to images")
        kept = fitted.lens.kept_inputs
        if data is None and kept is None:
            raise UnsupportedError("refit_mask: this lens keeps no inputs", do="pass data, as to fit")
        run = Run(seed=seed, device=fitted.device, spec=fitted.spec, on_step=on_step, progress=progress)
        self._fit_mask(Data(kept.cpu()) if data is None and kept is not None else as_data(data), run)

    def _fit_mask(self, data: Data, run: Run) -> None:
        fitted = self.fitted
        with self._training(run.seed):
            sample = next(data.batches(_SAMPLE, generator=torch.Generator().manual_seed(run.seed))).inputs
            sample = fitted.inputs(sample)
            # Not from where the mask stands: from one that was fitted to another lens it ends far wider.
            mask = fit_edit_mask(fitted.classifier, fitted.lens, data, run, sample, options=fitted.mask_options)
            fitted.mask = mask.requires_grad_(False)

    @contextmanager
    def _training(self, seed: int) -> Iterator[None]:
        with Turn(), torch.enable_grad(), process_state_restored():
            with self.fitted.classifier.frozen(seed=seed):
                yield


def _drawn(value: Tensor, generator: torch.Generator) -> Tensor:
    """Return keys ``(M,)`` whose order, largest first, is that of drawing in proportion without replacement.

    Values that are not above 0 come last. With Gumbel noise on logarithms the largest key is a draw, and so is the
    largest of the rest.
    """
    uniform = torch.rand(len(value), generator=generator, device=value.device).clamp(1e-9, 1 - 1e-7)
    return value.clamp_min(1e-12).log() - (-uniform.log()).log()
