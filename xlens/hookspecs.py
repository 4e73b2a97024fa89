"""The hooks that a plugin implements: one for its backend, and one for each kind of thing that it adds beside."""

from __future__ import annotations

import pluggy

from xlens.contracts.additions import AttributionMethod, Carrier, MapMetric, PathMethod, ReportPart
from xlens.contracts.backend import Backend

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("xlens")
#: Decorator of a plugin's hooks, as ``xlens_backend``: what it returns is found under the entry point's name.
hookimpl = pluggy.HookimplMarker("xlens")


@hookspec
def xlens_backend() -> type[Backend]:  # type: ignore[empty-body]  # a hookspec is called by nobody
    """Return the backend class that this plugin brings.

    The plugin is named by an entry point of the group ``xlens`` whose name equals ``Backend.name``.
    """


@hookspec
def xlens_attribution() -> type[AttributionMethod]:  # type: ignore[empty-body]
    """Return an attribution, named by an entry point of the group ``xlens.attribution``."""


@hookspec
def xlens_path() -> type[PathMethod]:  # type: ignore[empty-body]
    """Return a path between codes, named by an entry point of the group ``xlens.path``."""


@hookspec
def xlens_metric() -> type[MapMetric]:  # type: ignore[empty-body]
    """Return a figure of maps, named by an entry point of the group ``xlens.metric``."""


@hookspec
def xlens_carrier() -> type[Carrier]:  # type: ignore[empty-body]
    """Return a way to carry changes onto inputs, named by an entry point of the group ``xlens.carrier``."""


@hookspec
def xlens_report_part() -> type[ReportPart]:  # type: ignore[empty-body]
    """Return a part of the report, named by an entry point of the group ``xlens.report_part``."""
