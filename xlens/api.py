"""``fit`` and ``load``: from a classifier and data to an explainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xlens import params
from xlens._arguments import side_info_table
from xlens._begin import (
    check_agreement,
    check_over,
    check_start,
    check_whole,
    digest_of_lens,
    digest_of_start,
    take_first_buffers,
)
from xlens.classifier import Classifier, as_classifier
from xlens.contracts import Backend, Explainer, Lens, Run, StepEvent
from xlens.data import Data, as_data
from xlens.errors import DataError, OptionError, UnsupportedError, XlensError
from xlens.explainer import LensExplainer
from xlens.registry import load_backend, offering
from xlens.storage import StoredLens, load_lens
from xlens.training.edit_mask import fit_edit_mask
from xlens.training.processes import process_state_restored, processes
from xlens.training.survey import Survey, survey

__all__ = ["fit", "load"]

_ARGUMENTS = (
    "side_info",
    "over",
    "start_from",
    "supervision",
    "seed",
    "device",
    "output_dir",
    "resume",
    "on_step",
    "progress",
    "mixed_precision",
)


def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: str | Backend,
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Any,
) -> Explainer:
    """Fit a lens around a classifier, which is left exactly as it is.

    In a program that torchrun or accelerate launched as several processes, each calls this with the same arguments
    and the whole data, takes its share of every batch, and gets the same lens. Where f's buffers differ, as running
    statistics do after training under DDP, the lens is fitted around f with those of the first process, and is
    saved with that one's fingerprint.

    Args:
        model: the trained classifier, or an :class:`xlens.Classifier` around it.
        data: inputs in the classifier's own normalisation: a tensor or array ``(n, *S)``, ``(X, y)``, a Dataset, a
            DataLoader, or any re-iterable of batches. A DataLoader with a generator of its own decides its order
            by that, and not by `seed`.
        backend: name of an installed backend (see :func:`xlens.backends`), or a backend object.
        side_info: ``(n, A)`` attributes for weakly supervised lenses, NaN where not observed.
        over: an explainer whose codes the new lens works on.
        start_from: an explainer of the same backend and sizes, for a classifier that was trained further or anew:
            the fit begins with its lens and mask, and needs far fewer steps. It is not changed.
        supervision: where class labels come from: ``"classifier"`` (f's own outputs, so that the lens explains f)
            or ``"labels"`` (the data's).
        seed: seeds everything random; the same seed gives the same lens on the same machine.
        device: where the lens is trained; the classifier's device if None.
        output_dir: folder for checkpoints.
        resume: continue from the checkpoints in `output_dir`.
        on_step: called with a :class:`xlens.StepEvent` after each step, in every process with its own losses.
        progress: show progress bars; None shows them on a terminal.
        mixed_precision: ``"bf16"`` runs training steps in bfloat16 where that is safe, with float32 weights; f is
            included then, but what it says of the data is taken in its own precision. ``"no"`` does not.
        **options: fields of the backend.

    Returns:
        the explainer.

    Raises:
        OptionError: an unknown option, or a value outside its constraint, all faults in one error; or `start_from`
            is of another backend, or of another size.
        DataError: the data cannot be used, or `start_from` was fitted on inputs of another shape.
        ModelError: the classifier cannot be used.
        BackendNotFoundError: there is no such backend.
        TrainingError: training diverged again and again.

    >>> import xlens
    >>> explainer = xlens.fit(classifier, images, backend="medxgan", steps=2, progress=False)
    >>> explainer.backend.steps
    2
    """
    faults = _argument_faults(supervision, seed, device, output_dir, resume, mixed_precision)
    chosen = as_backend(backend, options, faults)
    _check_uses(chosen, side_info=side_info, over=over)
    check_start(chosen, start_from)
    wrapped = as_classifier(model)
    source = as_data(data)
    where = torch.device(device) if device is not None else wrapped.device
    # Training needs gradients, whatever the caller has switched off.
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.enable_grad(), process_state_restored(), _float32()):
            stack.enter_context(context)
        stack.enter_context(wrapped.frozen(seed=seed))
        together = processes(where)
        progress = progress if together.writes else False
        take_first_buffers(together, wrapped)
        with together.jointly("fit", XlensError):
            check_whole(together, source)
            if output_dir is not None and not resume and together.writes:
                _forget_checkpoints(Path(output_dir))
            found = survey(wrapped, source, progress=progress, use_labels=supervision == "labels")
            check_over(over, wrapped, found.spec)
        check_agreement(together, wrapped, found)
        names = wrapped.class_names
        if names is not None and len(names) != found.spec.num_classes:
            raise DataError(
                "fit: class_names do not fit the classifier",
                given=f"{len(names)} names",
                allowed=f"{found.spec.num_classes}",
                do="name every class once",
            )
        table = _side_info(side_info, source)
        begun = None if start_from is None else digest_of_start(start_from, found.spec)
        run = Run(
            seed=seed,
            device=where,
            spec=found.spec,
            logits=found.logits,
            supervision=supervision,
            side_info=table,
            over=over,
            start_from=start_from,
            output_dir=Path(output_dir) if output_dir is not None else None,
            resume=resume,
            on_step=on_step,
            progress=progress,
            mixed_precision=mixed_precision,
            identity=_identity(chosen, wrapped, found, table, seed, supervision, over, begun, mixed_precision),
        )
        lens = chosen.fit(wrapped, source, run)
        if not isinstance(lens, Lens):
            raise XlensError(
                f"fit: the backend {chosen.name!r} returned no lens",
                given=type(lens).__name__,
                allowed="a subclass of xlens.Lens",
            )
        lens = lens.to(where).eval().requires_grad_(False)
        mask = None
        if found.spec.is_image and lens.decodes_to == "inputs":
            earlier = None if start_from is None else start_from.mask
            mask = fit_edit_mask(wrapped, lens, source, run, found.sample, earlier).requires_grad_(False)
    provenance = {"seed": seed, "supervision": supervision} | ({"start_from": begun} if begun else {})
    return LensExplainer(wrapped, lens, chosen, found.spec, mask, provenance, over)


def load(
    path: str | Path,
    model: nn.Module | Classifier,
    *,
    strict: bool = True,
    device: str | torch.device | None = None,
) -> Explainer:
    """Read a lens that :meth:`xlens.Explainer.save` wrote.

    Args:
        path: the folder.
        model: the classifier that the lens was fitted around.
        strict: refuse another classifier; False uses the lens all the same.
        device: where the lens goes; the classifier's device if None.

    Raises:
        StorageError: missing, truncated, edited, of another version, or for another classifier.
        BackendNotFoundError: the backend that fitted it is not installed.

    >>> import tempfile, xlens
    >>> folder = tempfile.mkdtemp()
    >>> explainer.save(folder)
    >>> xlens.load(folder, classifier).backend.name
    'medxgan'
    """
    if faults := _device_faults(device):
        raise OptionError("load: " + "; ".join(faults))
    where = torch.device(device) if device is not None else None
    stored = load_lens(path, model, strict=strict, device=where)
    return _explainer_of(stored, stored.classifier)


@contextmanager
def _float32() -> Iterator[None]:
    """Lenses are trained in float32, whatever the program's default is."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _forget_checkpoints(folder: Path) -> None:
    """Remove what an earlier run left, which a later resumption would otherwise take for this run's."""
    for path in folder.glob("*.checkpoint"):
        path.unlink()


def _identity(
    backend: Backend,
    classifier: Classifier,
    found: Survey,
    table: Tensor | None,
    seed: int,
    supervision: str,
    over: Explainer | None,
    begun: str | None,
    mixed_precision: str,
) -> str:
    """Hash everything that decides the result of a fit."""
    facts = {
        "backend": backend.name,
        "options": params.to_dict(backend),
        "fingerprint": classifier.fingerprint(),
        "data": found.digest or [list(found.spec.shape), found.spec.num_classes],
        "seed": seed,
        "supervision": supervision,
        "side_info": None if table is None else hashlib.sha256(table.numpy().tobytes()).hexdigest(),
    }
    if over is not None:
        facts["over"] = digest_of_lens(over.lens)
    if begun is not None:
        facts["start_from"] = begun
    if mixed_precision != "no":
        facts["mixed_precision"] = mixed_precision
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def as_backend(backend: str | Backend, options: dict[str, Any], faults: list[str]) -> Backend:
    """Return the backend of that name with these options, or the backend object as it is.

    Args:
        backend: a name or an object.
        options: fields of the backend, where it is a name.
        faults: what is wrong already, to be named in the same error.

    Raises:
        OptionError: anything is wrong.
        BackendNotFoundError: there is no such backend.
    """
    if isinstance(backend, str):
        return params.make(load_backend(backend), options, extra=_ARGUMENTS, faults=faults)
    if not isinstance(backend, Backend):
        raise OptionError(
            "fit: backend is neither a name nor a backend object",
            given=type(backend).__name__,
            allowed="a name from xlens.backends(), or an instance of a Backend",
        )
    if options:
        raise OptionError(
            "fit: options beside a backend object",
            given=", ".join(options),
            do=f"set them on the object: {type(backend).__name__}({', '.join(f'{k}=...' for k in options)})",
        )
    if faults:
        raise OptionError("fit: " + "; ".join(faults))
    return backend


def _argument_faults(
    supervision: str, seed: int, device: Any, output_dir: str | Path | None, resume: bool, mixed_precision: str
) -> list[str]:
    faults = []
    if supervision not in ("classifier", "labels"):
        faults.append(f"supervision must be 'classifier' or 'labels', got {supervision!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        faults.append(f"seed must be an int >= 0 and < 2**63, got {seed!r}")
    if mixed_precision not in ("no", "bf16"):
        faults.append(f"mixed_precision must be 'no' or 'bf16', got {mixed_precision!r}")
    if resume and output_dir is None:
        faults.append("resume=True needs the output_dir of the interrupted run")
    if output_dir is not None and Path(output_dir).exists() and not Path(output_dir).is_dir():
        faults.append(f"output_dir must be a folder, got the file {str(output_dir)!r}")
    return faults + _device_faults(device)


def _device_faults(device: Any) -> list[str]:
    if device is None:
        return []
    try:
        if torch.device(device).type == "mps":
            return ["device 'mps' has no float64, in which attributions are summed; use 'cpu' or 'cuda'"]
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as fault:
        says = (str(fault) or type(fault).__name__).splitlines()[0]
        return [f"device must be one that torch can use here, got {device!r} ({says})"]
    return []


def _check_uses(backend: Backend, **arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None and name not in backend.capabilities:
            raise UnsupportedError(
                f"fit: the backend {backend.name!r} does not use {name}",
                allowed=f"backends that do: {', '.join(offering(name)) or 'none is installed'}",
                do=f"leave {name} out, or choose another backend",
            )


def _explainer_of(stored: StoredLens, classifier: Classifier) -> LensExplainer:
    for part in (stored.lens, stored.mask):
        if part is not None:
            part.requires_grad_(False)
    below = None if stored.over is None else _explainer_of(stored.over, classifier)
    return LensExplainer(
        classifier, stored.lens, stored.backend, stored.spec, stored.mask, stored.provenance, below
    )


def _side_info(side_info: Any, data: Data) -> Tensor | None:
    if side_info is None:
        return None
    table = side_info_table("fit", side_info)
    if not data.indexed or table.dim() != 2 or len(table) != len(data):
        raise DataError(
            "fit: side_info does not fit the data",
            given=tuple(table.shape),
            allowed=f"({len(data)}, A)" if data.indexed else "data with a stable order (a tensor or a Dataset)",
            do="pass one row of attributes per input, NaN where not observed",
        )
    return table
