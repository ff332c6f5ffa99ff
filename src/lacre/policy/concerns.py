# SPDX-License-Identifier: Apache-2.0
"""
What lints warn of and nobody may see who does not run `lacre policy check`, said where the policy is loaded.

That evidence is kept for less than was meant shows years later. Once in the log of a process
(`lacre.policy`), and by the command that removes it. Refuses nothing: that is the model's.
"""

import functools
import logging

from lacre.policy.lints.evidence import short_retention
from lacre.policy.model import PolicyFile

__all__ = ["concerns_of", "log_concerns"]

_log = logging.getLogger("lacre.policy")


def concerns_of(file: PolicyFile) -> tuple[str, ...]:
    """Return one sentence for each, with what to say instead."""
    return tuple(
        f"[audit] retention: {each.sentence}: {each.hint}" for each in short_retention(file)
    )


def log_concerns(file: PolicyFile) -> None:
    """Log each as a warning, once for each process."""
    for concern in concerns_of(file):
        _logged(concern)


@functools.lru_cache(maxsize=100)
def _logged(concern: str) -> None:
    _log.warning("%s", concern)
