# SPDX-License-Identifier: Apache-2.0
"""
The steps of a grant: ask, approve, execute, revoke, end, review. Each returns what is to be kept.

A step that the policy does not allow raises before anything is signed. Keeps nothing, reads no clock.
"""

import datetime as dt
import itertools
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from lacre.errors import AccessDenied, MisuseError
from lacre.keys.moments import moment_text
from lacre.policy.grants.change import change_of
from lacre.policy.grants.judging import Rules, Standing, judge, may_not_approve, may_not_review
from lacre.policy.grants.request import Act, GrantAct, GrantRecord, GrantRequest, Signing, seconds

__all__ = ["SKEW", "Wanted", "approve", "ask", "execute", "expire", "present", "review", "revoke"]

SKEW = 60.0  # seconds that clocks of two machines may differ
_LONGEST_NOTE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody asks for. *begins* None is at once; *tenant* empty every tenant's data."""

    beneficiary: str
    class_: str
    right: str
    purpose: str
    tenant: str = ""
    begins: dt.datetime | None = None
    lasts: dt.timedelta
    break_glass: bool = False
    reason: str


def ask(
    wanted: Wanted,
    rules: Rules,
    *,
    by: Signing,
    now: float,
    new_id: str,
    entropy: Callable[[int], bytes],
) -> GrantRequest:
    """
    Return the signed request.

    Raises:
        AccessDenied: the policy gives nobody this by a grant, or does not know who asks.
    """
    _check_note(wanted.reason)
    name = rules.people.called(by.fingerprint)
    if name is None:
        raise _refused("lacre.toml does not know who asks")
    asked = _moment(now)
    begins = max(asked, wanted.begins or asked)
    until = begins + wanted.lasts
    file = rules.file
    unsigned = GrantRequest(
        id=new_id,
        nonce=entropy(16).hex(),
        keystore=rules.keystore,
        app=file.app,
        env=file.env,
        service=file.service,
        requester=name,
        beneficiary=wanted.beneficiary,
        class_=wanted.class_,
        right=wanted.right,
        purpose=wanted.purpose,
        tenant=wanted.tenant,
        requested=moment_text(asked),
        not_before=moment_text(begins),
        until=moment_text(until),
        approve_by=moment_text(min(until, asked + file.grants.approved_within)),
        break_glass=wanted.break_glass,
        reason=wanted.reason,
        policy=rules.digest,
        change=change_of(file, wanted.beneficiary, wanted.class_, wanted.right),
        signer=by.fingerprint,
    )
    request = replace(unsigned, signature=by.sign(unsigned.own_bytes()))
    _standing(GrantRecord(request=request), rules, now, Standing.REQUESTED)
    return request


def approve(record: GrantRecord, rules: Rules, *, by: Signing, now: float) -> GrantAct:
    """
    Return the approval.

    Raises:
        AccessDenied: they may not approve it, did already, or it cannot be approved any more.
    """
    request, name = record.request, _named(rules, by)
    _standing(record, rules, now, Standing.REQUESTED)
    if why := may_not_approve(request, name, rules):
        raise _refused(f"{name} may not approve: {why}")
    if request.change != change_of(rules.file, request.beneficiary, request.class_, request.right):
        raise _refused("what it would do at the key service is not what the policy says")
    act = _signed(record, Act.APPROVE, name=name, by=by, now=now)
    before, after = (judge(each, rules, now=now) for each in (record, _with(record, act)))
    if len(after.approvers) == len(before.approvers):
        raise _refused(f"{name} approved it before, or their key did: another person does")
    return act


def execute(record: GrantRecord, rules: Rules, *, by: Signing, now: float) -> GrantAct:
    """
    Return the act that puts an approved grant in effect.

    Raises:
        AccessDenied: it is not approved, or not any more.
    """
    name = _named(rules, by)
    _standing(record, rules, now, Standing.APPROVED)
    act = _signed(record, Act.EXECUTE, name=name, by=by, now=now)
    if not judge(_with(record, act), rules, now=now).executed:
        raise _refused(f"{name} may not execute it: an operator or an approver does")
    return act


def revoke(
    record: GrantRecord, rules: Rules, *, by: Signing, now: float, note: str, revoked: bool = False
) -> GrantAct:
    """
    Return the revocation. Anybody whom lacre.toml knows may take back; who did is signed.

    Raises:
        MisuseError: there is nothing to take back.
    """
    _check_note(note)
    found = judge(record, rules, now=now, revoked=revoked)
    if found.standing in (Standing.REVOKED, Standing.OVER):
        raise MisuseError(f"the grant is {found.standing} already")
    return _signed(record, Act.REVOKE, name=_named(rules, by), by=by, now=now, note=note)


def expire(record: GrantRecord, rules: Rules, *, by: Signing, now: float) -> GrantAct:
    """Return the act that says that the end of a grant was carried out, also at the key service."""
    if any(each.act in (Act.EXPIRE, Act.REVOKE) for each in record.acts):
        raise MisuseError("it was ended before")
    if now < seconds(record.request.until):
        raise MisuseError("it is not over yet", hint="`lacre grant revoke` ends it now")
    return _signed(record, Act.EXPIRE, name=_named(rules, by), by=by, now=now)


def review(record: GrantRecord, rules: Rules, *, by: Signing, now: float, note: str) -> GrantAct:
    """
    Return the review of a grant of break-glass.

    Raises:
        AccessDenied: they asked for it, approved it or benefited.
        MisuseError: there is nothing to review.
    """
    _check_note(note)
    found = judge(record, rules, now=now)
    if found.review_due is None:
        raise MisuseError("only a grant of break-glass that was executed is reviewed")
    if found.reviewer:
        raise MisuseError(f"{found.reviewer} reviewed it already")
    name = _named(rules, by)
    if why := may_not_review(record, name, by.fingerprint, rules):
        raise _refused(f"{name} may not review it: {why}")
    return _signed(record, Act.REVIEW, name=name, by=by, now=now, note=note)


def _signed(
    record: GrantRecord, act: Act, *, name: str, by: Signing, now: float, note: str = ""
) -> GrantAct:
    at = moment_text(_moment(now))
    # The first number that is free: whoever writes rows of high numbers keeps nobody from revoking.
    taken = {each.number for each in record.acts}
    number = next(each for each in itertools.count(1) if each not in taken)
    message = record.request.signed_bytes(act, name=name, at=at, signer=by.fingerprint, note=note)
    return GrantAct(
        grant=record.request.id,
        number=number,
        act=act,
        name=name,
        at=at,
        note=note,
        signer=by.fingerprint,
        signature=by.sign(message),
    )


def _with(record: GrantRecord, act: GrantAct) -> GrantRecord:
    return replace(record, acts=(*record.acts, act))


def _standing(record: GrantRecord, rules: Rules, now: float, wanted: Standing) -> None:
    found = judge(record, rules, now=now)
    if found.standing is not wanted:
        raise _refused(f"the grant is {found.standing}" + (f": {found.why}" if found.why else ""))


def _named(rules: Rules, by: Signing) -> str:
    name = rules.people.called(by.fingerprint)
    if name is None:
        raise _refused("lacre.toml does not know this identity")
    return name


def _check_note(note: str) -> None:
    if not 0 < len(note) <= _LONGEST_NOTE or any(unicodedata.category(c)[0] == "C" for c in note):
        raise MisuseError(
            f"a reason is 1 to {_LONGEST_NOTE} characters on one line",
            hint='--reason "case 2026/117"; no names and no values',
        )


def _refused(message: str) -> AccessDenied:
    return AccessDenied(message, hint="`lacre grant show ID` says where it stands and why")


def _moment(now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(now), dt.UTC)


def present(clock: float, latest: float | None) -> float:
    """
    Return what time it is for a step: never before *latest*, the latest time that the key store or the evidence knows of.

    Raises:
        AccessDenied: *clock* is behind it. Set back, it would let approvals count that are over.
    """
    if latest is not None and clock < latest - SKEW:
        raise AccessDenied(
            f"this machine's clock is {latest - clock:,.0f} s behind the newest record",
            hint="set the clock right, or find out who wrote a record of the future",
        )
    return clock if latest is None else max(clock, latest)
