# SPDX-License-Identifier: Apache-2.0
"""
Lint a policy: every lint over the whole file, with what somebody accepted and why.

An `ERROR` stops the file from loading, whole; a `WARNING` is for `lacre policy check`. A lint is
waived as a finding of the planner is: ``[[waivers]] of = "classes.pii", finding = "unreadable-class"``.
Does not look at what is deployed (`lacre.policy.drift`), nor at models (`lacre.cli.policy`).
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lacre.errors import ConfigurationError
from lacre.policy.lints.evidence import EVIDENCE
from lacre.policy.lints.finding import Finding, Level
from lacre.policy.lints.keys import KEYS, key_region
from lacre.policy.lints.people import PEOPLE, STOPPING
from lacre.policy.model import PolicyFile

__all__ = ["LINTS", "Linted", "lint", "refuse", "waived"]

LINTS: tuple[Callable[[PolicyFile], Iterable[Finding]], ...] = (*PEOPLE, *KEYS, *EVIDENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """What was *found*, and what of it was *accepted*, with the reason."""

    found: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, str], ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.found if each.level is Level.ERROR)


def lint(
    file: PolicyFile, *, today: dt.date, others: Iterable[PolicyFile] = (), stopping: bool = False
) -> Linted:
    """
    Return what is wrong with *file*.

    Args:
        today: in UTC, for waivers that end.
        others: the same file for its other environments, whose KMS keys must be others.
        stopping: look for errors alone.
    """
    lints = (*STOPPING, key_region) if stopping else LINTS
    every = [finding for each in lints for finding in each(file)]
    every += _shared(file, others)
    return waived(file, every, today=today)


def waived(file: PolicyFile, findings: Sequence[Finding], *, today: dt.date) -> Linted:
    """Return *findings* with those that *file* accepts set apart."""
    reasons = {
        (each.of, each.finding): each.reason
        for each in file.waivers
        if each.until is None or today <= each.until
    }
    return Linted(
        found=tuple(each for each in findings if (each.where, each.rule) not in reasons),
        accepted=tuple(
            (each, reasons[each.where, each.rule])
            for each in findings
            if (each.where, each.rule) in reasons
        ),
    )


def refuse(linted: Linted, name: str) -> None:
    """
    Do nothing where there is no error.

    Raises:
        ConfigurationError: there is one: the file is not loaded, not even in part.
    """
    if not linted.errors:
        return
    first, more = linted.errors[0], len(linted.errors) - 1
    raise ConfigurationError(
        f"{name}: {first.where}: {first.sentence}" + (f" (and {more} more)" if more else ""),
        hint=f"{first.hint}; `lacre policy check` lists all",
    )


def _shared(file: PolicyFile, others: Iterable[PolicyFile]) -> list[Finding]:
    mine = file.every_kms_key()
    found = []
    for other in others:
        theirs = set(other.every_kms_key().values())
        same_account = file.environments[file.env].account == other.environments[other.env].account
        for path, key in mine.items():
            # An alias is of an account: the same name in another account is another key.
            if key in theirs and (same_account or "/alias/" not in key):
                found.append(
                    Finding(
                        rule="key-of-two-environments",
                        level=Level.ERROR,
                        path=path,
                        sentence=f"{key} is a KMS key of {file.env} and of {other.env}",
                        hint="put {env} into its name: whoever copies data from one to the other could read it",
                    )
                )
    return found
