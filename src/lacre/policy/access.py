# SPDX-License-Identifier: Apache-2.0
"""
The access matrix: what each principal, or each role where none is declared, may do with each class.

Every cell is asked of `Policy.decide`, as every look is, so that a table and the run time cannot
differ. Says nothing about what a process could do with the keys it holds (``docs/threat-model.md``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.errors import ConfigurationError
from lacre.policy.decisions import Policy
from lacre.policy.grants.grant import Grant
from lacre.policy.model import PolicyFile, Right

__all__ = ["ANY_PURPOSE", "Access", "Cell", "acting_of", "class_of", "matrix", "strangers"]

ANY_PURPOSE = "any purpose"  # where the file declares none, any word is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    What somebody may do with a class, each right with the rule it follows from.

    *masked* is the rule by which reading gives masks; *by_grant* are the rights that a grant would
    give; *denied* is the rule that refuses reading, where nothing gives it.
    """

    rights: Mapping[Right, str]
    masked: str = ""
    by_grant: tuple[Right, ...] = ()
    denied: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A row of the matrix: somebody, and their cell of each class, by its name."""

    who: str
    roles: tuple[str, ...]
    cells: Mapping[str, Cell]


class _EveryGrant:
    """A grant for whatever is asked: what could be granted is what it changes."""

    def effective(self, acting: Acting, class_: str, right: str) -> Grant:
        return Grant(
            id="-",
            principal=acting.principal,
            class_=class_,
            right=right,
            purpose=acting.purpose,
            not_before=0.0,
            until=0.0,
        )


def class_of(file: PolicyFile, field: str) -> str:
    """
    Return the class of ``TABLE.COLUMN``: the one whose `columns` name it, or its `[columns]` table.

    Raises:
        ConfigurationError: the file names it nowhere.
    """
    if field in file.columns:
        return file.columns[field].class_
    for name, declared in file.classes.items():
        if declared.columns is not None and field in declared.columns:
            return name
    raise ConfigurationError(
        f"lacre.toml does not say of which class {field} is",
        hint=f'name the class, or say it: [classes.NAME] columns = ["{field}"]',
    )


def acting_of(
    policy: Policy, who: str, purpose: str, *, roles: Sequence[str] = (), tenant: str | None = None
) -> Acting:
    """Return *who* acting in *roles*; by default in all that are declared for them."""
    return Acting(who, frozenset(roles or policy.roles_of(who)), purpose, tenant)


def matrix(policy: Policy, purpose: str) -> tuple[Access, ...]:
    """Return the matrix for one purpose: principals in the file's order, or roles by name."""
    file = policy.file
    granting = Policy(file, grants=_EveryGrant())
    if file.principals:
        rows = [
            (name, tuple(sorted(settings.roles)))
            for name, settings in file.principals.items()
            if settings.roles
        ]
    else:
        named = {role for each in file.classes.values() for role in (*each.rights, *each.on_grant)}
        rows = [(role, (role,)) for role in sorted(named)]
    return tuple(_access(policy, granting, who, roles, purpose) for who, roles in rows)


def strangers(policy: Policy, purpose: str) -> Access:
    """Return the row of whoever has no role."""
    return _access(policy, Policy(policy.file, grants=_EveryGrant()), "", (), purpose)


def _access(
    policy: Policy, granting: Policy, who: str, roles: tuple[str, ...], purpose: str
) -> Access:
    cells = {
        name: _cell(policy, granting, who, roles, name, purpose) for name in policy.file.classes
    }
    return Access(who=who, roles=roles, cells=cells)


def _cell(
    policy: Policy, granting: Policy, who: str, roles: tuple[str, ...], class_: str, purpose: str
) -> Cell:
    acting = Acting(who, frozenset(roles), purpose, None)
    rights: dict[Right, str] = {}
    masked = denied = ""
    by_grant = []
    searchable = policy.class_(class_).index is not None
    for right in (Right.DECRYPT, Right.ENCRYPT, Right.SEARCH):
        if right is Right.SEARCH and not searchable:
            continue
        decision = policy.decide(acting, class_, right)
        if decision.outcome is Outcome.ALLOWED and not decision.grant:
            rights[right] = decision.rule
            continue
        if granting.decide(acting, class_, right).grant:
            by_grant.append(right)
        if decision.outcome is Outcome.MASKED:
            masked = decision.rule
        elif right is Right.DECRYPT:
            denied = decision.rule
    return Cell(rights=rights, masked=masked, by_grant=tuple(by_grant), denied=denied)
