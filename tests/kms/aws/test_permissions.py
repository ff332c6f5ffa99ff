# SPDX-License-Identifier: Apache-2.0
"""The policies of the how-to page: each role does what it is for, needs every action of it, and can nothing else."""

import datetime as dt
import shlex
from collections.abc import Callable
from uuid import uuid4

import pytest

from lacre.errors import KeyServiceDenied
from lacre.keys.hierarchy import KeyKind
from lacre.kms.aws import AwsKeyService
from lacre.sensitive import KeyMaterial
from tests.components.aws import AWS, Credentials
from tests.kms.aws.conftest import Serve
from tests.kms.aws.documented import (
    FIELDS_ARN,
    INDEX_ARN,
    PAGE,
    actions,
    documented,
    meets,
    with_names,
    without,
)
from tests.kms.aws.rows import context_of, uri_of
from tests.markdown import blocks

ROLES = ("mint", "run", "search", "migrate", "administer")
FIELDS, INDEX = context_of(kind=KeyKind.BRANCH), context_of(kind=KeyKind.INDEX)
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)

Operation = Callable[[AwsKeyService, str, bytes, dict[str, str]], object]
OPERATIONS: dict[str, Operation] = {
    "mint": lambda service, uri, _, context: service.mint(uri, context),
    "unwrap": lambda service, uri, blob, context: service.unwrap(uri, blob, context),
    "wrap": lambda service, uri, _, context: service.wrap(uri, KeyMaterial(b"k" * 32), context),
    "rewrap": lambda service, uri, blob, context: service.rewrap(uri, blob, context, to=uri, to_context=context),
    "status": lambda service, uri, *_: service.status(uri),
    "rotate": lambda service, uri, *_: service.rotate(uri),
}  # fmt: skip
MAY = {
    ("mint", "fields"): {"mint"},
    ("mint", "index"): {"mint"},
    ("run", "fields"): {"unwrap"},
    ("run", "index"): {"unwrap"},
    ("search", "fields"): set(),
    ("search", "index"): {"unwrap"},
    ("migrate", "fields"): {"unwrap", "wrap", "rewrap"},
    ("migrate", "index"): {"unwrap", "wrap", "rewrap"},
    ("administer", "fields"): {"status", "rotate"},
    ("administer", "index"): {"status", "rotate"},
}
# What ministack does not know: it answers these with another error than a denial.
UNKNOWN = {"ministack": {"rewrap", "rotate"}, "moto": set()}


def _does(
    service: AwsKeyService, operation: str, uri: str, blob: bytes, context: dict[str, str]
) -> bool:
    try:
        OPERATIONS[operation](service, uri, blob, context)
    except KeyServiceDenied as denied:
        return "denies kms:" not in str(denied)
    return True


def _compare(aws: AWS, serve: Serve, role: str, who: Credentials, keys: dict[str, str]) -> None:
    admin, service = serve(aws), serve(aws, who)
    for use, context in (("fields", FIELDS), ("index", INDEX)):
        uri = uri_of(keys[use])
        blob = admin.mint(uri, context)
        done = {
            operation
            for operation in set(OPERATIONS) - UNKNOWN[aws.name]
            if _does(service, operation, uri, blob, context)
        }

        assert done == MAY[role, use] - UNKNOWN[aws.name]


@pytest.mark.parametrize("role", ROLES)
def test_an_identity_policy_is_enough_and_no_more(aws: AWS, serve: Serve, role: str) -> None:
    """Under the page's identity policy a role does what it is for, and nothing else: a real AccessDenied for each."""
    keys = {"fields": aws.key(), "index": aws.key()}
    policy = with_names(
        documented()[f"{role}.json"], {FIELDS_ARN: keys["fields"], INDEX_ARN: keys["index"]}
    )
    if aws.name == "ministack":  # where a condition on the context is never met
        policy = without(policy, conditions=True)

    _compare(aws, serve, role, aws.principal(policy, kind="role"), keys)


@pytest.mark.parametrize("role", ROLES)
def test_another_key_is_not_theirs(aws: AWS, serve: Serve, role: str) -> None:
    """On a key that the policy does not name no role may anything."""
    other = aws.key()
    policy = without(documented()[f"{role}.json"], conditions=True)
    blob = serve(aws).mint(uri_of(other), FIELDS)
    service = serve(aws, aws.principal(policy, kind="role"))

    for operation in set(OPERATIONS) - UNKNOWN[aws.name]:
        assert not _does(service, operation, uri_of(other), blob, FIELDS)


@pytest.mark.parametrize(("role", "action", "operation"), [
    ("mint", "kms:GenerateDataKeyWithoutPlaintext", "mint"),
    ("run", "kms:Decrypt", "unwrap"),
    ("migrate", "kms:Decrypt", "unwrap"),
    ("migrate", "kms:Encrypt", "wrap"),
    ("migrate", "kms:ReEncryptFrom", "rewrap"),
    ("migrate", "kms:ReEncryptTo", "rewrap"),
    ("administer", "kms:DescribeKey", "status"),
    ("administer", "kms:RotateKeyOnDemand", "rotate"),
])  # fmt: skip
def test_every_action_is_needed(
    moto: AWS, serve: Serve, role: str, action: str, operation: str
) -> None:
    """Without one of its actions the role cannot do what that is for, so none is there for nothing."""
    key = moto.key()
    policy = with_names(documented()[f"{role}.json"], {FIELDS_ARN: key})
    blob = serve(moto).mint(uri_of(key), FIELDS)
    whole, less = (
        serve(moto, moto.principal(each, kind="role"))
        for each in (policy, without(policy, action=action))
    )

    assert action in actions(policy)
    assert _does(whole, operation, uri_of(key), blob, FIELDS)
    assert not _does(less, operation, uri_of(key), blob, FIELDS)


@pytest.fixture(scope="module")
def roles(ministack: AWS) -> dict[str, Credentials]:
    """A role for each, and a bystander, whom IAM allows `kms:*`. The others have nothing from IAM."""
    nothing = ministack.allowed(["sts:GetCallerIdentity"], "*")
    suffix = uuid4().hex[:8]
    made = {
        role: ministack.principal(nothing, kind="role", name=f"lacre-{role}-{suffix}")
        for role in ROLES
    }
    wide = ministack.allowed(["kms:*"], "*")
    return {**made, "bystander": ministack.principal(wide, kind="role")}


@pytest.fixture(scope="module")
def closed(ministack: AWS, roles: dict[str, Credentials]) -> dict[str, str]:
    """Keys with the policies of the page."""
    pages = documented()
    names = {f"role/lacre-{role}": f"role/{roles[role].arn.split('/')[1]}" for role in ROLES}
    names |= {"111122223333": ministack.account}
    return {
        use: ministack.key(policy=without(with_names(pages[f"{use}-key.json"], names), conditions=True))
        for use in ("fields", "index")
    }  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_a_key_policy_is_enough_and_no_more(
    ministack: AWS,
    serve: Serve,
    roles: dict[str, Credentials],
    closed: dict[str, str],
    role: str,
) -> None:
    """Under the page's key policies each role does the same, with nothing from IAM."""

    _compare(ministack, serve, role, roles[role], closed)


def test_whom_iam_allows_everything_gets_nothing(
    ministack: AWS, serve: Serve, roles: dict[str, Credentials], closed: dict[str, str]
) -> None:
    """`kms:*` in IAM opens no key whose policy does not hand over to IAM."""
    service = serve(ministack, roles["bystander"])
    uri = uri_of(closed["fields"])

    # Ministack lets IAM alone decide about `DescribeKey`.
    for operation in ("mint", "unwrap", "wrap"):
        assert not _does(service, operation, uri, b"x" * 100, FIELDS)


def _statements(role: str) -> dict[str, dict[str, object]]:
    pages = documented()
    return {
        f"{page}/{each['Sid']}": each["Condition"]
        for page in (f"{role}.json", "fields-key.json", "index-key.json")
        for each in pages[page]["Statement"]
        if "Condition" in each and each["Sid"] != "BreakGlass"
    }


@pytest.mark.parametrize("role", ["mint", "run", "search", "migrate"])
def test_conditions_let_lacres_calls_through(role: str) -> None:
    """Every condition is met by the wrap context of a row of its kind, as lacre sends it; a tenant is not named."""
    conditions = _statements(role)

    assert conditions
    for name, condition in conditions.items():
        index = name.startswith("index-key") or name.endswith("ForIndex")
        kind = KeyKind.INDEX if index else KeyKind.BRANCH
        for tenant in ("acme", "other"):
            assert meets(condition, context_of(tenant=tenant, kind=kind), now=NOW)


@pytest.mark.parametrize("role", ["mint", "run", "search", "migrate"])
def test_conditions_stop_every_other_call(role: str) -> None:
    """A call without a pair, with one more, of another class, app, service, environment or kind is stopped."""
    for name, condition in _statements(role).items():
        index = name.startswith("index-key") or name.endswith("ForIndex")
        right = context_of(kind=KeyKind.INDEX if index else KeyKind.BRANCH)
        wrong = [{each: right[each] for each in right if each != left} for left in right]
        wrong += [right | {"more": "x"}, {}]
        wrong += [right | {pair: "other"} for pair in ("app", "class", "env", "kind", "service")]

        assert meets(condition, right, now=NOW)
        for context in wrong:
            assert not meets(condition, context, now=NOW)


def test_the_move_ends() -> None:
    """Moving, and nothing else, is allowed until a date."""
    late = dt.datetime(2027, 2, 1, tzinfo=dt.UTC)
    for name, condition in _statements("migrate").items():
        index = name.startswith("index-key") or name.endswith("ForIndex")
        right = context_of(kind=KeyKind.INDEX if index else KeyKind.BRANCH)

        assert meets(condition, right, now=late) == ("Move" not in name)


def test_nobody_gets_keys_in_the_clear() -> None:
    """No policy of the page has a wildcard, `GenerateDataKey`, or a right to give rights but for who deploys."""
    pages = documented()

    assert set(pages) == {"fields-key.json", "index-key.json", *(f"{role}.json" for role in ROLES)}
    for policy in pages.values():
        assert not [name for name in actions(policy) if "*" in name]
        assert not actions(policy) & {"kms:GenerateDataKey", "kms:CreateGrant", "kms:GenerateDataKeyPair"}  # fmt: skip
        giving = [each for each in policy["Statement"] if "kms:PutKeyPolicy" in each["Action"]]
        assert [each["Sid"] for each in giving] in ([], ["Deploy", "BreakGlass"])


def test_commands_and_actions_are_awss() -> None:
    """Each `aws` command of the page has an operation and options of botocore's models, each action an operation."""
    import botocore.session
    from botocore import xform_name

    session = botocore.session.Session()
    models = {name: session.get_service_model(name) for name in ("kms", "iam", "cloudtrail")}
    known = {
        (name, xform_name(operation, "-")): {
            xform_name(member, "-")
            for member in getattr(model.operation_model(operation).input_shape, "members", ())
        }
        for name, model in models.items()
        for operation in model.operation_names
    }
    lines = [
        line.removeprefix("$ ")
        for block in blocks(PAGE.read_text("utf-8"))
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith("$ aws ")
    ]

    assert len(lines) >= 6
    for line in lines:
        _, service, operation, *options = shlex.split(line)
        named = {
            name.removeprefix("--").removeprefix("no-") for name in options if name.startswith("--")
        }
        assert named - {"region", "query", "output"} <= known[service, operation]
    for policy in documented().values():
        for action in actions(policy):
            service, _, operation = action.partition(":")
            name = operation.removesuffix("From").removesuffix("To")
            assert name in models[service].operation_names
