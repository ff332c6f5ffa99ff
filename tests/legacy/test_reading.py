# SPDX-License-Identifier: Apache-2.0
"""Reading a column in two formats for a time: decided, recorded, and closed afterwards."""

import base64
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from lacre import Lacre
from lacre._core.textform import to_json, to_text
from lacre.audit.event import Outcome
from lacre.audit.events import LegacyLooked, Looked
from lacre.errors import (
    AccessDenied,
    ConfigurationError,
    EvidenceUnavailable,
    InvalidValue,
    KeyNotFound,
    NoPrincipal,
    PlaintextFound,
    Tampered,
)
from lacre.fields.field import Field
from lacre.legacy import (
    ChandleryReader,
    FernetReader,
    Found,
    NexusReader,
    Reading,
    SqlalchemyUtilsReader,
    of_client,
)
from lacre.policy.decisions import Policy
from lacre.policy.loading import parse_policy
from lacre.sensitive import Mask
from lacre.testing import CapturedEvents, FrozenClock
from tests.components.aws import AWS
from tests.legacy.originals import CONTEXT, FileKms, kept, node

CANARY = "CANARY-Ana-529.982.247-25"
KEY = Fernet.generate_key()
OLD = Fernet(KEY).encrypt(CANARY.encode()).decode()
UNTIL = dt.date(2027, 1, 31)


@pytest.fixture
def sink() -> CapturedEvents:
    """Where the evidence goes."""
    return CapturedEvents()


@pytest.fixture
def app(lacre: Lacre, sink: CapturedEvents) -> Iterator[Lacre]:
    """The application, its evidence captured."""
    with Lacre(
        lacre.policy, store=lacre.store, services=lacre.services, sink=sink, signers=lacre.signers
    ) as application:
        yield application


@pytest.fixture
def cpf(app: Lacre) -> Field:
    """The column that is moved."""
    return app.field("pii", table="patients", column="cpf", type=str)


def reading(field: Field, *, day: dt.date = UNTIL, moved: bool = False) -> Reading:
    return Reading(
        field, FernetReader(name="old", keys=[KEY]), until=UNTIL, day=lambda: day, moved=moved
    )


def acting(app: Lacre, role: str = "app") -> Any:
    return app.acting_as("svc:desk", roles={role}, purpose="test")


def test_both_formats_are_read_and_told_apart_in_evidence(app, cpf, sink):
    """A value of either format comes back; one of the library before has an action of its own, which names the reader."""
    with acting(app):
        ours = cpf.encrypt("Rui", row="1")
        found = [reading(cpf).decrypt(stored, row="1") for stored in (ours, OLD, None)]
    app.flush()

    assert found == ["Rui", CANARY, None]
    assert [type(event) for event in sink.events if isinstance(event, Looked)] == [
        Looked,
        LegacyLooked,
    ]
    (event,) = sink.of("legacy-look")
    assert (event.outcome, event.rows, event.count) == (Outcome.ALLOWED, ("1",), 1)
    assert event.rule.endswith("; legacy reader old")
    assert (event.place.table, event.place.column) == ("patients", "cpf")


class Greedy:
    """A reader that takes everything for its own, and must never be asked for it."""

    name, python_type, calls, authenticated = "greedy", str, 0, True

    def looks_like(self, stored: object) -> bool:
        return True

    def found(self, stored: object) -> Found:
        raise AssertionError("asked")


def test_every_form_of_lacre_is_lacres(app, cpf):
    """Whatever form a lacre value is in, and however greedy the legacy reader, it is not asked for it."""
    box = Reading(cpf, Greedy(), until=UNTIL, day=lambda: UNTIL)
    with acting(app):
        sealed = bytes(cpf.encrypt("Rui", row="1"))
        for form in (sealed, memoryview(sealed), to_text(sealed), to_json(sealed)):
            assert box.decrypt(form, row="1") == "Rui"


def test_a_lacre_value_that_does_not_open_never_falls_back(app, cpf):
    """Moved to another row, or changed, it is tampered: not a value of the other format."""
    with acting(app):
        ours = bytes(cpf.encrypt("Rui", row="1"))
        for stored in (ours, ours[:-1] + bytes([ours[-1] ^ 1])):
            with pytest.raises(Tampered):
                reading(cpf).decrypt(stored, row="2")


def test_plaintext_is_of_neither_format(app, cpf):
    """What has the form of neither is refused as plaintext."""
    with acting(app), pytest.raises(PlaintextFound):
        reading(cpf).decrypt("529.982.247-25", row="1")


def test_after_its_last_day_nothing_old_is_read(app, cpf, sink):
    """On the day it is read, on the next it is refused, and the refusal is recorded; lacre's own values go on."""
    with acting(app):
        ours = cpf.encrypt("Rui", row="1")
        late = reading(cpf, day=UNTIL + dt.timedelta(days=1))
        with pytest.raises(ConfigurationError, match="was over after 2027-01-31"):
            late.decrypt(OLD, row="1")
        still = late.decrypt(ours, row="1")
    app.flush()

    assert still == "Rui"
    assert [event.outcome for event in sink.of("legacy-look")] == [Outcome.FAILED]


def test_in_a_column_that_was_moved_nothing_old_is_read(app, cpf, sink):
    """A value of the format before is a finding there: refused as plaintext would be, and recorded."""
    with acting(app), pytest.raises(PlaintextFound, match="was moved in"):
        reading(cpf, moved=True).decrypt(OLD, row="1")
    app.flush()

    assert [event.outcome for event in sink.of("legacy-look")] == [Outcome.FAILED]


def test_the_policy_decides_as_on_every_look(app, cpf, sink):
    """Whoever may not decrypt gets what the policy says, and the value is not even opened."""
    with acting(app, "nobody"), pytest.raises(AccessDenied):
        reading(cpf).decrypt(OLD, row="1")
    with pytest.raises(NoPrincipal):
        reading(cpf).decrypt(OLD, row="1")
    app.flush()

    assert [event.outcome for event in sink.of("look")] == [Outcome.DENIED]
    assert not sink.of("legacy-look")


def test_a_masked_reader_gets_the_mask(app):
    """A role with the right to see masks sees the old value's mask."""
    field = app.field("pii", table="patients", column="cpf", type=str, mask="last4")
    with acting(app, "support"):
        found = reading(field).decrypt(OLD, row="1")

    assert isinstance(found, Mask)
    assert str(found).endswith("4725")
    assert CANARY not in str(found)


def test_a_reader_of_another_type_than_the_fields_is_refused(app):
    """The field says what its values are, before any is read."""
    number = app.field("pii", table="patients", column="age", type=int)
    with pytest.raises(
        ConfigurationError, match="holds int, and the legacy reader 'old' reads str"
    ):
        reading(number)


def test_nothing_is_handed_out_that_was_not_recorded(app, cpf, sink):
    """A recorder that is down refuses the look at an old value like any other."""
    with acting(app):
        app.flush()
        sink.failing = OSError("disk full")
        reading(cpf).decrypt(OLD, row="1")
        with pytest.raises(EvidenceUnavailable):
            app.flush()
        with pytest.raises(EvidenceUnavailable):
            reading(cpf).decrypt(OLD, row="1")
        sink.failing = None


def test_no_value_or_key_is_in_logs_and_errors(app, caplog):
    """Neither what was encrypted nor what opens it is in a message, a repr or a log."""
    caplog.set_level(logging.DEBUG)
    number = FernetReader(name="old", keys=[KEY], value_type="int")
    age = app.field("pii", table="patients", column="age", type=int)
    box = Reading(age, number, until=UNTIL, day=lambda: UNTIL)
    with acting(app), pytest.raises(InvalidValue) as caught:
        box.decrypt(OLD, row="1")

    said = (
        repr(caught.value) + str(caught.value.__context__) + repr(box) + repr(number) + caplog.text
    )
    assert CANARY not in said
    assert KEY.decode() not in said
    assert OLD not in said


# As lacre.toml names it


def named(home: Path, table: str, **files: str) -> None:
    """Add a legacy reader to the policy, and files of secrets for it."""
    secrets = home / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    for name, text in files.items():
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(text)
    with (home / "lacre.toml").open("a") as policy:
        policy.write(table)


FERNET = '[legacy.old]\nformat = "fernet"\nkeys = "secrets/keys"\nuntil = 2999-12-31\n'


def test_the_application_opens_the_reader_that_lacre_toml_names(home):
    """`Lacre.legacy` reads by name; without the table there is none."""
    with (
        Lacre.load(home / "lacre.toml", environ={}) as app,
        pytest.raises(ConfigurationError, match="no legacy reader 'old'"),
    ):
        app.legacy("old", app.field("pii", table="patients", column="cpf", type=str))
    named(home, FERNET, keys=KEY.decode() + "\n")
    with Lacre.load(home / "lacre.toml", environ={}) as app, acting(app):
        field = app.field("pii", table="patients", column="cpf", type=str)
        assert app.legacy("old", field).decrypt(OLD, row="1") == CANARY


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("sqlalchemy_utils", 'format = "sqlalchemy-utils"\nkeys = "secrets/keys"\nengine = "aes-gcm"'),
        ("django_fernet", 'format = "django-fernet"\nkeys = "secrets/keys"\nsalts = "secrets/salts"'),
        ("rails", 'format = "rails"\nkeys = "secrets/keys"\nsalts = "secrets/salts"'),
    ],
)  # fmt: skip
def test_each_format_is_opened_with_its_files(home, name, facts):
    """Keys and salts of files make the reader that the fixtures were written for."""
    fixture = kept(name)
    keys = {"sqlalchemy_utils": ["a secret key"], "django_fernet": fixture.get("secret_keys")}
    salts = fixture.get("salts") or [(fixture.get("keys") or {}).get("key_derivation_salt", "-")]
    secrets = keys.get(name) or [fixture["keys"]["primary_key"]]
    named(
        home,
        f"[legacy.x]\nuntil = 2999-12-31\n{facts}\n",
        keys="\n".join(secrets) + "\n",
        salts="\n".join(salts),
    )
    case = next(
        case for case in fixture["values"]
        if case.get("type", "str") == "str" and case.get("engine", "aes-gcm") == "aes-gcm" and not case.get("deterministic")
    )  # fmt: skip
    with Lacre.load(home / "lacre.toml", environ={}) as app, acting(app):
        field = app.field("pii", table="t", column="c", type=str)
        assert app.legacy("x", field).decrypt(case["stored"], row="1") == case["value"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('format = "fernet"', "needs keys"),
        ('format = "fernet"\nkeys = "k"\nkms_key = "aws-kms://us-east-1/123456789012/key/0f0f0f0f-0000-4000-8000-000000000000"', "has no kms_key"),
        ('format = "rails"\nkeys = "k"', "needs salts"),
        ('format = "nexus"', "needs kms_key"),
        ('format = "chandlery"\nkms_key = "aws-kms://us-east-1/123456789012/key/0f0f0f0f-0000-4000-8000-000000000000"', "needs column, table"),
        ('format = "sqlalchemy-utils"\nkeys = "k"', "needs engine"),
        ('format = "other"', "legacy.x.format"),
        ('format = "fernet"\nkeys = "k"\nkey = "hunter2"', "there is no such setting"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_meant_is_refused(home, table, told):
    """What a format needs and does not take is said when the policy is loaded."""
    named(home, f"[legacy.x]\nuntil = 2999-12-31\n{table}\n")
    with pytest.raises(ConfigurationError) as caught:
        Lacre.load(home / "lacre.toml", environ={})

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_files_of_their_owner(home):
    """A file or directory that others may read is refused, and so is an empty one."""
    named(home, FERNET, keys=KEY.decode())
    with Lacre.load(home / "lacre.toml", environ={}) as app:
        field = app.field("pii", table="patients", column="cpf", type=str)
        for spoil, told in (
            (lambda: (home / "secrets/keys").chmod(0o640), "open to other users"),
            (lambda: (home / "secrets").chmod(0o755), "open to other users"),
            (lambda: (home / "secrets/keys").write_text("\n"), "is empty"),
            (lambda: (home / "secrets/keys").unlink(), "there is no file"),
        ):
            spoil()
            with pytest.raises(ConfigurationError, match=told):
                app.legacy("old", field)
            (home / "secrets").chmod(0o700)
            if (home / "secrets/keys").exists():
                (home / "secrets/keys").chmod(0o600)


def test_a_reader_whose_time_is_over_is_not_opened(home):
    """The day after `until` there is no reader any more."""
    named(home, FERNET.replace("2999-12-31", "2020-01-01"), keys=KEY.decode())
    with (
        Lacre.load(home / "lacre.toml", environ={}) as app,
        pytest.raises(ConfigurationError, match="was over after 2020-01-01"),
    ):
        app.legacy("old", app.field("pii", table="patients", column="cpf", type=str))


def test_a_clock_that_is_set_back_reopens_nothing(home, lacre):
    """The day is the latest that anything has seen, as for the deadlines of columns."""
    named(home, FERNET.replace("2999-12-31", "2027-01-31"), keys=KEY.decode())
    policy = Policy(parse_policy((home / "lacre.toml").read_text(), {}))
    clock = FrozenClock(dt.datetime(2027, 1, 31, 12, tzinfo=dt.UTC).timestamp())
    with Lacre(
        policy, store=lacre.store, services=lacre.services, sink=CapturedEvents(), clock=clock
    ) as app:
        app.base = home
        box = app.legacy("old", app.field("pii", table="patients", column="cpf", type=str))
        with acting(app):
            assert box.decrypt(OLD, row="1") == CANARY
            clock.advance(86_400)
            for _ in range(2):
                with pytest.raises(ConfigurationError, match="was over"):
                    box.decrypt(OLD, row="1")
                clock.advance(-86_400)


def test_an_application_reads_no_unauthenticated_format(cpf):
    """AES-CBC without authentication would answer whoever may write there; a job may read it, an application not."""
    reader = SqlalchemyUtilsReader(name="old", key="k", engine="aes")

    with pytest.raises(ConfigurationError, match="authenticates nothing"):
        Reading(cpf, reader, until=UNTIL)


# Data keys that AWS KMS opens


def test_aws_kms_opens_data_keys_under_the_named_key_only(moto: AWS, caplog):
    """With boto3's client a value of the Nexus service is read; under another key, or changed, it is tampered."""
    kms = moto.client()
    mine, other = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    made = kms.generate_data_key(KeyId=mine, KeySpec="AES_256")
    given = {
        "keyId": "alias/nexus",
        "dataKeys": [
            {
                "plaintext": base64.b64encode(made["Plaintext"]).decode(),
                "ciphertext": base64.b64encode(made["CiphertextBlob"]).decode(),
            }
        ],
        "values": [{"text": CANARY, "context": CONTEXT, "cipher": "createCipher"}],
    }
    (stored,) = node("nexus.js", given)

    caplog.set_level(logging.DEBUG)
    assert NexusReader(name="n", unwrap=of_client(kms, key_id=mine)).found(stored).value == CANARY
    assert given["dataKeys"][0]["plaintext"] not in caplog.text
    assert CANARY not in caplog.text
    with pytest.raises(KeyNotFound):
        NexusReader(name="n", unwrap=of_client(kms, key_id=mine[:-4] + "0000")).found(stored)
    with pytest.raises(Tampered):
        NexusReader(name="n", unwrap=of_client(kms, key_id=other)).found(stored)
    with pytest.raises(Tampered):
        NexusReader(name="n", unwrap=FileKms(bytes(32)).unwrap).found(stored)


def test_the_context_of_a_data_key_is_asked_with_it(moto: AWS):
    """A value of the second platform opens with its table and column, and in no other context."""
    kms = moto.client()
    key = kms.create_key()["KeyMetadata"]["Arn"]
    context = {"table": "organizations", "column": "taxId"}
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    given = {
        "kmsKey": base64.b64encode(bytes(32)).decode(),
        **context,
        "values": [{"text": CANARY, "saves": 1}],
        "dataKeys": [
            {
                "plaintext": base64.b64encode(made["Plaintext"]).decode(),
                "ciphertext": base64.b64encode(made["CiphertextBlob"]).decode(),
            }
        ],
    }
    (stored,) = node("chandlery.js", given)
    unwrap = of_client(kms, key_id=key)

    assert ChandleryReader(name="c", unwrap=unwrap, **context).found(stored).value == CANARY
    for other in ({"table": "users"}, {"column": "bankIfscCode"}):
        with pytest.raises(Tampered):
            ChandleryReader(name="c", unwrap=unwrap, **(context | other)).found(stored)
