"""Switches that a program may have set around a call, and that must not decide what xlens finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

__all__ = ["ThreadModes", "factories_of", "neutral"]

#: Devices that autocast may be switched on for.
_CASTING = ("cpu", "cuda", "mps", "xpu", "hpu")


class _Ambient(threading.local):
    """What a program has set around the call in hand, in this thread."""

    device: torch.device | None = None
    dtype: torch.dtype | None = None


_ambient = _Ambient()


@contextmanager
def neutral() -> Iterator[None]:
    """Within this context results do not depend on the switches of the program around it.

    Autocast and inference mode are off, new tensors are float32 and lie on the CPU, and anomaly detection, which
    turns a step that could be taken back into an error, is off. The gradient mode stays. So do deterministic
    algorithms, which change nothing on a CPU and which a program wants of everything it calls, and the precision of
    float32 products.

    Default dtype and anomaly detection are the whole process's: other threads see them switched meanwhile.

    >>> with torch.autocast("cpu"), neutral():
    ...     torch.ones(2, 2).matmul(torch.ones(2, 2)).dtype
    torch.float32
    """
    before = (_ambient.device, _ambient.dtype)
    with ExitStack() as stack:
        stack.callback(_set_ambient, *before)
        _leave_inference_mode(stack)
        for device in _CASTING:
            if _casts(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if (own_device := _default_device()) is not None:
            _ambient.device = own_device
            stack.enter_context(torch.device("cpu"))
        if (dtype := torch.get_default_dtype()) is not torch.float32:
            _ambient.dtype = dtype
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False, torch.is_anomaly_check_nan_enabled()))
        yield


@contextmanager
def factories_of(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within this context the classifier's forward pass runs: it may rely on defaults that suit it.

    A model that makes tensors in its forward pass works in a program whose default device or dtype is the model's
    own; it does so here too. Where the program's defaults are not the model's, they stay neutral.
    """
    ambient_device, ambient_dtype = _ambient.device, _ambient.dtype
    if ambient_device is None and ambient_dtype is None:
        yield
        return
    with ExitStack() as stack:
        if ambient_device is not None and ambient_device.type == device.type:
            stack.enter_context(device)
        if ambient_dtype is not None and ambient_dtype == dtype:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(dtype)
        yield


class ThreadModes:
    """What is switched on in this thread, as contexts may leave it half way, and as the user's code wants it.

    Gradients, inference mode, what is cast, and the device of new tensors.
    """

    def __init__(self) -> None:
        self.gradients, self.inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self.device = _default_device()
        self.casting = {d: (torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")}

    def put_back(self) -> None:
        """Set gradients and what is cast as they were; the others are left with their contexts."""
        torch._C._set_grad_enabled(self.gradients)
        for device, (enabled, dtype) in self.casting.items():
            if (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) != (enabled, dtype):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within this context all is as it was."""
        now = ThreadModes()
        with ExitStack() as stack:
            if self.inference != now.inference:
                stack.enter_context(torch.inference_mode(self.inference))
            if self.device is not None and self.device != now.device:
                stack.enter_context(self.device)
            self.put_back()
            # Before the contexts are left, which put back what they found.
            stack.callback(now.put_back)
            yield


def _set_ambient(device: torch.device | None, dtype: torch.dtype | None) -> None:
    _ambient.device, _ambient.dtype = device, dtype


def _leave_inference_mode(stack: ExitStack) -> None:
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))
        # Leaving it switches gradients on, which the program had switched off by entering it.
        stack.enter_context(torch.no_grad())


def _casts(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except RuntimeError:
        return False  # a device that this build of torch does not know


def _default_device() -> torch.device | None:
    """Return the device that the program has set for new tensors, or None."""
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, DeviceContext)]
    return modes[-1].device if modes else None
