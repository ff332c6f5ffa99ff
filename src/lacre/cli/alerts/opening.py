# SPDX-License-Identifier: Apache-2.0
"""The evidence log of lacre.toml, for commands about alerts and honeytokens. Opens no key."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lacre.evidence import stamp_of
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log

__all__ = ["Watched", "watched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An evidence log, and the policy that names it."""

    policy: PolicyFile
    base: Path
    log: AuditLog

    @property
    def alerts(self) -> AlertStore:
        """The log's alerts."""
        return AlertStore(self.log, stamp=stamp_of(self.policy))


@contextmanager
def watched(config: Path) -> Iterator[Watched]:
    """Open the log that *config* names, and close it."""
    policy = load_policy(config, os.environ)
    base = config.resolve().parent
    log = open_log(policy, base)
    try:
        yield Watched(policy=policy, base=base, log=log)
    finally:
        log.close()
