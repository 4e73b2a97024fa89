"""Several processes that fit and explain as one, as torchrun and accelerate start them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import get_int_from_env
from torch import Tensor, nn

from xlens.classifier.frozen import bits
from xlens.classifier.whole import buffers_of
from xlens.errors import XlensError

__all__ = ["Processes", "alone", "process_state_restored", "processes"]

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
#: Where launchers say how many processes there are: torchrun and accelerate, then two kinds of MPI.
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """The processes that work together, seen from one of them.

    Args:
        index: which of them this is; 0 writes files.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.index == 0

    def share(self, index: Tensor) -> Tensor:
        """Return this process's part of a batch's positions ``(n,)``: all of them where there are too few."""
        return index if len(index) < self.count else index[self.index :: self.count]

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sum of each tensor over the processes, in one exchange."""
        if self.count == 1 or not tensors:
            return list(tensors)
        # Concatenation takes the widest of the dtypes.
        flat = torch.cat([tensor.detach().reshape(-1).to(_wire()) for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [p.view(t.shape).to(t.device, t.dtype) for p, t in zip(parts, tensors, strict=True)]

    def add_gradients(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Replace gradients by their weighted sum over the processes; what none of them has stays None.

        Args:
            parameters: the same ones in each process.
            weight: this process's share of the inputs.
        """
        if self.count == 1:
            return
        own = [torch.zeros_like(p) if p.grad is None else weight * p.grad for p in parameters]
        there = torch.tensor([float(p.grad is not None) for p in parameters])
        *found, there = self.add([*own, there])
        for parameter, gradient, count in zip(parameters, found, there.tolist(), strict=True):
            parameter.grad = gradient if count else None

    @torch.no_grad()
    def average_buffers(self, networks: Sequence[nn.Module]) -> None:
        """Replace what networks keep beside weights, as running statistics, by the mean over the processes."""
        if self.count == 1:
            return
        buffers = [b for network in networks for b in network.buffers() if b.is_floating_point()]
        for buffer, total in zip(buffers, self.add(buffers), strict=True):
            buffer.copy_(total / self.count)

    @torch.no_grad()
    def begin_alike(self, networks: Sequence[nn.Module]) -> None:
        """Give every process the weights and buffers of the first."""
        if self.count == 1:
            return
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                sent = tensor.detach().to(_wire())
                dist.broadcast(sent, 0)
                tensor.copy_(sent)

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of the first, of any dtype; only what differs is written.

        Args:
            model: of the same structure in each process.
        """
        buffers = list(buffers_of(model))
        if self.count == 1 or not buffers:
            return
        parts = [bits(buffer) for buffer in buffers]
        sent = torch.cat([part.to(_wire()) for part in parts])
        dist.broadcast(sent, 0)
        for buffer, own, part in zip(buffers, parts, sent.split([len(p) for p in parts]), strict=True):
            if not torch.equal(own, first := part.to(own.device)):
                # A clone, because bytes are read as wider numbers only where these may begin.
                buffer.copy_(first.clone().view(buffer.dtype).view(buffer.shape))

    def gather(self, content: Tensor) -> list[Tensor]:
        """Return the vector of each process, which may differ in length, on the CPU."""
        if self.count == 1:
            return [content]
        lengths = [torch.zeros(1, dtype=torch.int64, device=_wire()) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor([len(content)], device=_wire()))
        longest = int(max(lengths))
        padded = torch.zeros(longest, dtype=content.dtype, device=_wire())
        padded[: len(content)] = content
        found = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(found, padded)
        return [part[: int(n)].cpu() for part, n in zip(found, lengths, strict=True)]

    def agree(self, digest: bytes) -> bool:
        """Whether every process has the same bytes."""
        own = torch.tensor(list(digest), dtype=torch.uint8)
        return all(torch.equal(part, own) for part in self.gather(own))

    @contextmanager
    def jointly(self, doing: str, error: type[XlensError]) -> Iterator[None]:
        """Within this context a fault in one process is one in all of them, none of which waits for it then.

        All of them leave it together. What runs inside exchanges nothing.

        Args:
            doing: what is being done, for the message.
            error: raised in those processes in which nothing went wrong.

        Raises:
            XlensError: `error`, where another process failed; that one raises its own.
        """
        fault: BaseException | None = None
        try:
            yield
        except BaseException as raised:  # noqa: BLE001 - also Ctrl-C: the others would wait for ever
            fault = raised
        if self.count > 1 and bool(self.add([torch.tensor(float(fault is not None))])[0]):
            # A space, because an empty vector cannot be sent.
            says = f" {str(fault) or type(fault).__name__}" if fault is not None else " "
            told = self.gather(torch.tensor(list(says.encode()), dtype=torch.uint8))
            if fault is None:
                texts = [bytes(part.tolist()).decode().strip() for part in told]
                failed = [f"process {i}: {text}" for i, text in enumerate(texts) if text]
                raise error(f"{doing}: another process failed, so this one stops too", given="; ".join(failed))
        if fault is not None:
            raise fault


def processes(device: torch.device) -> Processes:
    """Return the processes that this one works with; itself alone where the program was not launched as several.

    The first call joins them as accelerate does, unless the program has done so already.

    Args:
        device: where the lens is.
    """
    if _ALONE.get() or not dist.is_available():
        return Processes()
    if not dist.is_initialized():
        if get_int_from_env(_COUNTS, 1) < 2:
            return Processes()
        with process_state_restored():
            PartialState(cpu=device.type == "cpu")
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Processes()


@contextmanager
def alone() -> Iterator[None]:
    """Within this context this process fits, explains and writes without the others, as where only one asks.

    >>> import xlens
    >>> with xlens.training.alone():
    ...     explanation = explainer.explain(images[:2])
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextmanager
def process_state_restored() -> Iterator[None]:
    """Leave accelerate's process-wide state as it was found, for the user's own use of it."""
    untouched = not PartialState._shared_state
    try:
        yield
    finally:
        if untouched and PartialState._shared_state:
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()


def _wire() -> torch.device:
    """Return where tensors have to be to be sent: NCCL sends from the GPU alone."""
    if "gloo" in dist.get_backend() or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))
