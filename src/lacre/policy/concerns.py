# SPDX-License-Identifier: Apache-2.0
"""
What is taken in `lacre.toml` and probably not meant: said, and never an error.

A command that is about it shows it; where an application loads the policy it is once in the log
(`lacre.policy`). Refuses nothing: that is the model's.
"""

import functools
import logging

from lacre.policy.model import PolicyFile

__all__ = ["concerns_of", "log_concerns"]

_log = logging.getLogger("lacre.policy")


def concerns_of(file: PolicyFile) -> tuple[str, ...]:
    """Return one sentence for each, with what to say instead."""
    term = file.audit.retention
    short = term.short_of()
    if short is None:
        return ()
    years, days = short
    return (
        f'[audit] retention = "{term}" is short of {years} years by {days} days: say "{years} years"',
    )


def log_concerns(file: PolicyFile) -> None:
    """Log each as a warning, once for each process."""
    for concern in concerns_of(file):
        _logged(concern)


@functools.lru_cache(maxsize=100)
def _logged(concern: str) -> None:
    _log.warning("%s", concern)
