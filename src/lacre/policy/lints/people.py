# SPDX-License-Identifier: Apache-2.0
"""
Lints of who may do what: classes nobody reads, purposes nobody serves, duties that must be apart.

Duties are apart at the key service, so only principals with a credential there count: with a local
keystore the operator does everything (design, section 5).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from lacre.policy.access import ANY_PURPOSE, matrix
from lacre.policy.decisions import Policy
from lacre.policy.lints.finding import Finding, Level
from lacre.policy.model import PolicyFile, Right
from lacre.policy.principals import Duty, PrincipalSettings

__all__ = ["PEOPLE", "STOPPING"]

_READING = {Right.DECRYPT, Right.SEARCH, Right.ENCRYPT}  # each takes a key
_APART = {  # what must not be one principal, and why
    (Duty.ADMINISTER, Duty.PROVISION): "could plant a key that it knows",
    (Duty.ADMINISTER, Duty.MIGRATE): "could move keys to one of its own",
    (Duty.ADMINISTER, Duty.REWRAP): "could wrap keys under one that it made",
    (Duty.ADMINISTER, Duty.SEAL): "could end an epoch, and nobody would have asked",
}


def no_principals(file: PolicyFile) -> Iterator[Finding]:
    """Without principals, roles are whatever the application says."""
    if not file.principals:
        yield Finding(
            rule="no-principals",
            level=Level.WARNING,
            path=("principals",),
            sentence="nobody is declared: whoever the application names may take any role",
            hint='[principals."svc:name"] roles = ["role"]',
        )


def unreadable_class(file: PolicyFile) -> Iterator[Finding]:
    """A class whose values nobody may read, by no role, grant or emergency, keeps what is lost."""
    policy = Policy(file)
    readable: set[str] = set()
    for purpose in _purposes(file):
        for row in matrix(policy, purpose):
            readable |= {
                name
                for name, cell in row.cells.items()
                if Right.DECRYPT in cell.rights or Right.DECRYPT in cell.by_grant
            }
    for name, declared in file.classes.items():
        if name not in readable and not declared.break_glass and not _is_verified_only(file, name):
            yield Finding(
                rule="unreadable-class",
                level=Level.WARNING,
                path=("classes", name),
                sentence="nobody may decrypt it, for any purpose",
                hint=f'[classes.{name}.rights] role = ["decrypt"], held by a principal; or waive it',
            )


def unused_purpose(file: PolicyFile) -> Iterator[Finding]:
    """A purpose that gives nobody anything is a word in a list, or a typing error elsewhere."""
    policy = Policy(file)
    for purpose in sorted(file.purposes or ()):
        if not any(
            cell.rights or cell.masked or cell.by_grant
            for row in matrix(policy, purpose)
            for cell in row.cells.values()
        ):
            yield Finding(
                rule="unused-purpose",
                level=Level.WARNING,
                path=("purposes",),
                sentence=f"nobody may do anything for {purpose!r}",
                hint="take it out, or let a role and a class have it",
            )


def administrator_uses(file: PolicyFile) -> Iterator[Finding]:
    """Whoever administers a KMS key and uses it needs nobody else to read what is under it."""
    administrators = administrators_of(file)
    credentials = {
        credential: name
        for name in administrators
        for credential in file.principals[name].credentials
    }
    for name, settings in file.principals.items():
        if not settings.credentials or not (using := _uses(file, name, settings)):
            continue
        if name in administrators:
            yield Finding(
                rule="administrator-uses",
                level=Level.ERROR,
                path=("principals", name),
                sentence=f"it administers KMS keys and {using}",
                hint="two principals, with a credential each",
            )
        for credential in settings.credentials:
            other = credentials.get(credential)
            if other is not None and other != name:
                yield Finding(
                    rule="administrator-uses",
                    level=Level.ERROR,
                    path=("principals", name),
                    sentence=f"it has the credential of {other}, which administers KMS keys",
                    hint="a credential is one principal's",
                )


def duties_apart(file: PolicyFile) -> Iterator[Finding]:
    """Duties that together let one principal plant, move or lose keys."""
    administrators = administrators_of(file)
    for name, settings in file.principals.items():
        if not settings.aws and settings.openbao is None:
            continue
        duties = settings.duties | ({Duty.ADMINISTER} if name in administrators else set())
        for (one, other), why in _APART.items():
            if one in duties and other in duties:
                yield Finding(
                    rule="duties-apart",
                    level=Level.ERROR,
                    path=("principals", name),
                    sentence=f"it has the duties {one} and {other}: it {why}",
                    hint="two principals, with a credential each",
                )
        if Duty.PROVISION in duties and _rights(file, settings):
            yield Finding(
                rule="duties-apart",
                level=Level.ERROR,
                path=("principals", name),
                sentence="it mints keys and reads what is under them: it could plant one that it knows",
                hint='a principal of its own with duties = ["provision"], and no role',
            )


def shared_credential(file: PolicyFile) -> Iterator[Finding]:
    """Two principals with one credential are one at the key service."""
    held: dict[str, list[str]] = defaultdict(list)
    for name, settings in file.principals.items():
        for credential in settings.credentials:
            held[credential].append(name)
    for credential, names in held.items():
        if len(names) > 1:
            yield Finding(
                rule="shared-credential",
                level=Level.WARNING,
                path=("principals", names[1]),
                sentence=f"{credential} is {names[0]}'s too: a key service cannot tell them apart",
                hint="a credential is one principal's",
            )


def disjoint_roles(file: PolicyFile) -> Iterator[Finding]:
    """One credential that opens classes whose readers are other people is one wall too few (review.md C)."""
    readers = {
        name: {role for role, rights in each.rights.items() if Right.DECRYPT in rights}
        for name, each in file.classes.items()
    }
    for name, settings in file.principals.items():
        if not settings.credentials:
            continue
        covered = [class_ for class_ in file.classes if _rights(file, settings, class_)]
        for one, other in combinations(covered, 2):
            if readers[one] and readers[other] and not readers[one] & readers[other]:
                yield Finding(
                    rule="disjoint-roles",
                    level=Level.WARNING,
                    path=("principals", name),
                    sentence=f"its credential opens {one} and {other}, which no role reads both",
                    hint="two services with a credential each: in one process any code can read both",
                )


def wildcard(file: PolicyFile) -> Iterator[Finding]:
    """A name for many must not hold what one of them could use at the key service."""
    for name, settings in file.principals.items():
        if name.endswith("*") and (settings.credentials or settings.duties):
            yield Finding(
                rule="wildcard",
                level=Level.ERROR,
                path=("principals", name),
                sentence="a name that stands for many has a credential or a duty",
                hint="name the one that has it",
            )
        elif name.endswith("*") and len(name) < 3:
            yield Finding(
                rule="wildcard",
                level=Level.ERROR,
                path=("principals", name),
                sentence="it stands for nearly everybody",
                hint='"agent:*" stands for all whose names begin so',
            )


def administrators_of(file: PolicyFile) -> frozenset[str]:
    """Return who administers a KMS key, by duty or by name."""
    named: set[str] = {*file.governance.administrators}
    for tables in (file.keys, file.departments, file.classes):
        for each in tables.values():
            named |= {*(each.administrators or ())}
    by_duty = {n for n, each in file.principals.items() if Duty.ADMINISTER in each.duties}
    return frozenset((named | by_duty) & file.principals.keys())


def _uses(file: PolicyFile, name: str, settings: PrincipalSettings) -> str:
    """What a principal does with keys or data, in words; nothing where it does neither."""
    classes = [class_ for class_ in file.classes if _rights(file, settings, class_)]
    if classes:
        return f"reads or writes {', '.join(classes)}"
    for key, direct in file.keys.items():
        if name in direct.users:
            return f"uses {key}"
    for department, each in file.departments.items():
        if name in (*each.readers, *each.producers):
            return f"reads or writes for {department}"
    return ""


def _rights(file: PolicyFile, settings: PrincipalSettings, class_: str | None = None) -> bool:
    classes = file.classes.values() if class_ is None else (file.classes[class_],)
    return any(
        _READING & (each.rights.get(role, frozenset()) | each.on_grant.get(role, frozenset()))
        for each in classes
        for role in settings.roles
    )


def _purposes(file: PolicyFile) -> Iterable[str]:
    return sorted(file.purposes) if file.purposes else (ANY_PURPOSE,)


def _is_verified_only(file: PolicyFile, class_: str) -> bool:
    """Whether a class is compared and never shown, as credentials are: it is written, and nobody reads it."""
    declared = file.classes[class_]
    return declared.index is None and any(
        right == {Right.ENCRYPT} for right in declared.rights.values()
    )


# Those that find errors, which are looked for at every load; and those for people.
STOPPING: tuple[Callable[[PolicyFile], Iterator[Finding]], ...] = (
    administrator_uses,
    duties_apart,
    wildcard,
)
PEOPLE: tuple[Callable[[PolicyFile], Iterator[Finding]], ...] = (
    no_principals,
    unreadable_class,
    unused_purpose,
    *STOPPING,
    shared_credential,
    disjoint_roles,
)
