"""Grants: who may approve what, what a signature covers, and what keeps a grant from being in effect."""

import datetime as dt
from dataclasses import fields, replace

import pytest

from lacre.audit.notes import ED25519, Verifier, origin_of
from lacre.errors import AccessDenied, MisuseError
from lacre.kms.local.signing import IdentitySigner
from lacre.policy.grants import steps
from lacre.policy.grants.judging import Standing, grant_of, judge
from lacre.policy.grants.request import Act, GrantRecord, GrantRequest
from tests.policy.grants.parts import NOW, asked, file, person, rules, with_


def standing(record: GrantRecord, now: float = NOW, **how: object) -> Standing:
    return judge(record, rules(), now=now, **how).standing  # type: ignore[arg-type]


def executed(record: GrantRecord, by: str = "rui", now: float = NOW) -> GrantRecord:
    act = steps.execute(record, rules(), by=person(by), now=now)
    return replace(record, acts=(*record.acts, act))


def test_two_approvers_and_an_execution_put_it_in_effect() -> None:
    """One approval does nothing, two allow the execution, and only that puts it in effect, until its end."""
    record = asked()
    one, two = with_(record, "ana"), with_(record, "ana", "rui")
    done = executed(two)

    assert [standing(each) for each in (record, one, two, done)] == [Standing.REQUESTED, Standing.REQUESTED, Standing.APPROVED, Standing.IN_EFFECT]  # fmt: skip
    assert judge(done, rules(), now=NOW).approvers == ("person:ana", "person:rui")
    assert standing(done, NOW + 4 * 3600 - 1) is Standing.IN_EFFECT
    assert standing(done, NOW + 4 * 3600) is Standing.OVER
    assert grant_of(done.request).until == NOW + 4 * 3600
    with pytest.raises(AccessDenied, match="the grant is requested"):
        executed(one)


def test_it_begins_when_it_says() -> None:
    """Before its beginning an executed grant gives nothing."""
    begins = dt.datetime.fromtimestamp(NOW + 600, dt.UTC)
    done = executed(with_(asked(begins=begins), "ana", "rui"))

    assert standing(done, NOW + 599) is Standing.AHEAD
    assert standing(done, NOW + 600) is Standing.IN_EFFECT


@pytest.mark.parametrize(
    ("asks", "approves", "said"),
    [
        ("ana", "ana", "it asked for it"),
        ("kyc", "kyc", "it is none of"),
        ("kyc", "bia", "it is none of"),
        ("kyc", "operator", "it is none of"),
        ("kyc", "stranger", "does not know this identity"),
    ],
)
def test_who_may_not_approve(asks: str, approves: str, said: str) -> None:
    """Neither whoever asked, nor who benefits, nor who administers keys, nor anybody else."""
    with pytest.raises(AccessDenied, match=said):
        steps.approve(asked(asks), rules(), by=person(approves), now=NOW)


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ("operator", "among .local. signers"),
        ("kyc", "asked for it"),
        ("bia", "whoever benefits"),
        ("devops", "who administers keys"),
    ],
)
def test_another_name_over_the_same_key_is_the_same_person(whose: str, said: str) -> None:
    """An approver whose key is the requester's, the beneficiary's or an administrator's may not approve."""
    found = rules(file((person("rui").public.to_text(), person(whose).public.to_text())))
    record = asked(of=found.file)
    act = steps._signed(record, Act.APPROVE, name="person:rui", by=person(whose), now=NOW)

    with pytest.raises(AccessDenied, match=said):
        steps.approve(record, found, by=person(whose), now=NOW)
    assert judge(replace(record, acts=(act,)), found, now=NOW).approvers == ()


def test_an_administrator_by_name_does_not_approve() -> None:
    """A principal with the duty to administer keys approves nothing, whatever its key is."""
    found = rules(file(('[approvers."person:rui"]', '[approvers."role:devops"]')))

    with pytest.raises(AccessDenied, match="it administers keys"):
        steps.approve(asked(of=found.file), found, by=person("rui"), now=NOW)


def test_an_approval_counts_once() -> None:
    """The same person twice is one, and so is the same row twice."""
    record = with_(asked(), "ana")

    with pytest.raises(AccessDenied, match="approved it before"):
        steps.approve(record, rules(), by=person("ana"), now=NOW)
    twice = replace(record, acts=(*record.acts, replace(record.acts[0], number=2)))
    assert judge(twice, rules(), now=NOW).approvers == ("person:ana",)


def test_an_approval_is_of_one_request() -> None:
    """Put under another request, even one that asks for the same, an approval is none."""
    first, second = with_(asked(), "ana", "rui"), asked()
    moved = tuple(replace(each, grant=second.request.id) for each in first.acts)

    for acts in (first.acts, moved):
        assert judge(replace(second, acts=acts), rules(), now=NOW).approvers == ()


CHANGED = {
    "not_before": "2027-01-15T08:00:01Z",
    "until": "2027-01-15T12:00:01Z",
    "approve_by": "2027-01-15T11:00:00Z",
    "break_glass": True,
    "tenant": "acme",
    "change": "{}",
    "requested": "2027-01-15T07:59:59Z",
}


@pytest.mark.parametrize("name", [each.name for each in fields(GrantRequest)])
def test_an_approval_is_of_every_letter_of_a_request(name: str) -> None:
    """Whatever of an approved request is changed, nothing of it is believed any more."""
    done = executed(with_(asked(), "ana", "rui"))
    value = getattr(done.request, name)
    other = CHANGED.get(name, bytes(64) if isinstance(value, bytes) else f"{value}x")
    found = judge(replace(done, request=replace(done.request, **{name: other})), rules(), now=NOW)

    assert standing(done) is Standing.IN_EFFECT
    assert (found.standing, found.approvers, found.executed) == (Standing.REFUSED, (), "")


def test_a_requester_who_signs_a_changed_request_again_has_no_approvals() -> None:
    """Approvals cover the request and not its signature: changed and signed anew it begins with none."""
    done = executed(with_(asked(), "ana", "rui"))
    unsigned = replace(done.request, tenant="acme")
    again = replace(unsigned, signature=person("kyc").sign(unsigned.own_bytes()))
    found = judge(replace(done, request=again), rules(), now=NOW)

    assert (found.standing, found.approvers) == (Standing.REQUESTED, ())


def test_a_signature_is_of_one_act() -> None:
    """An approval is no execution, and a review no approval."""
    record = with_(asked(), "ana", "rui")
    forged = replace(record.acts[0], act=Act.EXECUTE, number=3)

    assert standing(replace(record, acts=(*record.acts, forged))) is Standing.APPROVED


def test_no_signature_of_another_kind_is_an_approval() -> None:
    """What the same key signs for the evidence log is refused as an approval, and an approval as a note."""
    record = with_(asked(), "ana")
    act, signer = record.acts[0], IdentitySigner(person("ana"))
    message = record.request.signed_bytes(
        Act.APPROVE, name=act.name, at=act.at, signer=act.signer, note=""
    )
    ana = Verifier(name="ana", kind=ED25519, public=person("ana").public.ed25519)

    ana.verify(message, act.signature)  # it is the same key
    assert message.startswith(b"lacre/1/grant\0\0\0")
    assert not origin_of("a", "e", 202611).encode().startswith(message[:6])
    with pytest.raises(MisuseError):
        signer.sign(message)


def test_approvals_end() -> None:
    """Past the time that the request gives them, no approval is taken, and what was approved is not executed."""
    two = with_(asked(lasts=dt.timedelta(days=3)), "ana", "rui")
    late = NOW + 86_400

    assert standing(two, late - 1) is Standing.APPROVED
    assert standing(two, late) is Standing.LAPSED
    with pytest.raises(AccessDenied, match="not approved and executed in time"):
        executed(two, now=late)
    with pytest.raises(AccessDenied, match="lapsed"):
        steps.approve(asked(lasts=dt.timedelta(days=3)), rules(), by=person("ana"), now=late)


def test_another_policy_takes_approvals_away_before_execution_alone() -> None:
    """What was executed stays until its end, unless the policy allows it no longer."""
    other = rules(file(('purposes = ["payout"]\n[roles.comp', 'about = "x"\npurposes = ["payout"]\n[roles.comp')))  # fmt: skip
    without = rules(file(("on_grant.support =", "on_grant.compliance =")))
    gone = rules(file(('"person:zoe"', '"person:eva"'), (person("ana").public.to_text(), person("zoe2").public.to_text())))  # fmt: skip
    two = with_(asked(), "ana", "rui")
    done = executed(two)
    encrypting = rules(file(('on_grant.support = ["decrypt"]', 'on_grant.support = ["encrypt"]')))

    assert other.digest != rules().digest
    assert judge(two, other, now=NOW).standing is Standing.LAPSED
    assert judge(done, other, now=NOW).standing is Standing.IN_EFFECT
    assert (
        judge(done, without, now=NOW).standing is Standing.IN_EFFECT
    )  # a role of the class has it still
    assert judge(done, encrypting, now=NOW).standing is Standing.REFUSED
    assert judge(done, gone, now=NOW).executed == ""  # of an approver who is not pinned any more


def test_revoked_is_revoked_whoever_says_so() -> None:
    """By a row that nobody signed, or by the evidence alone."""
    done = executed(with_(asked(), "ana", "rui"))
    real = steps.revoke(done, rules(), by=person("bia"), now=NOW, note="no longer needed")
    forged = replace(real, signature=b"", name="x")

    for act in (real, forged):
        assert standing(replace(done, acts=(*done.acts, act))) is Standing.REVOKED
    assert standing(done, revoked=True) is Standing.REVOKED
    with pytest.raises(MisuseError, match="revoked already"):
        steps.revoke(done, rules(), by=person("bia"), now=NOW, note="x", revoked=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"right": "encrypt"}, "by grant"),
        ({"class_": "pii"}, "by grant"),
        ({"class_": "none"}, "no such class"),
        ({"purpose": "kyc"}, "purpose"),
        ({"lasts": dt.timedelta(days=8)}, "7 days"),
        ({"lasts": dt.timedelta(days=31)}, "longer than a grant may"),
        ({"lasts": dt.timedelta(0)}, "do not follow"),
        ({"break_glass": True, "lasts": dt.timedelta(hours=1)}, "no emergency"),
        ({"break_glass": True, "class_": "pii"}, "longer than a grant may"),
    ],
)
def test_what_is_not_asked_for(changed: dict[str, object], said: str) -> None:
    """What the policy gives by no grant is refused before anybody signs."""
    with pytest.raises(AccessDenied, match=said):
        asked(**changed)


def test_break_glass_takes_one_approver_and_a_review_by_somebody_else() -> None:
    """Of those who may approve emergencies; who asked, approved or benefits does not review it."""
    hour = {"break_glass": True, "class_": "pii", "lasts": dt.timedelta(hours=1)}
    record = asked(**hour)
    with pytest.raises(AccessDenied, match="may not approve emergencies"):
        steps.approve(record, rules(), by=person("rui"), now=NOW)
    done = executed(with_(record, "ana"), by="ana")
    found = judge(done, rules(), now=NOW)
    for name in ("ana", "kyc", "bia"):
        with pytest.raises(AccessDenied, match="neither asked, approved nor benefited"):
            steps.review(done, rules(), by=person(name), now=NOW, note="seen")
    act = steps.review(done, rules(), by=person("rui"), now=NOW, note="seen")
    forged = replace(act, name="person:zoe", signer=person("zoe").fingerprint)

    assert (found.standing, found.review_due) == (Standing.IN_EFFECT, NOW + 3 * 86_400)
    assert judge(replace(done, acts=(*done.acts, forged)), rules(), now=NOW).reviewer == ""
    assert judge(replace(done, acts=(*done.acts, act)), rules(), now=NOW).reviewer == "person:rui"


def test_a_clock_that_is_set_back_is_refused() -> None:
    """A step is taken at the latest time that is known; a clock far behind it is no clock."""
    assert steps.present(NOW, None) == NOW
    assert steps.present(NOW, NOW + 30) == NOW + 30
    with pytest.raises(AccessDenied, match="3,600 s behind"):
        steps.present(NOW, NOW + 3600)


def test_another_key_store_or_application_is_refused() -> None:
    """Copied into another store, a grant is none there."""
    done = executed(with_(asked(), "ana", "rui"))

    assert judge(done, replace(rules(), keystore="cd" * 16), now=NOW).standing is Standing.REFUSED
