"""What a tensor holds, whatever kind it is: to compare it bit by bit, to copy it, to put it back, to hash it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

from xlens.classifier.contexts import Context
from xlens.classifier.interrupts import own_lines_uninterrupted, uninterrupted

__all__ = ["KeptTensor", "Unwatched", "bits", "copy_of", "parts_of", "same", "unwatched"]

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


#: Bytes of a number -> whole numbers of as many bytes, of which two are equal where their bits are.
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """Return the values as bytes ``(n,)``, so that NaN equals NaN and -0 differs from 0."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def parts_of(tensor: Tensor) -> Iterator[str | Tensor]:
    """Yield what decides a tensor's values: facts in words, and dense tensors that :func:`bits` can read."""
    tensor = tensor.detach()
    if is_traceable_wrapper_subclass(tensor):
        names, context = tensor.__tensor_flatten__()
        yield f"{type(tensor).__name__}{names}{context}"
        for name in names:
            yield from parts_of(getattr(tensor, name))
    elif tensor.is_quantized:
        yield f"{tensor.qscheme()}"
        yield tensor.int_repr()
        if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield f"{tensor.q_scale()!r},{tensor.q_zero_point()}"
        else:
            yield f"{tensor.q_per_channel_axis()}"
            yield tensor.q_per_channel_scales()
            yield tensor.q_per_channel_zero_points()
    elif tensor.layout is torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in _COMPRESSED:
        yield from (getattr(tensor, name)() for name in _COMPRESSED[tensor.layout])
        yield tensor.values()
    elif tensor.is_meta:
        yield "meta"
    else:
        yield tensor if tensor.layout is torch.strided else tensor.to_dense()


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same, bit by bit."""
    if (first.shape, first.dtype, first.layout) != (second.shape, second.dtype, second.layout):
        return False
    if _is_ordinary(first) and _is_ordinary(second) and first.device == second.device:
        whole = _WHOLE[first.element_size()]
        return torch.equal(first.detach().view(whole), second.detach().view(whole))
    pairs = list(zip(parts_of(first), parts_of(second), strict=False))
    return all(
        a == b if isinstance(a, str) or isinstance(b, str) else torch.equal(bits(a), bits(b).to(a.device))
        for a, b in pairs
    )


def _is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in memory, as nearly all are."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout is torch.strided and not tensor.is_meta
    return (
        plain
        and not (tensor.is_quantized or tensor.is_neg() or tensor.is_complex())
        and tensor.element_size() in _WHOLE
    )


def copy_of(tensor: Tensor) -> Tensor:
    """Return a copy that nothing else writes to; on the CPU where the tensor's own device is full."""
    try:
        return tensor.detach().clone()
    except torch.OutOfMemoryError:
        if tensor.device.type == "cpu":
            raise
        return tensor.detach().cpu()


class Unwatched(Context[None]):
    """What :func:`unwatched` returns."""

    _stack: ExitStack | None = None

    @own_lines_uninterrupted
    def begin(self) -> None:
        """Set modes aside, and switch gradients off."""
        self._gradients = torch.is_grad_enabled()
        self._stack = ExitStack()
        self._stack.enter_context(torch._C.DisableTorchFunction())
        self._stack.enter_context(_disable_current_modes())
        torch._C._set_grad_enabled(False)

    @uninterrupted
    def end(self) -> None:
        """Put everything back."""
        if self._stack is not None:
            torch._C._set_grad_enabled(self._gradients)
            self._stack.close()
            self._stack = None


def unwatched() -> Unwatched:
    """Within this context tensors are copied and compared as if nobody looked: no modes of anybody, no gradients.

    A mode that counts, records or refuses operations is meant for the user's, and not for those that put back.
    """
    return Unwatched()


class KeptTensor:
    """A tensor's flag, gradient and storage, and with `copy` its values too.

    Reading them may fail, putting back what costs nothing (:meth:`put_back_flags`) cannot, and putting back values
    is tried by writing where comparing fails.
    """

    def __init__(self, tensor: Tensor, *, copy: bool) -> None:
        self.tensor = tensor
        self.requires_grad, self.grad = tensor.requires_grad, tensor.grad if tensor.is_leaf else None
        self.storage = None if is_traceable_wrapper_subclass(tensor) else tensor.data
        self.version = _version(tensor)
        self.values: Tensor | None = None
        if copy:
            self.keep_values()
        self.grad_values = None if self.grad is None else copy_of(self.grad)

    def keep_values(self) -> None:
        """Keep the values too, as they are now, unless they are kept already."""
        if self.values is None:
            self.values = copy_of(self.tensor)

    def put_back_flags(self) -> None:
        """Put back whether it takes gradients, the gradient that it has, and the memory that it lives in."""
        tensor = self.tensor
        if tensor.requires_grad != self.requires_grad:
            # Tensors of inference mode may not be marked outside it.
            with _mode_of(tensor):
                tensor.requires_grad = self.requires_grad
        if tensor.is_leaf and tensor.grad is not self.grad:
            tensor.grad = self.grad
        kept = self.storage
        if kept is not None and (_address(tensor), tensor.shape) != (_address(kept), kept.shape):
            tensor.data = kept

    def put_back_values(self) -> None:
        """Put back the values, where they are known and have changed, and those of the gradient."""
        for live, kept in ((self.tensor, self.values), (self.grad, self.grad_values)):
            if live is not None and kept is not None and not _surely_same(live, kept):
                with _mode_of(live):
                    if live.shape != kept.shape:
                        # torch's stub leaves out the form of set_ that takes a tensor.
                        live.set_(kept.to(live.device))  # type: ignore[call-overload]
                    else:
                        live.copy_(kept)

    @property
    def written(self) -> bool:
        """Whether it was written to in a way that tensors count."""
        return _version(self.tensor) != self.version


def _surely_same(live: Tensor, kept: Tensor) -> bool:
    # Writing only what changed leaves version counters, which autograd checks, alone.
    try:
        return same(live, kept)
    except Exception:  # noqa: BLE001 - out of memory, or anything else: what cannot be compared is written
        return False


def _mode_of(tensor: Tensor) -> AbstractContextManager[Any]:
    # Only where it is needed: `inference_mode(False)` would switch gradients on.
    return torch.inference_mode() if tensor.is_inference() else nullcontext()


def _version(tensor: Tensor) -> int:
    # Tensors of inference mode do not count.
    return -1 if tensor.is_inference() else tensor._version


def _address(tensor: Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0  # a kind of tensor without memory of its own
