"""People with real keys, and the policy that knows them."""

import os
from dataclasses import replace
from functools import cache

from lacre.kms.local import Identity, PublicIdentity
from lacre.policy.grants import steps
from lacre.policy.grants.judging import People, Rules
from lacre.policy.grants.request import GrantRecord, GrantRequest
from lacre.policy.loading import parse_policy
from lacre.policy.model import PolicyFile
from tests.policy.test_governance import BEGIN

__all__ = ["KEYSTORE", "NOW", "asked", "file", "person", "rules", "wanted", "with_"]

NOW = 1_800_000_000.0
KEYSTORE = "ab" * 16
_LOCAL = {"svc:kyc": "kyc", "role:devops": "devops", "agent:bia": "bia"}


@cache
def person(name: str) -> Identity:
    return Identity.create(name)


def public(name: str) -> str:
    return person(name).public.to_text()


@cache
def file(*changes: tuple[str, str]) -> PolicyFile:
    """The shop's policy with these people in it: ana, rui and zoe approve, operator signs, kyc asks, bia benefits."""
    text = BEGIN
    given = {
        'signers = ["lacre-public-1 operator a b"]': f'signers = ["{public("operator")}"]',
        '"lacre-public-1 ana a b"': f'"{public("ana")}"',
        '"lacre-public-1 rui a b"': f'"{public("rui")}"\n[approvers."person:zoe"]\nidentity = "{public("zoe")}"\nbreak_glass = true',
        '[principals."svc:kyc"]': f'[principals."agent:bia"]\nroles = ["support"]\nlocal = "{public("bia")}"\n[principals."svc:kyc"]\nlocal = "{public("kyc")}"',
        '[principals."role:devops"]': f'[principals."role:devops"]\nlocal = "{public("devops")}"',
    }
    for old, new in (*given.items(), *changes):
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text, {})


def rules(of: PolicyFile | None = None) -> Rules:
    found = of or file()
    people = People(
        approvers={n: PublicIdentity.from_text(e.identity) for n, e in found.approvers.items()},
        operators={person("operator").name: person("operator").public},
        principals={n: PublicIdentity.from_text(e.local) for n, e in found.principals.items() if e.local},
    )  # fmt: skip
    return Rules(file=found, people=people, keystore=KEYSTORE)


def wanted(**changed: object) -> steps.Wanted:
    import datetime as dt

    given: dict[str, object] = {"beneficiary": "agent:bia", "class_": "banking", "right": "decrypt", "purpose": "support", "lasts": dt.timedelta(hours=4), "reason": "case 7"}  # fmt: skip
    return steps.Wanted(**(given | changed))  # type: ignore[arg-type]


def asked(
    by: str = "kyc", *, now: float = NOW, of: PolicyFile | None = None, **changed: object
) -> GrantRecord:
    request: GrantRequest = steps.ask(
        wanted(**changed), rules(of), by=person(by), now=now, new_id=os.urandom(16).hex(), entropy=os.urandom
    )  # fmt: skip
    return GrantRecord(request=request)


def with_(record: GrantRecord, *names: str, now: float = NOW) -> GrantRecord:
    """*record*, which these approved."""
    for name in names:
        act = steps.approve(record, rules(), by=person(name), now=now)
        record = replace(record, acts=(*record.acts, act))
    return record
