# SPDX-License-Identifier: Apache-2.0
"""
Where the evidence of an application goes, as its `[audit]` says.

Composes; does not record (`lacre.audit.recorder`), store or sign.
"""

from pathlib import Path
from typing import Protocol

from lacre.audit.entries import Stamp
from lacre.audit.recorder import Sink
from lacre.errors import ConfigurationError
from lacre.policy.model import PolicyFile
from lacre.sinks.jsonl import JsonLinesSink

__all__ = ["Kept", "open_sink", "stamp_of"]


class Kept(Sink, Protocol):
    """A sink that knows how fresh its evidence is."""

    def newest(self) -> float | None:
        """Return the time of the last event, in seconds; None where there is none."""
        ...


def stamp_of(settings: PolicyFile) -> Stamp:
    """Return what every entry of this application says."""
    return Stamp(app=settings.app, env=settings.env, service=settings.service)


def open_sink(settings: PolicyFile, base: Path) -> Kept:
    """Return the sink that `[audit]` names; paths are relative to *base*."""
    if settings.audit.path is None:
        raise ConfigurationError("[audit] path is needed")
    return JsonLinesSink(base / settings.audit.path, stamp_of(settings))
