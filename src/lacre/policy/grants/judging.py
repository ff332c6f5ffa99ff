# SPDX-License-Identifier: Apache-2.0
"""
Where a grant stands: whose approvals count, whether it was executed, and whether it is in effect.

Everything is judged anew from what is signed, by the identities that lacre.toml pins now: a row that
says more than its signatures do gives nothing. Reads no clock and no database.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lacre.errors import Tampered
from lacre.policy.digests import digest_of
from lacre.policy.grants.grant import Grant
from lacre.policy.grants.request import Act, GrantAct, GrantRecord, GrantRequest, Signatory, seconds
from lacre.policy.lints.people import administrators_of
from lacre.policy.model import PolicyFile, Right

__all__ = [
    "Judged",
    "People",
    "Rules",
    "Standing",
    "grant_of",
    "judge",
    "may_not_approve",
    "may_not_review",
]

_DAY = 86_400.0
_LONGEST = 30 * _DAY  # of any grant (review.md S7), whatever a policy says
_EMERGENCY = 3600.0  # of one of break-glass


class Standing(StrEnum):
    """Where a grant stands. Only `IN_EFFECT` gives anything."""

    REQUESTED = "requested"
    APPROVED = "approved"  # by enough people, and not executed
    AHEAD = "ahead"  # executed, and not begun
    IN_EFFECT = "in effect"
    OVER = "over"
    REVOKED = "revoked"
    LAPSED = "lapsed"  # its approvals came too late, or under another policy
    REFUSED = "refused"  # not what was signed, or not what this policy allows


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """
    Whose signatures are believed: *approvers* by name, *operators* of `[local] signers`, *principals* with a local identity.

    Operators sign manifests of KMS keys, so they are key administrators and approve nothing.
    """

    approvers: Mapping[str, Signatory]
    operators: Mapping[str, Signatory]
    principals: Mapping[str, Signatory]

    def called(self, fingerprint: str) -> str | None:
        """Return the name of whoever has this identity, as who they sign; None: nobody known."""
        for known in (self.approvers, self.principals, self.operators):
            for name, each in known.items():
                if each.fingerprint == fingerprint:
                    return name
        return None

    def known(self, name: str, fingerprint: str) -> Signatory | None:
        """Return the identity with this fingerprint that may sign as *name*."""
        for known in (self.approvers, self.principals, self.operators):
            found = known.get(name)
            if found is not None and found.fingerprint == fingerprint:
                return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By what a grant is judged: the policy, its people, and the id of the key store it is kept in."""

    file: PolicyFile
    people: People
    keystore: str

    @property
    def digest(self) -> str:
        return digest_of(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """
    What became of a grant: where it stands and *why*, in words; who approved it, and who executed it when.

    *review_due* is when somebody else has to have reviewed a grant of break-glass, in seconds since
    1970; *reviewer* is who did.
    """

    standing: Standing
    why: str = ""
    approvers: tuple[str, ...] = ()
    needed: int = 2
    executed: str = ""
    executor: str = ""
    reviewer: str = ""
    review_due: float | None = None

    @property
    def overdue(self) -> bool:
        """Whether a review would be missing, once its time is over."""
        return self.review_due is not None and not self.reviewer


def grant_of(request: GrantRequest) -> Grant:
    """Return the grant that *request* asks for, as decisions take it."""
    return Grant(
        id=request.id,
        principal=request.beneficiary,
        class_=request.class_,
        right=request.right,
        purpose=request.purpose,
        tenant=request.tenant or None,
        not_before=seconds(request.not_before),
        until=seconds(request.until),
        break_glass=request.break_glass,
    )


def judge(record: GrantRecord, rules: Rules, *, now: float, revoked: bool = False) -> Judged:
    """
    Return where a grant stands at *now*, in seconds since 1970.

    Args:
        revoked: the evidence says so, whatever the rows do.
    """
    request = record.request
    try:
        wrong = _wrong(request, rules)
        needed = 1 if request.break_glass else 2
        if wrong:
            return Judged(standing=Standing.REFUSED, why=wrong, needed=needed)
        approvals = _approvals(record, rules)
        execution = _execution(record, rules, approvals[:needed])
        reviewer, due = _review(record, rules, approvals, execution)
        standing, why = _standing(record, rules, len(approvals) >= needed, execution, now, revoked)
    except Tampered:
        return Judged(standing=Standing.REFUSED, why="a moment in it is none")
    return Judged(
        standing=standing,
        why=why,
        approvers=tuple(each.name for each in approvals),
        needed=needed,
        executed="" if execution is None else execution.at,
        executor="" if execution is None else execution.name,
        reviewer=reviewer,
        review_due=due,
    )


def _standing(
    record: GrantRecord,
    rules: Rules,
    enough: bool,
    execution: GrantAct | None,
    now: float,
    revoked: bool,
) -> tuple[Standing, str]:
    request = record.request
    # A revocation counts whoever wrote it: to forge one takes something away and gives nothing.
    if revoked or any(each.act is Act.REVOKE for each in record.acts):
        return Standing.REVOKED, ""
    if now >= seconds(request.until) or any(each.act is Act.EXPIRE for each in record.acts):
        return Standing.OVER, ""
    if execution is None:
        if request.policy != rules.digest:
            return (
                Standing.LAPSED,
                "the policy is another by now: what was approved is not this one's",
            )
        if now >= seconds(request.approve_by):
            return Standing.LAPSED, "it was not approved and executed in time"
        return (Standing.APPROVED if enough else Standing.REQUESTED), ""
    if now < seconds(request.not_before):
        return Standing.AHEAD, ""
    return Standing.IN_EFFECT, ""


def _wrong(request: GrantRequest, rules: Rules) -> str:
    """Return what keeps a request from being one at all, in words; empty where nothing does."""
    file = rules.file
    here = (file.app, file.env, file.service, rules.keystore)
    if (request.app, request.env, request.service, request.keystore) != here:
        return "it is another application's, or another key store's"
    requester = rules.people.known(request.requester, request.signer)
    if requester is None:
        return "lacre.toml does not know who asked"
    try:
        requester.verify(request.own_bytes(), request.signature)
    except Tampered:
        return "it is not what was asked for: its signature is of something else"
    begins, ends = seconds(request.not_before), seconds(request.until)
    asked, by = seconds(request.requested), seconds(request.approve_by)
    bound = _EMERGENCY if request.break_glass else _LONGEST
    if not asked <= begins < ends or not asked < by <= ends:
        return "its times do not follow one another"
    if ends - begins > bound or by - asked > _LONGEST:
        return "it would last longer than a grant may"
    if request.policy == rules.digest:
        settings = file.grants
        emergency = settings.break_glass
        if request.break_glass and emergency is None:
            return "the policy has no [grants.break_glass]"
        longest = emergency.longest if request.break_glass and emergency else settings.longest
        within = settings.approved_within
        if dt.timedelta(seconds=ends - begins) > longest:
            return f"the policy allows {longest} at the longest"
        if dt.timedelta(seconds=by - asked) > within:
            return f"the policy has approvals wait {within} at the longest"
    return _not_allowed(request, file)


def _not_allowed(request: GrantRequest, file: PolicyFile) -> str:
    """Return why the policy gives nobody this by a grant; empty where it does."""
    declared = file.classes.get(request.class_)
    if declared is None or request.right not in set(Right):
        return "there is no such class, or no such right"
    for purposes in (file.purposes, declared.purposes):
        if purposes is not None and request.purpose not in purposes:
            return f"the purpose {request.purpose!r} is not one of this class"
    if request.break_glass:
        allowed = declared.break_glass and request.right == Right.DECRYPT
        return "" if allowed else "the class allows no emergency"
    right = Right(request.right)
    if not any(right in given for given in declared.on_grant.values()):
        return f"no role of the class has {right} by grant (on_grant)"
    return ""


def may_not_approve(request: GrantRequest, name: str, rules: Rules) -> str:
    """Return why *name* may not approve, in words; empty where they may. By name, and by their keys."""
    file, people = rules.file, rules.people
    approver = people.approvers.get(name)
    if approver is None:
        return "it is none of [approvers]"
    if request.break_glass and not file.approvers[name].break_glass:
        return "it may not approve emergencies: break_glass = true"
    administrators = administrators_of(file)
    if name in (request.requester, request.beneficiary):
        return "it asked for it, or benefits from it"
    if name in administrators or name in people.operators:
        return "it administers keys"
    # The key that signs is who somebody is: another name over the same key is the same person.
    asked = people.known(request.requester, request.signer)
    if asked is not None and asked.ed25519 == approver.ed25519:
        return "its key is the one that asked for it"
    for principal, held in people.principals.items():
        if held.ed25519 == approver.ed25519 and principal == request.beneficiary:
            return "its key is the one of whoever benefits"
        if held.ed25519 == approver.ed25519 and principal in administrators:
            return "its key is the one of who administers keys"
    if any(each.ed25519 == approver.ed25519 for each in people.operators.values()):
        return "its key administers keys: it is among [local] signers"
    return ""


def may_not_review(record: GrantRecord, name: str, signer: str, rules: Rules) -> str:
    """Return why *name* may not review a grant of break-glass, in words; empty where they may."""
    request, people = record.request, rules.people
    reviewer = people.known(name, signer)
    if reviewer is None:
        return "lacre.toml does not know them"
    involved: dict[str, Signatory | None] = {
        each: people.approvers.get(each) for each in (a.name for a in _approvals(record, rules))
    }
    involved[request.requester] = people.known(request.requester, request.signer)
    involved[request.beneficiary] = people.principals.get(request.beneficiary)
    for person, held in involved.items():
        if name == person or (held is not None and held.ed25519 == reviewer.ed25519):
            return "it is reviewed by somebody who neither asked, approved nor benefited"
    return ""


def _approvals(record: GrantRecord, rules: Rules) -> Sequence[GrantAct]:
    """Return the approvals that count: one for each key, rightly signed, in time, by who may."""
    request = record.request
    counted: dict[bytes, GrantAct] = {}
    for each in record.acts:
        approver = rules.people.approvers.get(each.name) if each.act is Act.APPROVE else None
        if approver is None or not each.signed_by(request, approver):
            continue
        in_time = seconds(request.requested) <= seconds(each.at) < seconds(request.approve_by)
        if in_time and not may_not_approve(request, each.name, rules):
            counted.setdefault(approver.ed25519, each)
    return tuple(counted.values())


def _execution(record: GrantRecord, rules: Rules, approvals: Sequence[GrantAct]) -> GrantAct | None:
    """Return the act that executed what enough people approved, in time; None without one."""
    request = record.request
    if len(approvals) < (1 if request.break_glass else 2):
        return None
    after = max(seconds(each.at) for each in approvals)
    for each in record.acts:
        if each.act is not Act.EXECUTE:
            continue
        who = rules.people.approvers.get(each.name) or rules.people.operators.get(each.name)
        if each.signed_by(request, who) and after <= seconds(each.at) < seconds(request.approve_by):
            return each
    return None


def _review(
    record: GrantRecord, rules: Rules, approvals: Sequence[GrantAct], execution: GrantAct | None
) -> tuple[str, float | None]:
    if not record.request.break_glass or execution is None or not approvals:
        return "", None
    settings = rules.file.grants.break_glass
    within = _EMERGENCY * 72 if settings is None else settings.review_within.total_seconds()
    due = seconds(execution.at) + within
    return next(_reviewers(record, rules), ""), due


def _reviewers(record: GrantRecord, rules: Rules) -> Iterator[str]:
    for each in record.acts:
        if each.act is not Act.REVIEW or may_not_review(record, each.name, each.signer, rules):
            continue
        if each.signed_by(record.request, rules.people.known(each.name, each.signer)):
            yield each.name
