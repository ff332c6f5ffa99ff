# SPDX-License-Identifier: Apache-2.0
"""
What a policy gives, in sentences that can be compared: who has which role, rights of roles, purposes, columns.

In the words of `Decision.rule`, so that evidence of a look and of the policy say the same. Says of
two policies what the later gives and the earlier did not. It compares what is said, and not what
follows: a purpose that no class is for counts. How much (budgets, ages, terms) is not in it, nor who
signs. Reads no file.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from lacre.policy.model import PolicyFile

__all__ = ["gained", "given_by"]

_ANY, _NOTHING = "any", "none"


def given_by(file: PolicyFile) -> tuple[str, ...]:
    """Return what *file* gives, sorted."""
    some = [*_narrowing("purposes", file.purposes), *_people(file)]
    for name, each in file.classes.items():
        head = f"classes.{name}"
        for kind, rights in (("rights", each.rights), ("on_grant", each.on_grant)):
            some += [f"{head}.{kind}.{role}: {one}" for role, given in rights.items() for one in given]  # fmt: skip
        some += _narrowing(f"{head}.purposes", each.purposes)
        some += _narrowing(f"{head}.columns", each.columns)
        if each.break_glass:
            some.append(f"{head}.break_glass: decrypt")
        if each.mask != "hidden":  # which shows nothing
            some.append(f"{head}.mask: {each.mask}")
    some += [f"columns.{each.store}.{name}: {each.class_}" for name, each in file.columns.items()]
    return tuple(sorted(set(some)))


def _people(file: PolicyFile) -> Iterator[str]:
    used = {role for each in file.classes.values() for role in (*each.rights, *each.on_grant)}
    for role in used | set(file.roles):
        settings = file.roles.get(role)
        yield from _narrowing(f"roles.{role}.purposes", None if settings is None else settings.purposes)  # fmt: skip
    if not file.principals:
        yield f"principals: {_ANY}"
    for name, each in file.principals.items():
        yield from (f"principals.{name}: {role}" for role in each.roles)
        yield from (f"duties.{name}: {duty}" for duty in each.duties)
    for name, key in file.keys.items():
        yield from (f"keys.{name}.users: {user}" for user in key.users)
    for name, department in file.departments.items():
        yield from (f"departments.{name}.readers: {each}" for each in department.readers)
        yield from (f"departments.{name}.producers: {each}" for each in department.producers)
    for name, approver in file.approvers.items():
        yield f"approvers.{name}: grants"
        if approver.break_glass:
            yield f"approvers.{name}: break-glass"


def _narrowing(head: str, some: Collection[str] | None) -> list[str]:
    return [f"{head}: {each}" for each in ([_ANY] if some is None else some or [_NOTHING])]


def gained(before: Iterable[str], now: Sequence[str]) -> tuple[str, ...]:
    """
    Return what of *now* was not in *before*, both as `given_by` says it, nor anything wider.

    Another mask counts, because no order says which shows more. A column that is of another class
    now counts where a role has a right on it that it had not.
    """
    had = set(before)
    heads = {_head(each) for each in had}
    return tuple(
        each
        for each in now
        if each not in had and had.isdisjoint(_wider(each)) and _counts(each, had, heads, now)
    )


def _head(sentence: str) -> str:
    return sentence.rpartition(": ")[0]


def _wider(sentence: str) -> Iterator[str]:
    """What gives *sentence* too."""
    head, _, what = sentence.rpartition(": ")
    yield f"{head}: {_ANY}"
    if head.startswith("principals."):
        yield f"principals: {_ANY}"
    if what == "mask":
        yield f"{head}: decrypt"
    if ".on_grant." in head:
        yield f"{head.replace('.on_grant.', '.rights.', 1)}: {what}"


def _counts(sentence: str, had: set[str], heads: set[str], now: Sequence[str]) -> bool:
    head, _, what = sentence.rpartition(": ")
    if head.startswith("columns."):
        # A column that was not named before was of no class, for all that the policy says.
        classes = [each.rpartition(": ")[2] for each in had if _head(each) == head]
        return bool(classes) and not _rights(what, now) <= _rights(classes[0], had)
    if head == "purposes" or head.endswith((".purposes", ".columns")):
        # Of a class or role that is new, these take something away from what else is said of it.
        return what != _NOTHING and head in heads
    return True


def _rights(class_: str, some: Iterable[str]) -> set[str]:
    head = f"classes.{class_}.rights."
    return {each.removeprefix(head) for each in some if each.startswith(head)}
