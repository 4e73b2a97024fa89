"""The one hook that a plugin implements."""

from __future__ import annotations

import pluggy

from xlens.contracts.backend import Backend

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("xlens")
hookimpl = pluggy.HookimplMarker("xlens")


@hookspec
def xlens_backend() -> type[Backend]:  # type: ignore[empty-body]  # a hookspec is called by nobody
    """Return the backend class that this plugin brings.

    The plugin is named by an entry point of the group ``xlens`` whose name equals ``Backend.name``.
    """
