"""A policy file says what it means or is refused, and a decision follows from it and nothing else."""

import datetime as dt
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.errors import ConfigurationError, NoTenant
from lacre.keys.hierarchy import KeyKind
from lacre.policy.decisions import Policy
from lacre.policy.loading import OVERLAY, load_pins, load_policy, lock_text, parse_policy
from lacre.policy.model import OpenBaoSettings, Right

POLICY = """
app = "shop"
env = "test"
service = "api"
purposes = ["kyc", "billing"]
[key_store]
url = "sqlite:///keys.db"
[local]
directory = "keystore"
identity = "app.key"
signers = ["line"]
[audit]
path = "audit.jsonl"
[classes.pii]
fields = "local://pii-fields"
index = "local://pii-index"
rights.app = ["encrypt", "decrypt", "search"]
rights.support = ["mask"]
[classes.credentials]
fields = "local://credentials-fields"
denied = "mask"
rights.app = ["encrypt"]
"""


def changed(old: str, new: str) -> str:
    assert POLICY.count(old) == 1
    return POLICY.replace(old, new)


def test_what_is_left_out_has_a_safe_default() -> None:
    """No default tenant, one store, five minutes of cache, errors for the denied, everything hidden."""
    file = parse_policy(POLICY, {})

    assert file.default_tenant is None
    assert list(file.stores) == ["main"]
    assert (file.cache.age, file.cache.entries) == (300, 1000)
    assert (file.audit.mode, file.audit.buffer) == ("bounded", 10_000)
    assert (file.classes["pii"].denied, file.classes["pii"].mask) == ("error", "hidden")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('app = "shop"', 'app = "shop"\nmore = 1', "more: there is no such setting"),
        ("[audit]", "[audit]\nmore = 1", "audit.more: there is no such setting"),
        ("[key_store]", "[key_store]\nmore = 1", "key_store.more: there is no such setting"),
        ("[local]", "[local]\nmore = 1", "local.more: there is no such setting"),
        ("[classes.pii]", "[cache]\nmore = 1\n[classes.pii]", "cache.more: there is no such"),
        ("[classes.pii]", "[stores.main]\nmore = 1\n[classes.pii]", "stores.main.more: there is"),
        ("[classes.pii]", "[classes.pii]\nrigths.x = []", "classes.pii.rigths: there is no such"),
        ('fields = "local://pii-fields"\n', "", "classes.pii.fields: is required"),
        ('app = "shop"\n', "", "app: is required"),
        ('url = "sqlite:///keys.db"', "", "key_store.url: is required"),
        ('signers = ["line"]', "signers = []", "local.signers"),
        ('app = "shop"', "app = 7", "app"),
        ('app = "shop"', 'app = "Shop"', "app: a name is"),
        ('app = "shop"', 'app = "shop\\n"', "app: a name is"),
        ('env = "test"', 'env = ""', "env: a name is"),
        ('"local://pii-fields"', '"aws-kms://x"', "classes.pii.fields: a KMS key is named"),
        ('"local://pii-fields"', '"local://../x"', "classes.pii.fields: a KMS key is named"),
        ('"local://pii-fields"', '"local://a\\n"', "classes.pii.fields: a KMS key is named"),
        ('"mask"]', '"unmask"]', "classes.pii.rights.support"),
        ('["mask"]', '"mask"', "classes.pii.rights.support"),
        ('denied = "mask"', 'denied = "none"', "classes.credentials.denied"),
        (
            "[classes.pii]",
            '[classes.pii]\nmask = "loud"',
            "classes.pii.mask: there is no such mask",
        ),
        ("[classes.pii]", "[cache]\nage = 0\n[classes.pii]", "cache.age"),
        ("[classes.pii]", "[cache]\nage = 4000\n[classes.pii]", "cache.age"),
        ("[classes.pii]", "[cache]\nage = nan\n[classes.pii]", "cache.age"),
        ("[classes.pii]", '[cache]\nage = "soon"\n[classes.pii]', "cache.age"),
        ("[classes.pii]", "[cache]\nentries = 0\n[classes.pii]", "cache.entries"),
        ("[classes.pii]", "[cache]\nentries = 1.5\n[classes.pii]", "cache.entries"),
        ('path = "audit.jsonl"', 'path = "x"\nmode = "off"', "audit.mode"),
        ('path = "audit.jsonl"', 'path = "x"\nbuffer = 0', "audit.buffer"),
        ('app = "shop"', 'app = "shop"\ndefault_tenant = ""', "default_tenant"),
        ('app = "shop"', "app = ", "is not TOML"),
        ('app = "shop"', 'app = "shop"\napp = "two"', "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named(old: str, new: str, said: str) -> None:
    """Unknown, missing, of a wrong type or out of bounds: the error names the file and the setting."""
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(changed(old, new), {}, name="shop.toml")

    assert str(caught.value).startswith("shop.toml")
    assert said in str(caught.value)


def test_a_policy_without_classes_is_refused() -> None:
    """There is nothing to protect in it."""
    with pytest.raises(ConfigurationError, match="classes"):
        parse_policy(POLICY[: POLICY.index("[classes.pii]")], {})


@pytest.mark.parametrize("path", sorted({(*path,) for path in OVERLAY.values()}))
def test_no_error_quotes_a_value(path: tuple[str, ...]) -> None:
    """Whatever a setting holds (a password in a URL, a key pasted by mistake) is not repeated."""
    tables: Any = tomllib.loads(POLICY)
    wrong = {"CANARY": "CANARY"}
    for variable, found in OVERLAY.items():
        if found == path:
            environ = {variable: "CANARY-\x00-" + "x" * 300, "LACRE_CANARIES": "CANARY-2"}
            with pytest.raises(ConfigurationError) as caught:
                parse_policy(POLICY, environ)
            assert "CANARY-" not in str(caught.value) + caught.value.hint
    assert wrong
    assert tables


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("LACRE_ENV", "prod", lambda f: f.env == "prod"),
        ("LACRE_SERVICE", "worker", lambda f: f.service == "worker"),
        ("LACRE_DEFAULT_TENANT", "t1", lambda f: f.default_tenant == "t1"),
        ("LACRE_KEY_STORE__URL", "sqlite:///x", lambda f: f.key_store.url == "sqlite:///x"),
        ("LACRE_LOCAL__DIRECTORY", "d", lambda f: f.local.directory == "d"),
        ("LACRE_LOCAL__IDENTITY", "i", lambda f: f.local.identity == "i"),
        ("LACRE_CACHE__AGE", "60", lambda f: f.cache.age == 60.0),
        ("LACRE_CACHE__ENTRIES", "5", lambda f: f.cache.entries == 5),
        ("LACRE_AUDIT__PATH", "p", lambda f: f.audit.path == "p"),
        ("LACRE_AUDIT__BUFFER", "7", lambda f: f.audit.buffer == 7),
    ],
)
def test_the_environment_overlays_what_differs_between_deployments(
    variable: str, value: str, read: Any
) -> None:
    """Each of the settings it may set, typed."""
    assert variable in OVERLAY
    assert read(parse_policy(POLICY, {variable: value, "PATH": "x"}))


@pytest.mark.parametrize(
    "environ",
    [
        {"LACRE_CLASSES__PII__RIGHTS__APP": "decrypt"},
        {"LACRE_LOCAL__SIGNERS": "mine"},
        {"LACRE_PURPOSES": "any"},
        {"LACRE_APP": "other"},
        {"LACRE_AUDIT__MODE": "off"},
        {"LACRE_CACHE_AGE": "60"},
        {"LACRE_": "x"},
        {"LACRE_CACHE__AGE": "soon"},
        {"LACRE_CACHE__AGE": ""},
        {"LACRE_CACHE__ENTRIES": "1e3"},
        {"LACRE_ENV": "Prod!"},
        {"LACRE_DEFAULT_TENANT": ""},
    ],
)
def test_what_the_environment_may_not_say_is_refused(environ: Mapping[str, str]) -> None:
    """Rights, signers and purposes are the file's alone; a typing error is not silent."""
    with pytest.raises(ConfigurationError):
        parse_policy(POLICY, environ)


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path: Path) -> None:
    """With its path, and what to do."""
    with pytest.raises(ConfigurationError, match="there is no") as caught:
        load_policy(tmp_path / "lacre.toml", {})
    assert "lacre init" in caught.value.hint
    (tmp_path / "lacre.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_policy(tmp_path / "lacre.toml", {})


def acting(*roles: str, purpose: str = "kyc", tenant: str | None = None) -> Acting:
    return Acting("svc:x", frozenset(roles), purpose, tenant)


@pytest.mark.parametrize(
    ("who", "class_", "right", "outcome"),
    [
        (acting("app"), "pii", Right.ENCRYPT, Outcome.ALLOWED),
        (acting("app"), "pii", Right.DECRYPT, Outcome.ALLOWED),
        (acting("app"), "pii", Right.SEARCH, Outcome.ALLOWED),
        (acting("app", purpose="fun"), "pii", Right.DECRYPT, Outcome.DENIED),
        (acting("app", purpose="fun"), "pii", Right.ENCRYPT, Outcome.DENIED),
        (acting("App"), "pii", Right.DECRYPT, Outcome.DENIED),
        (acting(), "pii", Right.DECRYPT, Outcome.DENIED),
        (acting("support"), "pii", Right.DECRYPT, Outcome.MASKED),
        (acting("support", "app"), "pii", Right.DECRYPT, Outcome.ALLOWED),
        (acting("support"), "pii", Right.ENCRYPT, Outcome.DENIED),
        (acting("support"), "pii", Right.SEARCH, Outcome.DENIED),
        (acting("app"), "credentials", Right.ENCRYPT, Outcome.ALLOWED),
        (acting("app"), "credentials", Right.DECRYPT, Outcome.DENIED),
        (acting("support"), "credentials", Right.DECRYPT, Outcome.DENIED),
    ],
)
def test_a_decision_follows_from_roles_and_purpose(
    who: Acting, class_: str, right: Right, outcome: Outcome
) -> None:
    """A right is given to a role of the class for a declared purpose, or not at all."""
    decision = Policy(parse_policy(POLICY, {})).decide(who, class_, right)

    assert decision.outcome is outcome
    assert decision.rule


def test_any_purpose_serves_where_none_are_declared() -> None:
    """Declaring purposes is the file's choice; stating one never is."""
    policy = Policy(parse_policy(changed('purposes = ["kyc", "billing"]\n', ""), {}))

    assert (
        policy.decide(acting("app", purpose="fun"), "pii", Right.DECRYPT).outcome is Outcome.ALLOWED
    )


def test_a_decision_of_one_policy_is_not_anothers() -> None:
    """Decisions kept on an acting are asked anew of a policy that replaced the first."""
    who = acting("app")
    assert (
        Policy(parse_policy(POLICY, {})).decide(who, "pii", Right.DECRYPT).outcome
        is Outcome.ALLOWED
    )
    stricter = Policy(parse_policy(changed('["encrypt", "decrypt", "search"]', '["encrypt"]'), {}))

    assert stricter.decide(who, "pii", Right.DECRYPT).outcome is Outcome.DENIED


def test_a_tenant_is_named_or_the_default() -> None:
    """The acting's own first; without either, an error."""
    plain = Policy(parse_policy(POLICY, {}))
    default = Policy(parse_policy(POLICY, {"LACRE_DEFAULT_TENANT": "d"}))

    assert plain.tenant(acting(tenant="t")) == default.tenant(acting(tenant="t")) == "t"
    assert default.tenant(acting()) == "d"
    with pytest.raises(NoTenant):
        plain.tenant(acting())


def test_the_policy_names_the_kms_key_of_a_scope() -> None:
    """One for branch keys, one for index roots; a class without the second has no index."""
    policy = Policy(parse_policy(POLICY, {}))

    assert policy.kms_key(policy.scope(KeyKind.BRANCH, "pii", "t")) == "local://pii-fields"
    assert policy.kms_key(policy.scope(KeyKind.INDEX, "pii", "t")) == "local://pii-index"
    with pytest.raises(ConfigurationError, match="no blind index"):
        policy.kms_key(policy.scope(KeyKind.INDEX, "credentials", "t"))
    with pytest.raises(ConfigurationError, match="no class 'other'"):
        policy.kms_key(policy.scope(KeyKind.BRANCH, "other", "t"))


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 6_000], ids=["deep", "long"]
)
def test_a_hostile_file_is_a_configuration_error(text: str) -> None:
    """Tables without end, or a number of thousands of digits, give one sentence and no traceback."""
    with pytest.raises(ConfigurationError, match=r"lacre\.toml"):
        parse_policy(text, {})


TEMPLATE = """
app = "shop"
env = "prod"
service = "customers"
kms_keys = "local://{class}-{use}"
[key_store]
url = "sqlite:///keys.db"
[local]
directory = "d"
identity = "i"
signers = ["s"]
[audit]
path = "a"
[classes.pii]
[classes.credentials]
index = false
[classes.banking]
fields = "local://vault"
"""
_ALIAS = "aws-kms://eu-central-1/alias/pii-fields"
_KEY = "aws-kms://eu-central-1/111122223333/key/0a1b2c3d-0000-4000-8000-0123456789ab"


def test_one_line_names_the_keys_of_every_class() -> None:
    """`kms_keys` names the keys of each class that names none; `index = false` is never searchable."""
    classes = parse_policy(TEMPLATE, {}).classes

    assert (classes["pii"].fields, classes["pii"].index) == ("local://pii-fields", "local://pii-index")  # fmt: skip
    assert (classes["credentials"].fields, classes["credentials"].index) == ("local://credentials-fields", None)  # fmt: skip
    assert (classes["banking"].fields, classes["banking"].index) == ("local://vault", None)


@pytest.mark.parametrize(
    ("epochs", "fields"),
    [
        ("openbao://transit/epochs", "openbao://transit/epochs"),
        ("local://seal", "local://seal.epoch-7"),
        ("aws-kms://eu-central-1/alias/seal", "aws-kms://eu-central-1/alias/seal-7"),
    ],
)
def test_no_class_is_under_a_kms_key_that_ends_with_an_epoch(epochs: str, fields: str) -> None:
    """Its branch keys would be lost with the epoch; a key whose name only looks alike is taken."""
    services = '[openbao]\naddress = "https://bao:8200"\nrole_id = "r"\nsecret_id_file = "s"\n[aws]\nregions = ["eu-central-1"]\n'
    sealing = f'\n[sealing]\nkms_key = "{epochs}"\nclasses = ["pii"]\n'

    def policy(fields: str) -> str:
        return changed('"local://pii-fields"', f'"{fields}"') + services + sealing

    with pytest.raises(ConfigurationError, match="ends with each epoch"):
        parse_policy(policy(fields), {})
    parse_policy(policy("openbao://transit/epochs-7"), {})


@pytest.mark.parametrize(
    "address",
    [
        "https://:secret@bao:8200", "https://bao#:8200", "https://bao:8200/#", "https://bao:8200?",
        "https://bao\n:8200", "https://bao:8200/\r\n", "https://b ao", "https://bao\\@other",
    ],
)  # fmt: skip
def test_an_address_is_host_and_port_and_nothing_more(address: str) -> None:
    """A password would be shown in errors, behind a fragment no path is asked for, and line breaks are dropped unseen."""
    with pytest.raises(ValueError, match="an address is") as refused:
        OpenBaoSettings(address=address, auth="token")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{class}-{use}", "{class}"), 'both "{class}" and "{use}"'),
        (("local://{class}-{use}", "openbao://t/{class}-{use}"), "there is no [openbao]"),
        (("local://{class}-{use}", "aws-kms://eu-central-1/alias/{class}-{use}"), "there is no [aws]"),
        (('identity = "i"\n', ""), "[local] needs directory and identity"),
        (("[classes.pii]", '[openbao]\naddress = "http://bao:8200"\n[classes.pii]'), "https://"),
        (("[classes.pii]", '[openbao]\naddress = "https://u:p@bao"\n[classes.pii]'), "https://"),
        (("[classes.pii]", '[openbao]\naddress = "https://bao:8200"\n[classes.pii]'), "role_id"),
        (("[classes.pii]", '[aws]\nregions = ["mars"]\n[classes.pii]'), "as AWS names it"),
        (
            ("[classes.pii]", '[aws]\nregions = ["eu-central-1"]\n[aws.replicas]\neu-central-1 = ["us-east-1"]\n[classes.pii]'),
            "do not allow",
        ),
        (("[classes.pii]", "[cache]\nstale_for = 901\n[classes.pii]"), "900"),
    ],
)  # fmt: skip
def test_what_a_key_service_needs_is_asked_for(change: tuple[str, str], told: str) -> None:
    """A missing table, an address in the clear or a region outside is said before anything runs."""
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(TEMPLATE.replace(*change), {})

    assert told in str(caught.value)


def test_an_alias_is_used_as_it_was_pinned(tmp_path: Path) -> None:
    """`lacre.lock` says which key an alias stands for; without it the alias is refused."""
    text = TEMPLATE.replace(
        "[classes.pii]",
        f'[aws]\nregions = ["eu-central-1"]\n[classes.pii]\nfields = "{_ALIAS}"',
    )
    file = parse_policy(text, {})
    (tmp_path / "lacre.lock").write_text(lock_text({_ALIAS: _KEY}))
    policy = Policy(file, pins=load_pins(tmp_path / "lacre.toml"))
    branch = policy.scope(KeyKind.BRANCH, "pii", "t")

    assert policy.kms_key(branch) == _KEY
    with pytest.raises(ConfigurationError, match="alias"):
        Policy(file).kms_key(branch)


@pytest.mark.parametrize(
    "pins",
    [
        {_ALIAS: _ALIAS},
        {_KEY: _KEY},
        {_ALIAS: _KEY.replace("central", "west")},
        {_ALIAS: "local://pii-fields"},
    ],
)
def test_a_lock_that_pins_something_else_is_refused(pins: dict[str, str], tmp_path: Path) -> None:
    """An alias is pinned to a key of its own region, never to a label or another service."""
    (tmp_path / "lacre.lock").write_text(lock_text(pins))

    with pytest.raises(ConfigurationError, match="lacre keys pin"):
        load_pins(tmp_path / "lacre.toml")


def test_a_move_ends_on_its_day() -> None:
    """Until the last day keys of before open too; then only those that the policy names."""
    text = TEMPLATE.replace(
        "[classes.pii]", '[move]\nfrom = "local://old-{class}-{use}"\nuntil = 2026-03-31\n[classes.pii]'
    )  # fmt: skip
    for today, names in (
        (dt.date(2026, 3, 31), ("local://pii-index", "local://old-pii-index")),
        (dt.date(2026, 4, 1), ("local://pii-index",)),
    ):
        policy = Policy(parse_policy(text, {}), today=lambda today=today: today)

        assert policy.kms_keys(policy.scope(KeyKind.INDEX, "pii", "t")) == names
