"""``fit`` and ``load``: from a classifier and data to an explainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xlens.classifier.bound import Bound
from xlens.classifier.classifier import Classifier, as_classifier
from xlens.classifier.passes import counted
from xlens.classifier.turns import Turn
from xlens.classifier.wrappers import check_compiled
from xlens.codec import CodecOptions
from xlens.contracts.backend import Backend, Run, StepEvent
from xlens.contracts.explainer import Explainer
from xlens.contracts.lens import Lens
from xlens.contracts.numbers import check_seed, is_count
from xlens.contracts.options import to_dict
from xlens.counterfactual.fit_mask import fit_edit_mask, wants_mask
from xlens.counterfactual.mask import EditMask
from xlens.counterfactual.mask_options import MaskOptions
from xlens.data import Data, as_data
from xlens.errors import DataError, OptionError, XlensError
from xlens.explainer import LensExplainer
from xlens.files.limits import MOST_BYTES
from xlens.fitted import Fitted, as_fitted
from xlens.fitting.agreement import check_agreement, check_whole, take_first_buffers
from xlens.fitting.answers import check_answers, check_asked
from xlens.fitting.arguments import argument_faults, as_backend, check_uses, device_faults, side_info_rows
from xlens.fitting.choosing import choose, unnamed_faults
from xlens.fitting.cost import with_cost
from xlens.fitting.first_stage import as_coded, as_distilled, check_codec, fit_behind_codec, holding, untrained
from xlens.fitting.normalization import normalization_of, unknown_colours
from xlens.fitting.saying import say
from xlens.fitting.soundness import say_unsound, soundness
from xlens.fitting.staging import as_decoder, check_layer, fit_on_layer, on_layer
from xlens.fitting.starts import check_over, check_start, digest_of_start, identity_of
from xlens.hub.download import fetched
from xlens.hub.names import hub_name, is_on_hub
from xlens.metrics.likeness import PatchBank
from xlens.stages.decoder import DecoderOptions
from xlens.storage import load_lens
from xlens.surrogate import Surrogate, SurrogateOptions
from xlens.training.processes import process_state_restored, processes
from xlens.training.survey import Survey, survey

__all__ = ["fit", "load"]

#: Real inputs by which edits are judged: at most, read at once, and at least.
_BANK, _READ, _FEWEST = 256, 64, 16


def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: str | Backend | None = None,
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Any,
) -> LensExplainer:
    """Lens around a frozen classifier: fitted on data ``(n, *S)``, returned as the explainer that asks it.

    In a program that torchrun or accelerate launched as several processes, each calls this with the same arguments
    and the whole data, takes its share of every batch, and gets the same lens. Where the classifier's buffers
    differ, as running statistics do after training under DDP, the lens is fitted around it with those of the first
    process, and is saved with that one's fingerprint.

    Args:
        model: the trained classifier, or an :class:`xlens.Classifier` around it. One whose hidden layer is named is
            explained there: the lens is fitted on the layer's activations.
        data: inputs in the classifier's own normalisation: a tensor or array ``(n, *S)``, ``(X, y)``, a Dataset, a
            DataLoader, or any re-iterable of batches. A DataLoader with a generator of its own decides its order
            by that, and not by `seed`.
        backend: name of an installed backend (see :func:`xlens.backends`), or a backend object. None chooses by the
            data, and says what, why and at what cost: one that edits and trains nothing, where small regions tell
            the classes apart, or else the one that the installation names.
        side_info: ``(n, A)`` attributes for weakly supervised lenses, NaN where not observed.
        over: an explainer whose codes the new lens works on.
        start_from: an explainer of the same backend and sizes, for a classifier that was trained further or anew:
            the fit begins with its lens and mask, and needs far fewer steps. It is not changed.
        supervision: where class labels come from: ``"classifier"`` (the classifier's own outputs, so that
            the lens explains it) or ``"labels"`` (the data's; of a classifier of independent labels, 0 or 1 for the
            one that is explained, such as ``y[:, k]``).
        mask: how the mask is fitted that carries the lens's changes onto images; None for the defaults, which with
            a lens whose changes are small by themselves is to fit none.
        codec: whether an autoencoder is trained first, on whose latents the lens is fitted: ``"none"``; ``"auto"``,
            for images with a side above 128 pixels; :class:`xlens.codec.CodecOptions`; or a trained autoencoder of
            your own, any module with encode and decode (see :func:`xlens.codec.as_codec`), which is not changed, is
            not saved with the lens, and is passed to :func:`xlens.load`. What it keeps of the images stands in
            ``explainer.provenance["codec"]``. It goes with no hidden layer.
        surrogate: behind an autoencoder, what a lens learns from that follows the classifier's gradient:
            ``"auto"``, a small network that is distilled from the classifier and told every few steps what the
            classifier says of the lens's decodings; :class:`xlens.surrogate.SurrogateOptions`; or ``"none"``, the
            classifier itself, which at 224 pixels takes hours. How well it stood for the classifier is in
            ``explainer.provenance["surrogate"]``. Whatever is asked afterwards, the classifier itself answers.
        decoder: of a lens on a hidden layer, whether to train a decoder from there back to inputs with it, which
            ``show="decode"`` shows; or its options.
        seed: seeds everything random; the same seed gives the same lens on the same machine.
        device: where the lens is trained; the classifier's device if None.
        output_dir: folder for checkpoints.
        resume: continue from the checkpoints in `output_dir`.
        on_step: called with a :class:`xlens.StepEvent` after each step, in every process with its own losses.
        progress: show progress bars, and what the fit will cost; None shows them on a terminal, and logs the cost
            elsewhere, under ``xlens``; False is silent.
        mixed_precision: ``"bf16"`` runs training steps in bfloat16 where that is safe, with float32 weights; the
            classifier is included then, but what it says of the data is taken in its own precision. ``"no"``
            does not.
        **options: fields of the backend.

    Returns:
        the explainer.

    Raises:
        OptionError: an unknown option, or a value outside its constraint, all faults in one error; or `start_from`
            is of another backend, or of another size.
        DataError: the data cannot be used, or `start_from` was fitted on inputs of another shape.
        ModelError: the classifier cannot be used, or `codec` is no autoencoder of such images.
        BackendNotFoundError: there is no such backend.
        UnsupportedError: the backend makes nothing of a hidden layer that is named.
        TrainingError: training diverged again and again.

    Warns:
        XlensWarning: the lens is not sound: it reconstructs worse than the mean input would, the classifier sees
            other classes in its reconstructions, or its counterfactuals do not turn the classifier.

    >>> import xlens
    >>> explainer = xlens.fit(classifier, images, backend="medxgan", steps=2, progress=False)
    >>> explainer.backend.steps
    2
    >>> hidden = xlens.Classifier(classifier, layer="1")
    >>> xlens.fit(hidden, images, backend="svae", steps=2, progress=False).on_layer
    True
    """
    with Turn():
        faults = argument_faults(supervision, mask, seed, device, output_dir, resume, mixed_precision)
        if backend is None:
            backend = _default(model, data, options, faults, seed, device, progress, side_info, over, start_from)
        chosen = as_backend(backend, options, faults)
        seed = check_seed(seed)
        check_uses(chosen, side_info=side_info, over=over)
        begin = check_start(chosen, start_from, data)
        below = None if over is None else as_fitted(over, "fit", "over", data)
        wrapped = as_classifier(model)
        check_compiled(wrapped.model)
        check_asked(wrapped)
        back = as_decoder(decoder)
        check_layer(chosen, wrapped, back, begin, mask)
        check_codec(codec, chosen, wrapped, begin)
        source = as_data(data)
        where = torch.device(device) if device is not None else wrapped.device
        masked = {} if mask is None else to_dict(mask)
        with _fitting(wrapped, seed), holding(codec), counted(wrapped) as passes:
            together = processes(where)
            progress = progress if together.writes else False
            take_first_buffers(together, wrapped)
            with together.jointly("fit", XlensError):
                check_whole(together, source)
                if output_dir is not None and not resume and together.writes:
                    _forget_checkpoints(Path(output_dir))
                found = survey(wrapped, source, progress=progress, use_labels=supervision == "labels")
                check_over(below, wrapped, found.spec)
                check_answers(wrapped, found.sample)
            check_agreement(together, wrapped, found)
            _check_names(wrapped, found)
            table = side_info_rows(side_info, source)
            begun = None if begin is None else digest_of_start(begin, found.spec)
            run = Run(
                seed=seed,
                device=where,
                spec=found.spec,
                logits=found.logits,
                supervision=supervision,
                side_info=table,
                over=below,
                start_from=begin,
                output_dir=Path(output_dir) if output_dir is not None else None,
                resume=resume,
                on_step=on_step,
                progress=progress,
                mixed_precision=mixed_precision,
                passes=passes,
                identity=identity_of(
                    chosen,
                    wrapped,
                    found,
                    table,
                    seed=seed,
                    supervision=supervision,
                    over=below,
                    begun=begun,
                    mixed_precision=mixed_precision,
                    mask=masked,
                    decoder={} if back is None else to_dict(back),
                ),
            )
            normalization = normalization_of(wrapped, source, found.spec)
            if normalization is None and (ask := unknown_colours(found.spec)) is not None:
                say(ask, progress)
            coded = as_coded(codec, found.spec, normalization)
            distilled = as_distilled(surrogate, chosen, coded, run)
            staged, known = on_layer(chosen, wrapped), {}
            like = None if coded is None else partial(untrained, chosen, wrapped, run, coded)
            run = with_cost(chosen, wrapped, run, found.sample, begin, mask, masked=not staged, build=like)
            made: Lens | None = None
            asked: Surrogate | None = None
            if coded is not None:
                made, kept, asked = fit_behind_codec(chosen, wrapped, source, run, coded, distilled)
                known = {"codec": dataclasses.asdict(kept)}
                if asked is not None:
                    known["surrogate"] = asked.fidelity.facts()
            if staged:
                made = fit_on_layer(chosen, wrapped, source, run, found.sample, back)
            fitted = _checked_lens(chosen, chosen.fit(wrapped, source, run)) if made is None else made
            lens = fitted.to(where).eval().requires_grad_(False)
            with nullcontext() if asked is None or not asked.holds else asked.answering():
                # What the lens itself asks while the mask is fitted; the mask asks the classifier.
                opened = _mask(wrapped, lens, source, run, found.sample, begin, mask)
            real = _real(source, run)
            record = Fitted(wrapped, lens, found.spec, opened, chosen, {}, below, real=real)
            judged = None if lens.examined else soundness(record, source, seed)
        if judged is not None:
            known["soundness"] = dataclasses.asdict(judged)
            say_unsound(judged)
        provenance: dict[str, Any] = {"seed": seed, "supervision": supervision}
        provenance |= {"passes": passes.facts(), **known}
        provenance |= ({"start_from": begun} if begun else {}) | ({"mask": masked} if masked else {})
        if normalization is not None:
            provenance["normalization"] = normalization.facts()
        # The classifier is as it was only now: what it is bound to is looked at anew.
        return LensExplainer(dataclasses.replace(record, provenance=provenance, bound=Bound(wrapped)))


def load(
    path: str | Path,
    model: nn.Module | Classifier,
    *,
    strict: bool = True,
    device: str | torch.device | None = None,
    max_bytes: int = MOST_BYTES,
    codec: nn.Module | None = None,
    token: str | None = None,
) -> LensExplainer:
    """Explainer from a saved lens: reads what :meth:`xlens.Explainer.save` wrote, from a folder or from the hub.

    Args:
        path: the folder, or a repository on the Hugging Face hub, as text: ``"hf://owner/name"``, with
            ``@revision`` where a branch, a tag or a commit is meant.
        model: the classifier that the lens was fitted around.
        strict: refuse another classifier; False uses the lens all the same.
        device: where the lens goes; the classifier's device if None.
        max_bytes: what may be built as the file's options say (256 MiB), unless the file is a quarter of that
            itself: a file of a few bytes can ask for networks of terabytes. What is downloaded may not be larger.
        codec: the autoencoder of your own that the lens was fitted behind, which is not saved with it.
        token: of an account on the hub that may read the repository; None for the one that is logged in.

    Raises:
        OptionError: device or max_bytes is none, the name is none on the hub, or token goes with a folder.
        StorageError: missing, truncated, edited, of another version, or for another classifier or autoencoder; or
            the hub has no such repository or revision, does not allow it, or cannot be reached.
        MissingExtraError: a lens from the hub without huggingface_hub: ``pip install 'xlens[hub]'``.
        BackendNotFoundError: the backend that fitted it is not installed.

    >>> import tempfile, xlens
    >>> folder = tempfile.mkdtemp()
    >>> explainer.save(folder)
    >>> xlens.load(folder, classifier).backend.name
    'medxgan'
    """
    faults = device_faults(device)
    if not is_count(max_bytes):
        faults.append(f"max_bytes must be a number of bytes > 0, got {max_bytes!r}")
    if token is not None and not is_on_hub(path):
        faults.append("token is for lenses on the hub, whose names begin with hf://")
    if faults:
        raise OptionError("load: " + "; ".join(faults))
    where = torch.device(device) if device is not None else None
    folder = fetched(hub_name(str(path)), max_bytes=max_bytes, token=token) if is_on_hub(path) else path
    with Turn():
        found = load_lens(folder, model, strict=strict, device=where, max_bytes=max_bytes, codec=codec)
        return LensExplainer(found)


@contextmanager
def _fitting(classifier: Classifier, seed: int) -> Iterator[None]:
    """Return the context of a fit, within its turn: gradients on, the classifier frozen."""
    with torch.enable_grad(), process_state_restored(), classifier.frozen(seed=seed):
        yield


def _default(
    model: nn.Module | Classifier,
    data: Any,
    options: dict[str, Any],
    faults: list[str],
    seed: int,
    device: str | torch.device | None,
    progress: bool | None,
    side_info: Any,
    over: Explainer | None,
    start_from: Explainer | None,
) -> Backend:
    """Return the backend for whoever names none, and say which."""
    several = not faults and processes(torch.device(device or "cpu")).count > 1
    faults = faults + unnamed_faults(options, several, side_info=side_info, over=over, start_from=start_from)
    if faults:
        raise OptionError("fit: " + "; ".join(faults))
    classifier, source = as_classifier(model), as_data(data)
    check_asked(classifier)
    where = torch.device(device) if device is not None else classifier.device
    with _fitting(classifier, check_seed(seed)):
        choice = choose(classifier, source, seed=check_seed(seed), device=where)
    say(str(choice), progress)
    return choice.backend


def _forget_checkpoints(folder: Path) -> None:
    """Remove what an earlier run left, which a later resumption would otherwise take for this run's."""
    for path in folder.glob("*.checkpoint"):
        path.unlink()


def _check_names(classifier: Classifier, found: Survey) -> None:
    names = classifier.class_names
    if names is not None and len(names) != found.spec.num_classes:
        raise DataError(
            "fit: class_names do not fit the classifier",
            given=f"{len(names)} names",
            allowed=f"{found.spec.num_classes}",
            do="name every class once",
        )


def _checked_lens(backend: Backend, lens: Any) -> Lens:
    if not isinstance(lens, Lens):
        raise XlensError(
            f"fit: the backend {backend.name!r} returned no lens",
            given=type(lens).__name__,
            allowed="a subclass of xlens.Lens",
        )
    return lens


def _mask(
    classifier: Classifier,
    lens: Lens,
    data: Data,
    run: Run,
    sample: Tensor,
    begin: Fitted | None,
    options: MaskOptions | None,
) -> EditMask | None:
    """Return the fitted mask, or None where the lens decodes to no images, or wants none and nobody asked."""
    if not wants_mask(lens, run.spec, options):
        return None
    earlier = None if begin is None else begin.mask
    return fit_edit_mask(classifier, lens, data, run, sample, earlier, options).requires_grad_(False)


def _real(data: Data, run: Run) -> PatchBank | None:
    """Return the bank of real inputs by which edits are judged, or None where inputs are no images, or too few."""
    if not run.spec.is_image or not PatchBank.scales_of(run.spec.shape):
        return None
    images, taken = [], 0
    for batch in data.batches(_READ, generator=torch.Generator().manual_seed(run.seed)):
        images.append(batch.inputs.cpu())
        taken += len(batch)
        if taken >= _BANK:
            break
    real = torch.cat(images)[:_BANK]
    return PatchBank.of(real, run.seed).to(run.device) if len(real) >= _FEWEST else None
