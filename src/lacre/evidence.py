# SPDX-License-Identifier: Apache-2.0
"""
Where the evidence of an application goes, as its `[audit]` says.

Composes; does not record (`lacre.audit.recorder`), store or sign.
"""

import os
import re
from pathlib import Path
from typing import Protocol

from lacre.audit.entries import Stamp
from lacre.audit.recorder import Sink
from lacre.errors import ConfigurationError
from lacre.policy.model import PolicyFile
from lacre.sinks.jsonl import JsonLinesSink

__all__ = ["Kept", "open_sink", "stamp_of"]

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,63}", re.ASCII)


class Kept(Sink, Protocol):
    """A sink that knows how fresh its evidence is."""

    def newest(self) -> float | None:
        """Return the time of the last event, in seconds; None where there is none."""
        ...


def stamp_of(settings: PolicyFile, version: str | None = None) -> Stamp:
    """
    Return what every entry of this application says.

    Args:
        version: of its code; what ``LACRE_CODE_VERSION`` says by default.

    Raises:
        ConfigurationError: it is no version.
    """
    code = os.environ.get("LACRE_CODE_VERSION", "") if version is None else version
    if code and not _VERSION.fullmatch(code):
        raise ConfigurationError(
            "the version of the code is 1 to 64 letters, digits, '.', '_', '+', ':' or '-'",
            hint="the commit, or what the build calls itself",
        )
    return Stamp(app=settings.app, env=settings.env, service=settings.service, code=code)


def open_sink(settings: PolicyFile, base: Path, *, version: str | None = None) -> Kept:
    """Return the sink that `[audit]` names; paths are relative to *base*, *version* is `stamp_of`'s."""
    if settings.audit.path is None:
        raise ConfigurationError("[audit] path is needed")
    return JsonLinesSink(base / settings.audit.path, stamp_of(settings, version))
