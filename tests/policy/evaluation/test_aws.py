# SPDX-License-Identifier: Apache-2.0
"""The evaluator of AWS' policies, against the rules of AWS' documentation in words."""

import datetime as dt
from typing import Any

import pytest

from lacre.errors import MisuseError, PolicyNotUnderstood
from lacre.policy.evaluation.aws import KMS_ACTIONS, Documents, Grant, decide, kms_call

HERE, THERE = "111122223333", "444455556666"
KEY = f"arn:aws:kms:eu-central-1:{HERE}:key/11111111-1111-4111-8111-111111111111"
READER = f"arn:aws:iam::{HERE}:role/reader"
USER = f"arn:aws:iam::{HERE}:user/ana"
ROOT = f"arn:aws:iam::{HERE}:root"
STRANGER = f"arn:aws:iam::{THERE}:role/reader"
LOGS = "logs.eu-central-1.amazonaws.com"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    """Return a policy of *statements*."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def said(
    effect: str = "Allow", action: Any = "kms:Decrypt", who: Any = None, **more: Any
) -> dict[str, Any]:
    """Return a statement about Decrypt, of a resource's policy where it says *who*."""
    named = {} if who is None else {"Principal": who if who == "*" else {"AWS": who}}
    return {"Effect": effect, "Action": action, "Resource": "*", **named, **more}


ALLOW, DENY, READ = policy(said()), policy(said("Deny")), policy(said(action="s3:GetObject"))
FULL = policy(said(action="*"))
BY_KEY, BY_IAM = policy(said(who=READER)), policy(said(who=ROOT))
EVERYBODY = policy(said(who="*"))
GRANT = Grant(key=KEY, grantee=READER, operations=("Decrypt",))

# The rule in words, who calls, the documents, the answer.
RULES: list[tuple[str, str, dict[str, Any], bool]] = [
    ("a key policy is enough for whom it names", READER, {"key_policy": BY_KEY}, True),
    ("without the account in the key policy, identity policies have no effect", READER, {"key_policy": policy(said(who=USER)), "identity_policies": [ALLOW]}, False),
    ("with it they have", READER, {"key_policy": BY_IAM, "identity_policies": [ALLOW]}, True),
    ("the account in the key policy gives nobody anything by itself", READER, {"key_policy": BY_IAM}, False),
    ("the root user is whom the account stands for", ROOT, {"key_policy": BY_IAM}, True),
    ("the root user has nothing of a key whose policy leaves it out", ROOT, {"key_policy": BY_KEY}, False),
    ("an explicit denial of an identity policy wins", READER, {"key_policy": BY_KEY, "identity_policies": [DENY]}, False),
    ("an explicit denial of a key policy wins", READER, {"key_policy": policy(said(who=READER), said("Deny", who="*"))}, False),
    ("a denial of an account is one of everybody in it", READER, {"key_policy": policy(said(who=READER), said("Deny", who=ROOT))}, False),
    ("a boundary limits identity policies", READER, {"key_policy": BY_IAM, "identity_policies": [ALLOW], "boundary": READ}, False),
    ("a boundary limits what a resource gives a role", READER, {"key_policy": BY_KEY, "boundary": READ}, False),
    ("a boundary does not limit what a resource gives a user", USER, {"key_policy": policy(said(who=USER)), "boundary": READ}, True),
    ("a denial of a boundary wins", USER, {"key_policy": policy(said(who=USER)), "boundary": DENY}, False),
    ("each level of the organisation has to allow", READER, {"key_policy": BY_KEY, "scps": [FULL, READ]}, False),
    ("one policy of a level is enough", READER, {"key_policy": BY_KEY, "scps": [[FULL, READ]]}, True),
    ("a denial of a level wins", READER, {"key_policy": BY_KEY, "scps": [[FULL, DENY]]}, False),
    ("service control policies are not for services", LOGS, {"key_policy": policy({**said(), "Principal": {"Service": LOGS}}), "scps": [DENY]}, True),
    ("another account has to be allowed by both", STRANGER, {"key_policy": policy(said(who=STRANGER))}, False),
    ("and then it is", STRANGER, {"key_policy": policy(said(who=THERE)), "identity_policies": [ALLOW]}, True),
    ("its own account alone is not enough", STRANGER, {"key_policy": BY_IAM, "identity_policies": [ALLOW]}, False),
    ("everybody of the account is allowed by a star", READER, {"key_policy": EVERYBODY}, True),
    ("a grant is enough in the account", READER, {"key_policy": BY_IAM, "grants": [GRANT]}, True),
    ("a denial wins over a grant", READER, {"key_policy": policy(said("Deny", who="*")), "grants": [GRANT]}, False),
    ("actions are compared in any case", READER, {"key_policy": policy(said(who=READER, action="KMS:dec*"))}, True),
    ("NotAction is all the others", READER, {"key_policy": policy({**{k: v for k, v in said(who=READER).items() if k != "Action"}, "NotAction": "kms:Decrypt"})}, False),
    ("NotPrincipal with Deny denies all who are not named", READER, {"key_policy": policy(said(who=READER), {"Effect": "Deny", "NotPrincipal": {"AWS": [USER, THERE]}, "Action": "kms:Decrypt", "Resource": "*"})}, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "who", "given", "allowed"), RULES, ids=[each[0] for each in RULES]
)
def test_who_may(rule: str, who: str, given: dict[str, Any], allowed: bool) -> None:
    """Which documents have to allow is as the pages on the logic of evaluation say."""
    verdict = decide(kms_call(who, "Decrypt", KEY), Documents.read(**given))

    assert verdict.allowed is allowed, (rule, verdict.because)


NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
CONDITIONS: list[tuple[str, dict[str, Any], dict[str, str], bool]] = [
    ("values are compared with their case", {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}, {"tenant": "Acme"}, False),
    ("names of keys are not", {"StringEquals": {"KMS:encryptioncontext:TENANT": "acme"}}, {"tenant": "acme"}, True),
    ("a missing key meets nothing", {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}, {}, False),
    ("a missing key meets a negation", {"StringNotEquals": {"kms:EncryptionContext:tenant": "acme"}}, {}, True),
    ("a missing key meets IfExists", {"StringEqualsIfExists": {"kms:EncryptionContext:tenant": "acme"}}, {}, True),
    ("several values are alternatives", {"StringEquals": {"kms:EncryptionContext:tenant": ["a", "b"]}}, {"tenant": "b"}, True),
    ("several values of a negation are all excluded", {"StringNotEquals": {"kms:EncryptionContext:tenant": ["a", "b"]}}, {"tenant": "b"}, False),
    ("a star is a wildcard of Like only", {"StringEquals": {"kms:EncryptionContext:tenant": "a*"}}, {"tenant": "acme"}, False),
    ("and there it is one", {"StringLike": {"kms:EncryptionContext:tenant": "a*e"}}, {"tenant": "acme"}, True),
    ("ForAllValues is met by none", {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["tenant"]}}, {}, True),
    ("ForAllValues excludes one more", {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["tenant"]}}, {"tenant": "a", "more": "b"}, False),
    ("ForAnyValue is not met by none", {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": ["tenant"]}}, {}, False),
    ("Null true is met by a missing key", {"Null": {"kms:EncryptionContext:tenant": "true"}}, {}, True),
    ("Null false is not", {"Null": {"kms:EncryptionContext:tenant": "false"}}, {}, False),
    ("a date is compared as a moment", {"DateLessThan": {"aws:CurrentTime": "2026-06-01T12:00:01Z"}}, {}, True),
    ("and its end is not in it", {"DateLessThan": {"aws:CurrentTime": "2026-06-01T14:00:00+02:00"}}, {}, False),
    ("ARNs are compared part by part", {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{HERE}:role/r*"}}, {}, True),
    ("and a wildcard stays in its part", {"ArnLike": {"aws:PrincipalArn": "arn:aws:*:role/reader:*:x"}}, {}, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "condition", "pairs", "met"), CONDITIONS, ids=[each[0] for each in CONDITIONS]
)
def test_conditions(rule: str, condition: dict[str, Any], pairs: dict[str, str], met: bool) -> None:
    """A condition is met as the pages on its operator say."""
    documents = Documents.read(key_policy=policy(said(who=READER, Condition=condition)))
    verdict = decide(kms_call(READER, "Decrypt", KEY, pairs, at=NOON), documents)

    assert verdict.allowed is met, rule


@pytest.mark.parametrize(("constraint", "pairs", "allowed"), [
    ({"equals": {"Tenant": "acme"}}, {"tenant": "acme"}, True),
    ({"equals": {"tenant": "acme"}}, {"tenant": "Acme"}, False),
    ({"equals": {"tenant": "acme"}}, {"tenant": "acme", "more": "x"}, False),
    ({"subset": {"tenant": "acme"}}, {"tenant": "acme", "more": "x"}, True),
    ({"subset": {"tenant": "acme"}}, {"more": "x"}, False),
])  # fmt: skip
def test_constraints_of_grants(
    constraint: dict[str, Any], pairs: dict[str, str], allowed: bool
) -> None:
    """In a grant names of pairs are compared in any case, values are not; Equals is all of them, Subset some."""
    grant = Grant(key=KEY, grantee=READER, operations=("Decrypt",), **constraint)
    documents = Documents.read(key_policy=BY_IAM, grants=[grant])

    assert decide(kms_call(READER, "Decrypt", KEY, pairs), documents).allowed is allowed


@pytest.mark.parametrize("more", [
    {"Condition": {"StringEqual": {"aws:username": "ana"}}},
    {"Condition": {"StringEquals": {"kms:EncryptionContex:tenant": "acme"}}},
    {"Condition": {"StringEquals": {"kms:EncryptionContextKeys": "tenant"}}},
    {"Condition": {"ForAnyValue:StringEqualsIfExists": {"kms:EncryptionContextKeys": "tenant"}}},
    {"Condition": {"StringEquals": {"aws:username": "${aws:PrincipalTag/name}"}}},
    {"Condition": {"DateLessThan": {"aws:CurrentTime": "soon"}}},
    {"Condition": {"ArnLike": {"aws:PrincipalArn": "*"}}},
    {"Action": "kms:Decript"},
    {"Resource": "arn:aws:s3:::${aws:username}"},
    {"Principal": {"Federated": "x"}},
    {"Principal": {"AWS": f"arn:aws:sts::{HERE}:assumed-role/reader/session"}},
    {"Effect": "allow"},
    {"Conditions": {}},
])  # fmt: skip
def test_what_is_not_known_is_named(more: dict[str, Any]) -> None:
    """An element, operator, key, variable or name that the evaluator does not know is an error, in a denial too."""
    with pytest.raises(PolicyNotUnderstood, match="key policy"):
        Documents.read(key_policy=policy({**said("Deny", who=READER), **more}))


def test_what_the_call_does_not_say_is_asked_for() -> None:
    """A policy that speaks of the time gets no answer about a call that does not tell it."""
    until = {"DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}}
    documents = Documents.read(key_policy=policy(said(who=READER, Condition=until)))

    with pytest.raises(PolicyNotUnderstood, match="aws:currenttime"):
        decide(kms_call(READER, "Decrypt", KEY), documents)


def test_the_statement_that_decided_is_named() -> None:
    """A verdict names the statement by its Sid, whether it allows or denies."""
    key = policy(said(who=READER, Sid="Read"), said("Deny", "kms:Encrypt", "*", Sid="Never"))
    documents = Documents.read(key_policy=key)

    assert decide(kms_call(READER, "Decrypt", KEY), documents).statement == "key policy/Read"
    assert decide(kms_call(READER, "Encrypt", KEY), documents).statement == "key policy/Never"


def test_a_key_without_its_policy_is_no_question() -> None:
    """A KMS key always has a policy; without it nothing is said."""
    with pytest.raises(MisuseError, match="has a policy of its own"):
        decide(kms_call(READER, "Decrypt", KEY), Documents.read(identity_policies=[ALLOW]))


def test_the_actions_are_those_of_kms() -> None:
    """The table of actions is the operations of botocore's model, with ReEncrypt's two in its place."""
    import botocore.session

    model = botocore.session.Session().get_service_model("kms")
    known = {f"kms:{name}" for name in model.operation_names} - {"kms:ReEncrypt"}

    assert (
        known | {"kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:SynchronizeMultiRegionKey"}
        == KMS_ACTIONS
    )
