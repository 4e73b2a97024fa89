"""Networks that are passed through, and do not learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["held"]


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Keep the parameters of networks out of the graph within this context; gradients still flow through.

    >>> import torch
    >>> network, x = torch.nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    >>> with held(network):
    ...     network(x).sum().backward()
    >>> network.weight.grad is None, x.grad is None
    (True, False)
    """
    wanted = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
