# SPDX-License-Identifier: Apache-2.0
"""
Where the evidence of an application goes, as its `[audit]` says.

Composes; does not record (`lacre.audit.recorder`), store or sign.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lacre.audit.entries import Stamp
from lacre.audit.recorder import Sink
from lacre.errors import ConfigurationError
from lacre.policy.model import PolicyFile
from lacre.sinks.jsonl import JsonLinesSink

if TYPE_CHECKING:
    from lacre.audit.alerts import Channel
    from lacre.audit.delivery import Deliverer
    from lacre.stores.log.log import AuditLog

__all__ = ["Kept", "open_channels", "open_deliverer", "open_sink", "stamp_of"]

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


def open_channels(
    settings: PolicyFile, base: Path, environ: Mapping[str, str]
) -> "dict[str, Channel]":
    """
    Return the channels that `[alerts.NAME]` describe, by name; paths are relative to *base*.

    Raises:
        ConfigurationError: a secret is missing, or is not what it should be.
    """
    from lacre.sinks.channels.opening import open_channel

    aws = settings.aws
    return {
        name: open_channel(
            name, each, base=base, environ=environ,
            endpoint_url=None if aws is None else aws.endpoint_url,
            profile=None if aws is None else aws.profile,
        )
        for name, each in settings.alerts.items()
    }  # fmt: skip


def open_deliverer(
    settings: PolicyFile, base: Path, log: "AuditLog", *, environ: Mapping[str, str]
) -> "Deliverer":
    """Return what sends the alerts in *log* through the channels of `[alerts.NAME]`; raises as `open_channels`."""
    from lacre.audit.delivery import Deliverer
    from lacre.sinks.channels.opening import rules_of
    from lacre.stores.log.alerts import AlertStore
    from lacre.stores.log.deliveries import Deliveries

    stamp = stamp_of(settings)
    rules = {name: rules_of(each) for name, each in settings.alerts.items()}
    return Deliverer(
        Deliveries(log, rules),
        open_channels(settings, base, environ),
        stamp=stamp,
        raise_=AlertStore(log, stamp=stamp).raise_,
    )
