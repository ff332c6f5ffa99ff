# SPDX-License-Identifier: Apache-2.0
"""What tables of governance say of one another, and what follows from them for an acting."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.errors import ConfigurationError
from lacre.policy.decisions import Policy
from lacre.policy.digests import digest_of
from lacre.policy.grants.grant import Grant
from lacre.policy.loading import parse_policy
from lacre.policy.model import PolicyFile, Right

BEGIN = """
app = "chandlery"
env = "prod"
service = "app"
purposes = ["payout", "kyc", "support"]
kms_keys = "aws-kms://ap-south-1/alias/chandlery-{env}-{class}-{use}"
[key_store]
url = "sqlite:///keys.db"
[local]
signers = ["lacre-public-1 operator a b"]
[audit]
path = "audit.jsonl"
[aws]
regions = ["ap-south-1"]
[environments.prod]
account = "123456789012"
security_account = "098765432109"
[environments.dev]
account = "210987654321"
[residency]
regions = ["ap-south-1"]
[governance]
administrators = ["role:devops"]
auditors = ["role:security"]
deletion_window = "30 days"
[roles.finance]
purposes = ["payout"]
[roles.compliance]
[roles.support]
[principals."svc:billing"]
roles = ["finance"]
aws = ["arn:aws:iam::123456789012:role/billing"]
[principals."svc:kyc"]
roles = ["compliance"]
aws = ["arn:aws:iam::123456789012:role/kyc"]
[principals."agent:*"]
roles = ["support"]
[principals."agent:night:*"]
roles = []
[principals."role:devops"]
duties = ["administer"]
aws = ["arn:aws:iam::123456789012:role/devops"]
[principals."role:security"]
duties = ["audit"]
aws = ["arn:aws:iam::123456789012:role/security"]
[approvers."person:ana"]
identity = "lacre-public-1 ana a b"
break_glass = true
[approvers."person:rui"]
identity = "lacre-public-1 rui a b"
[grants.break_glass]
[classes.banking]
columns = ["suppliers.account_number", "suppliers.ifsc_code"]
purposes = ["payout", "support"]
rights.finance = ["encrypt", "decrypt"]
rights.support = ["mask"]
on_grant.support = ["decrypt"]
[classes.pii]
columns = ["users.pan_number"]
break_glass = true
rights.compliance = ["encrypt", "decrypt", "search"]
[keys.storage]
kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}"
purpose = "data"
services = ["rds", "s3"]
encrypts = ["arn:aws:rds:ap-south-1:123456789012:db:main", "arn:aws:s3:::documents"]
users = ["svc:billing"]
context = { app = "chandlery", env = "{env}" }
[departments.finance]
kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}-finance"
producers = ["svc:kyc"]
readers = ["svc:billing"]
"""


class Given:
    """Grants that are in effect, as a test gives them."""

    def __init__(self, *grants: Grant) -> None:
        self.grants = list(grants)

    def effective(self, acting: Acting, class_: str, right: str) -> Grant | None:
        for each in self.grants:
            if (each.principal, each.class_, each.right, each.purpose) == (
                acting.principal, class_, right, acting.purpose,
            ):  # fmt: skip
                return each
        return None


def read(text: str = BEGIN, environ: Mapping[str, str] | None = None) -> PolicyFile:
    return parse_policy(text, environ or {})


def acting(principal: str, role: str, purpose: str) -> Acting:
    return Acting(principal, frozenset({role}), purpose, "default")


def grant(**changed: object) -> Grant:
    given = {"id": "g1", "principal": "agent:bia", "class_": "banking", "right": "decrypt", "purpose": "support", "not_before": 0.0, "until": 1e12}  # fmt: skip
    return Grant(**(given | changed))  # type: ignore[arg-type]


def test_keys_are_of_their_environment() -> None:
    """``{env}`` in names of KMS keys and in contexts is the environment that is loaded."""
    prod, dev = read(), read(environ={"LACRE_ENV": "dev"})

    assert prod.classes["pii"].fields == "aws-kms://ap-south-1/alias/chandlery-prod-pii-fields"
    assert dev.classes["pii"].fields == "aws-kms://ap-south-1/alias/chandlery-dev-pii-fields"
    assert dev.keys["storage"].kms_key == "aws-kms://ap-south-1/alias/chandlery-dev"
    assert dev.keys["storage"].context == {"app": "chandlery", "env": "dev"}
    assert not set(prod.named_keys()) & set(dev.named_keys())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('env = "prod"', 'env = "stg"', "there is no [environments.stg]"),
        ('roles = ["finance"]', 'roles = ["finances"]', "no role 'finances'"),
        ("rights.finance =", "rights.finances =", "no role 'finances'"),
        ("on_grant.support", "on_grant.suport", "no role 'suport'"),
        ('purposes = ["payout"]', 'purposes = ["payouts"]', "no purpose 'payouts'"),
        ('purposes = ["payout", "support"]', 'purposes = ["pay"]', "no purpose 'pay'"),
        ('administrators = ["role:devops"]', 'administrators = ["devops"]', "no principal 'devops'"),
        ('auditors = ["role:security"]', 'auditors = ["x"]', "no principal 'x'"),
        ('users = ["svc:billing"]', 'users = ["svc:bill"]', "no principal 'svc:bill'"),
        ('readers = ["svc:billing"]', 'readers = ["svc:x"]', "no principal 'svc:x'"),
        ('readers = ["svc:billing"]', 'readers = ["svc:kyc"]', "svc:kyc both writes and reads"),
        ('columns = ["users.pan_number"]', 'columns = ["suppliers.ifsc_code"]', "is in class banking already"),
        ('[approvers."person:rui"]\nidentity = "lacre-public-1 rui a b"\n', "", "two approvers"),
        ("lacre-public-1 rui", "lacre-public-1 ana", "have the same identity"),
        ("break_glass = true\n[approvers", "[approvers", "an approver with break_glass"),
        ("[grants.break_glass]\n", "", "it takes [grants.break_glass]"),
        ("[grants.break_glass]\n", '[grants.break_glass]\nlongest = "2 hours"\n', "at most 1 hour"),
        ("[grants.break_glass]\n", '[grants]\nlongest = "31 days"\n[grants.break_glass]\n', "a span is"),
        ('regions = ["ap-south-1"]\n[environments', 'regions = ["ap-south-1", "us-east-1"]\n[environments', "aws.regions: it is in us-east-1"),
        ('kms_keys = "aws-kms://ap-south-1', 'kms_keys = "aws-kms://us-east-1', "it is in us-east-1, and data may be in ap-south-1 only"),
        ('kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}"', 'kms_key = "aws-kms://us-east-1/alias/x"', "keys.storage: it is in us-east-1"),
        ("arn:aws:rds:ap-south-1", "arn:aws:rds:us-east-1", "keys.storage.encrypts: it is in us-east-1"),
        ('regions = ["ap-south-1"]\n[environments', 'regions = ["ap-south-1"]\nendpoint_url = "https://kms.example.org"\n[environments', "not among residency.hosts"),
        ('regions = ["ap-south-1"]\n[environments', 'regions = ["ap-south-1"]\nendpoint_url = "https://kms.us-east-1.amazonaws.com"\n[environments', "not among residency.hosts"),
        ('kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}"', 'kms_key = "aws-kms://ap-south-1/999999999999/key/11111111-1111-4111-8111-111111111111"', "of account 999999999999"),
        ("123456789012:role/billing", "123456789012:role/*", "without wildcards"),
        ('"arn:aws:iam::123456789012:role/billing"', '"*"', "without wildcards"),
        ('[principals."agent:*"]', '[principals."*"]', "a principal is a name"),
        ("context = { app =", "context = { App =", "names in lower case"),
        ('context = { app = "chandlery", env = "{env}" }', "", "users may never call without any"),
        ('deletion_window = "30 days"', 'deletion_window = "3 days"', "7 to 30 days"),
    ],
)  # fmt: skip
def test_what_is_named_is_there_and_where_it_may_be(old: str, new: str, said: str) -> None:
    """A name that leads nowhere, and a place that is not allowed, stop the file from loading."""
    assert old in BEGIN
    with pytest.raises(ConfigurationError) as refused:
        read(BEGIN.replace(old, new, 1))

    assert said in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["https://kms.ap-south-1.amazonaws.com", "http://127.0.0.1:4566", "https://vpce.example"],
)
def test_endpoints_within_the_residency_are_accepted(address: str) -> None:
    """AWS's own names in an allowed region, this machine, and hosts that are listed."""
    text = BEGIN.replace(
        'regions = ["ap-south-1"]\n[environments',
        f'regions = ["ap-south-1"]\nendpoint_url = "{address}"\n[environments', 1,
    ).replace('[residency]\nregions = ["ap-south-1"]', '[residency]\nregions = ["ap-south-1"]\nhosts = ["vpce.example"]')  # fmt: skip

    assert read(text).aws is not None


@pytest.mark.parametrize(
    ("who", "role", "purpose", "class_", "right", "outcome", "rule"),
    [
        ("svc:billing", "finance", "payout", "banking", "decrypt", "allowed", "classes.banking.rights.finance: decrypt"),
        ("svc:billing", "finance", "support", "banking", "decrypt", "denied", "classes.banking.rights: none gives decrypt"),
        ("svc:billing", "finance", "kyc", "banking", "decrypt", "denied", "classes.banking.purposes: 'kyc' is not among them"),
        ("svc:billing", "finance", "fun", "banking", "decrypt", "denied", "purposes: 'fun' is not among them"),
        ("svc:billing", "compliance", "kyc", "pii", "decrypt", "denied", "classes.pii.rights: none gives decrypt"),
        ("svc:kyc", "compliance", "kyc", "pii", "search", "allowed", "classes.pii.rights.compliance: search"),
        ("agent:bia", "support", "support", "banking", "decrypt", "masked", "classes.banking.rights.support: mask"),
        ("agent:night:bo", "support", "support", "banking", "decrypt", "denied", "classes.banking.rights: none gives decrypt"),
        ("agent:*", "support", "support", "banking", "decrypt", "masked", "classes.banking.rights.support: mask"),
        ("agents", "support", "support", "banking", "decrypt", "denied", "principals: nobody is called 'agents'"),
        ("svc:unknown", "compliance", "kyc", "pii", "decrypt", "denied", "principals: nobody is called 'svc:unknown'"),
        ("operator", "compliance", "kyc", "pii", "decrypt", "denied", "classes.pii.rights: none gives decrypt"),
    ],
)  # fmt: skip
def test_deny_by_default(
    who: str, role: str, purpose: str, class_: str, right: str, outcome: str, rule: str
) -> None:
    """A right takes a declared principal, a role of theirs, and a purpose of file, class and role."""
    decision = Policy(read()).decide(acting(who, role, purpose), class_, Right(right))

    assert (str(decision.outcome), decision.rule) == (outcome, rule)


def test_a_grant_gives_what_a_role_may_have_by_grant() -> None:
    """It names itself as the rule, and a grant nobody may have gives nothing."""
    policy = Policy(read(), grants=Given(grant(), grant(class_="pii", right="search")))
    bia = acting("agent:bia", "support", "support")

    decision = policy.decide(bia, "banking", Right.DECRYPT)

    assert (decision.outcome, decision.rule, decision.grant) == (Outcome.ALLOWED, "grants.g1: decrypt", "g1")  # fmt: skip
    assert policy.decide(bia, "banking", Right.ENCRYPT).outcome is Outcome.DENIED
    assert policy.decide(bia, "pii", Right.SEARCH).outcome is Outcome.DENIED


def test_a_grant_that_ends_ends_within_the_acting() -> None:
    """Somebody who acts all day is decided anew when a grant begins or is over."""
    given = Given()
    policy, bia = Policy(read(), grants=given), acting("agent:bia", "support", "support")
    before = policy.decide(bia, "banking", Right.DECRYPT).outcome
    given.grants = [grant()]
    during = policy.decide(bia, "banking", Right.DECRYPT).outcome
    given.grants = []

    assert (before, during) == (Outcome.MASKED, Outcome.ALLOWED)
    assert policy.decide(bia, "banking", Right.DECRYPT).outcome is Outcome.MASKED


def test_break_glass_opens_what_allows_it() -> None:
    """Only a grant for an emergency, only of a class that has them, and only for reading."""
    night = acting("agent:night:bo", "support", "support")
    granted = Given(
        *(
            grant(class_=class_, right=right, principal=night.principal, break_glass=True)
            for class_, right in (("pii", "decrypt"), ("pii", "encrypt"), ("banking", "decrypt"))
        )
    )
    policy = Policy(read(), grants=granted)

    assert policy.decide(night, "pii", Right.DECRYPT).outcome is Outcome.ALLOWED
    assert policy.decide(night, "pii", Right.ENCRYPT).outcome is Outcome.DENIED
    assert policy.decide(night, "banking", Right.DECRYPT).outcome is Outcome.DENIED
    granted.grants = [grant(class_="pii", principal="agent:night:bo")]
    assert policy.decide(night, "pii", Right.DECRYPT).outcome is Outcome.DENIED


def test_a_class_is_for_its_columns() -> None:
    """A column that the class does not name is refused where it is declared."""
    policy = Policy(read())
    policy.check_place("banking", "main", "suppliers", "ifsc_code")

    with pytest.raises(ConfigurationError, match=r"class 'banking' is not for suppliers\.name"):
        policy.check_place("banking", "main", "suppliers", "name")
    with pytest.raises(ConfigurationError, match="no store 'other'"):
        policy.check_place("banking", "other", "suppliers", "ifsc_code")


@given(
    who=st.sampled_from(["svc:billing", "svc:kyc", "agent:x", "agent:night:x", "operator", "nobody"]),
    roles=st.frozensets(st.sampled_from(["finance", "compliance", "support", "operator", "none"])),
    purpose=st.sampled_from(["payout", "kyc", "support", "other"]),
    class_=st.sampled_from(["banking", "pii"]),
    right=st.sampled_from([*Right]),
    granted=st.booleans(),
)  # fmt: skip
def test_the_chain_ends_where_the_decision_is(
    who: str, roles: frozenset[str], purpose: str, class_: str, right: Right, granted: bool
) -> None:
    """What is explained is what is decided; the last link is its rule, and only an allowed one passes."""
    given_ = Given(grant(principal=who, class_=class_, right=str(right), purpose=purpose))
    policy = Policy(read_once, grants=given_ if granted else None)
    someone = Acting(who, roles, purpose, "default")
    explained, chain = policy.explain(someone, class_, right)

    assert explained == policy.decide(someone, class_, right) == policy.decide(someone, class_, right)  # fmt: skip
    assert chain[-1].rule == explained.rule
    assert chain[-1].passed == (explained.outcome is Outcome.ALLOWED)
    if explained.outcome is Outcome.ALLOWED and not explained.grant:
        assert any(right in read_once.classes[class_].rights.get(role, ()) for role in roles)


read_once = read()


def test_governance_is_in_the_digest() -> None:
    """Evidence knows another policy when any table of governance changes."""
    for old, new in (
        ('purposes = ["payout"]', 'purposes = ["kyc"]'),
        ('deletion_window = "30 days"', 'deletion_window = "7 days"'),
        ("person:rui", "person:bo"),
        ("role/billing", "role/other"),
        ('account = "210987654321"', 'account = "210987654322"'),
        ('readers = ["svc:billing"]', "readers = []"),
        ("[grants.break_glass]", '[grants.break_glass]\nlongest = "5 minutes"'),
    ):
        assert digest_of(read(BEGIN.replace(old, new, 1))) != digest_of(read()), old
