"""A field decides, encrypts, decrypts and records; it opens nothing in another place."""

import copy
import datetime as dt
import enum
import json
import logging
import pickle
import traceback
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lacre import BlindIndex, Lacre
from lacre.audit.event import Outcome
from lacre.audit.events import Looked, Searched, Written
from lacre.errors import (
    AccessDenied,
    AlreadyEncrypted,
    ConfigurationError,
    EvidenceUnavailable,
    InvalidValue,
    KeyNotFound,
    LacreError,
    MaskWritten,
    NoPrincipal,
    NoTenant,
    PlaintextFound,
    Tampered,
    UnsupportedQuery,
)
from lacre.fields.field import Field
from lacre.policy.decisions import Policy
from lacre.policy.loading import parse_policy
from lacre.sensitive import Mask
from lacre.testing import CapturedEvents

CANARY = "CANARY-Ana-Souza-529.982.247-25"
EMAIL = BlindIndex("exact")


class Colour(enum.Enum):
    RED = "red"


@pytest.fixture
def sink() -> CapturedEvents:
    """Where the evidence goes."""
    return CapturedEvents()


@pytest.fixture
def app(home: Path, sink: CapturedEvents, lacre: Lacre) -> Iterator[Lacre]:
    """The application in `home`, its evidence captured."""
    with Lacre(
        lacre.policy, store=lacre.store, services=lacre.services, sink=sink, signers=lacre.signers
    ) as application:
        yield application


@pytest.fixture
def box(app: Lacre) -> Field:
    """A text field with an index."""
    return app.field("pii", table="customers", column="email", type=str, index=EMAIL)


@pytest.fixture
def acting(app: Lacre) -> Iterator[None]:
    """Somebody who may read, write and search."""
    with app.acting_as("svc:x", roles={"app"}, purpose="test", across_yield=True):
        yield


def seen(app: Lacre, sink: CapturedEvents, kind: type) -> list[Any]:
    """The events of one kind so far."""
    app.recorder.flush()
    return [event for event in sink.events if isinstance(event, kind)]


@pytest.mark.usefixtures("acting")
class TestValues:
    """What goes in comes out."""

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "a",
            "é",
            "e\u0301",
            "😀\U0010ffff",
            "\x00",
            "x" * 100_000,
            0,
            -(2**63),
            2**100,
            False,
            True,
            b"",
            b"\xc1",
            b"\xc1\x01\x00" + bytes(200),
            Decimal(0),
            Decimal("0.00"),
            Decimal("-1E+10"),
            dt.date(2026, 11, 22),
            dt.datetime(2026, 11, 22, 10, 0, 0, 1),
            uuid.UUID(int=0),
            {},
            {"a": [1, None, ""]},
            [],
            Colour.RED,
        ],
        ids=lambda value: f"{type(value).__name__}-{str(value)[:8]!r}",
    )
    def test_every_value_survives_exactly(self, app: Lacre, value: Any) -> None:
        """Value and type come back, in the binary, text and JSON form; empty is not NULL."""
        field = app.field("pii", table="t", column="c", type=type(value))
        json_form = json.loads(json.dumps(field.encrypt_json(value, row=1)))

        for form in (field.encrypt(value, row=1), field.encrypt_text(value, row=1), json_form):
            found = field.decrypt(form, row=1)
            assert found == value
            assert type(found) is type(value)
            assert repr(found) == repr(value)

    def test_nfc_and_nfd_stay_what_they_are(self, box: Field) -> None:
        """Two spellings of one text are two values: neither is normalised."""
        for form in ("NFC", "NFD"):
            text = unicodedata.normalize(form, "Élodie")  # type: ignore[arg-type]
            assert box.decrypt(box.encrypt(text, row=1), row=1) == text

    def test_null_stays_null(self, box: Field) -> None:
        """None is not encrypted, in no form."""
        assert box.encrypt(None, row=1) is None
        assert box.encrypt_text(None, row=1) is None
        assert box.encrypt_json(None, row=1) is None
        assert box.decrypt(None, row=1) is None
        assert box.encrypt_many([(1, None)]) == [None]
        assert box.decrypt_many([(1, None)]) == [None]

    @pytest.mark.parametrize("python_type", [bytes, str])
    def test_sixteen_mebibytes_and_not_one_byte_more(self, app: Lacre, python_type: type) -> None:
        """The limit itself survives; one byte above is refused before anything is made."""
        field = app.field("pii", table="t", column="c", type=python_type)
        value: Any = bytes(16 * 2**20) if python_type is bytes else "x" * (16 * 2**20)
        sealed = field.encrypt(value, row=1)

        assert field.decrypt(sealed, row=1) == value
        with pytest.raises(InvalidValue, match="16 MiB"):
            field.encrypt(value + value[:1], row=1)

    def test_a_batch_is_its_values(self, box: Field) -> None:
        """Many values with many rows, NULLs among them, in order."""
        items: list[tuple[Any, Any]] = [(n, f"v{n}" if n % 3 else None) for n in range(50)]
        sealed = box.encrypt_many(items)

        assert box.decrypt_many(zip(range(50), sealed, strict=True)) == [
            value for _, value in items
        ]

    def test_one_value_twice_is_two_ciphertexts(self, box: Field) -> None:
        """Nothing but the index token tells equal values."""
        assert len({bytes(box.encrypt("a", row=1) or b"") for _ in range(50)}) == 50


@pytest.mark.usefixtures("acting")
class TestPlaces:
    """A value opens in its own place only."""

    @pytest.mark.parametrize(
        "other",
        [
            {"table": "other"},
            {"column": "other"},
            {"class_": "banking"},
            {"store": "second"},
            {"type": bytes},
            {"type": dict},
        ],
    )
    def test_a_value_moved_to_another_place_does_not_open(
        self, app: Lacre, box: Field, other: dict[str, Any]
    ) -> None:
        """Another table, column, class, store or type: Tampered."""
        where = {"class_": "pii", "table": "customers", "column": "email", "type": str} | other
        policy = app.policy.file.model_copy(update={"stores": {"main": None, "second": None}})
        app.policy.file = policy
        there = app.field(where.pop("class_"), **where)
        sealed = box.encrypt(CANARY, row=1)

        with pytest.raises(Tampered):
            there.decrypt(sealed, row=1)
        assert box.decrypt(sealed, row=1) == CANARY

    @pytest.mark.parametrize("row", ["2", 2, "01", " 1", "1 ", uuid.UUID(int=1), (1,), ("1", "1")])
    def test_a_value_moved_to_another_row_does_not_open(self, box: Field, row: Any) -> None:
        """Another row id, however alike: Tampered."""
        sealed = box.encrypt(CANARY, row=1)

        with pytest.raises(Tampered):
            box.decrypt(sealed, row=row)

    def test_a_value_moved_to_another_tenant_does_not_open(self, app: Lacre, box: Field) -> None:
        """Neither under the other tenant's keys nor by naming the own key there."""
        with app.acting_as("operator", roles={"operator"}, purpose="test"):
            app.create_keys("t2", "pii")
        sealed = box.encrypt(CANARY, row=1)
        with app.acting_as("svc:x", roles={"app"}, purpose="test", tenant="t2"):
            with pytest.raises(Tampered):
                box.decrypt(sealed, row=1)
            theirs = box.encrypt(CANARY, row=1)
        with pytest.raises(Tampered):
            box.decrypt(theirs, row=1)

    def test_every_other_key_of_the_store_forges_nothing(self, app: Lacre) -> None:
        """With any other key in hand (kind x tenant x class x version) no column takes a forgery."""
        import os

        from lacre._core import field as core
        from lacre._core.canonical import canonical
        from lacre.keys.hierarchy import KeyKind

        with app.acting_as("operator", roles={"operator"}, purpose="test"):
            for tenant in ("default", "t2"):
                for class_ in ("pii", "banking", "payment"):
                    app.create_keys(tenant, class_)
                for kind in ("data", "index"):
                    app.provisioner.rotate(app.scope(tenant, "pii", KeyKind(kind)))
            held = [(row, app.provisioner._unwrap(row)) for row in app.store.rows()]  # type: ignore[attr-defined]
        assert len(held) == 24
        opened = []
        for tenant in ("default", "t2"):
            for class_ in ("pii", "banking", "payment"):
                for column in ("email", "cpf"):
                    there = app.field(class_, table="customers", column=column)
                    place = canonical(
                        {"column": column, "row": "1", "store": "main", "table": "customers", "tenant": tenant, "type": "str"}
                    )  # fmt: skip
                    with app.acting_as("svc:x", roles={"app"}, purpose="test", tenant=tenant):
                        for row, key in held:
                            forged = core.encrypt(
                                key.reveal(), row.key_id, place, b"forged", salt=os.urandom(24), padded=True
                            )  # fmt: skip
                            try:
                                assert there.decrypt(forged, row=1) == "forged"
                                opened.append((row.scope, tenant, class_))
                            except Tampered:
                                continue

        # Only the column's own data keys open anything: two versions for pii, one for the others.
        assert all(
            (scope.tenant, scope.class_, scope.kind) == (tenant, class_, "data")
            for scope, tenant, class_ in opened
        )
        assert len(opened) == 2 * 2 * (2 + 1 + 1)

    def test_what_is_altered_does_not_open_in_any_form(self, box: Field) -> None:
        """Text cut, padded or re-encoded; JSON with a member more, less or changed: Tampered."""
        text = box.encrypt_text(CANARY, row=1) or ""
        form = box.encrypt_json(CANARY, row=1) or {}
        forms: list[Any] = [text[:-1], text + "A", text + "=", text + "\n"]
        forms += [{k: v for k, v in form.items() if k != gone} for gone in form]
        forms += [form | {"more": ""}, form | {"context": {"row": "1"}}, form | {"keyId": "0" * 32}]
        forms += [form | {"keyId": form["keyId"].upper() + " "}, form | {"iv": form["iv"] + "="}]

        for altered in forms:
            with pytest.raises(Tampered):
                box.decrypt(altered, row=1)

    @pytest.mark.parametrize("plain", ["ana@example.org", "", b"ana", b"", "{}", {}, 7, 1.5, []])
    def test_plaintext_in_an_encrypted_column_is_said_and_not_returned(
        self, box: Field, plain: Any
    ) -> None:
        """What was never encrypted is neither decrypted nor handed on, whatever its type."""
        with pytest.raises((PlaintextFound, Tampered)) as caught:
            box.decrypt(plain, row=1)
        assert "ana" not in str(caught.value) + caught.value.hint


@pytest.mark.usefixtures("acting")
class TestWriting:
    """What is not a value is not encrypted."""

    def test_an_encrypted_value_is_not_encrypted_again(self, app: Lacre, box: Field) -> None:
        """In the binary, text and JSON form, and however it was carried."""
        blob = app.field("pii", table="t", column="c", type=bytes)
        object_ = app.field("pii", table="t", column="j", type=dict)
        sealed = box.encrypt(CANARY, row=1) or b""
        text, form = box.encrypt_text(CANARY, row=1) or "", box.encrypt_json(CANARY, row=1) or {}
        again: list[tuple[Field, Any]] = [
            (box, sealed),
            (blob, sealed),
            (blob, bytes(sealed)),
            (blob, bytearray(sealed)),
            (blob, memoryview(bytes(sealed))),
            (box, text),
            (box, f"\n {text}\n"),
            (box, json.dumps(form)),
            (box, json.dumps(form, indent=1)),
            (box, "\r\n\t " + json.dumps(form)),
            (object_, form),
            (blob, text.encode()),
            (blob, blob.encrypt(bytes(100_000), row=1)),
        ]

        for field, value in again:
            with pytest.raises(AlreadyEncrypted):
                field.encrypt(value, row=1)
            with pytest.raises(AlreadyEncrypted):
                field.prepare(value, row=1)

    def test_what_only_looks_encrypted_is_a_value(self, app: Lacre) -> None:
        """Bytes that name no key of the key store are somebody's bytes."""
        blob = app.field("pii", table="t", column="c", type=bytes)
        value = b"\xc1\x01\x00" + bytes(200)

        assert blob.decrypt(blob.encrypt(value, row=1), row=1) == value

    def test_a_mask_is_not_written_back(self, app: Lacre, box: Field) -> None:
        """What a denied reader saw never replaces what it hides."""
        sealed = box.encrypt(CANARY, row=1)
        with app.acting_as("svc:y", roles={"support"}, purpose="test"):
            shown = box.decrypt(sealed, row=1)
        for write in (box.encrypt, box.prepare, box.encrypt_text, box.encrypt_json):
            with pytest.raises(MaskWritten):
                write(shown, row=1)  # type: ignore[operator]
        with pytest.raises(InvalidValue):
            box.search_tokens(shown)

    @pytest.mark.parametrize("row", ["", None, True, 1.5, b"1", [], (), ("a", ""), object()])
    def test_a_row_id_that_is_none_is_refused(self, box: Field, row: Any) -> None:
        """No value is bound to an empty, missing or ambiguous row."""
        with pytest.raises(InvalidValue):
            box.encrypt("a", row=row)

    def test_a_value_of_another_type_is_refused(self, box: Field) -> None:
        """Nothing is coerced, and the error does not quote the value."""
        for value in (7, True, CANARY.encode(), [CANARY], {"a": CANARY}, 1.5):
            with pytest.raises(InvalidValue) as caught:
                box.encrypt(value, row=1)
            assert "CANARY" not in str(caught.value)


class TestWhoActs:
    """Every use is somebody's, for a reason, and is decided for them."""

    def test_nobody_acting_is_refused(self, box: Field) -> None:
        """Outside every block nothing happens."""
        for use in (
            lambda: box.encrypt("a", row=1),
            lambda: box.decrypt(b"x", row=1),
            lambda: box.prepare("a", row=1),
            lambda: box.search_tokens("a"),
            lambda: box.recheck([], EMAIL, "a"),
            lambda: box.written([1]),
            lambda: box.prefetch([b"x"]),
        ):
            with pytest.raises(NoPrincipal):
                use()

    def test_without_a_default_a_missing_tenant_is_refused(self, home: Path, lacre: Lacre) -> None:
        """Whose data it is, is never guessed."""
        text = (home / "lacre.toml").read_text().replace('default_tenant = "default"\n', "")
        with Lacre(
            Policy(parse_policy(text, {})),
            store=lacre.store,
            services=lacre.services,
            sink=CapturedEvents(),
        ) as other:
            field = other.field("pii", table="t", column="c", index=EMAIL)
            with other.acting_as("svc:x", roles={"app"}, purpose="test"):
                for use in (
                    lambda: field.encrypt("a", row=1),
                    lambda: field.decrypt(b"", row=1),
                    lambda: field.search_tokens("a"),
                ):
                    with pytest.raises(NoTenant):
                        use()

    def test_an_unknown_tenant_is_named(self, app: Lacre, box: Field) -> None:
        """A tenant nobody provisioned is an error with its name, not a new tenant."""
        with (
            app.acting_as("svc:x", roles={"app"}, purpose="test", tenant="nowhere"),
            pytest.raises(KeyNotFound, match="nowhere"),
        ):
            box.encrypt("a", row=1)

    def test_two_principals_get_two_decisions(
        self, app: Lacre, sink: CapturedEvents, box: Field
    ) -> None:
        """One value, read, masked and denied in one process, each recorded as what it was."""
        with app.acting_as("svc:x", roles={"app"}, purpose="test"):
            sealed = box.encrypt(CANARY, row=1)
            assert box.decrypt(sealed, row=1) == CANARY
            with app.acting_as("svc:y", roles={"support"}, purpose="test"):
                shown = box.decrypt(sealed, row=1)
            with (
                app.acting_as("svc:z", roles={"other"}, purpose="test"),
                pytest.raises(AccessDenied),
            ):
                box.decrypt(sealed, row=1)
            assert box.decrypt(sealed, row=1) == CANARY

        assert isinstance(shown, Mask)
        assert not isinstance(shown, str)
        assert "CANARY" not in f"{shown} {shown!r}"
        assert {
            (event.principal, event.outcome, event.count) for event in seen(app, sink, Looked)
        } == {
            ("svc:x", Outcome.ALLOWED, 2),
            ("svc:y", Outcome.MASKED, 1),
            ("svc:z", Outcome.DENIED, 1),
        }

    def test_a_denied_reader_makes_no_key_be_unwrapped(self, app: Lacre, box: Field) -> None:
        """Not by a look, not by a batch, not by a prefetch."""
        with app.acting_as("svc:x", roles={"app"}, purpose="test"):
            sealed = box.encrypt(CANARY, row=1)
        app.resolver.forget()
        with app.acting_as("svc:z", roles={"other"}, purpose="test"):
            for use in (
                lambda: box.decrypt(sealed, row=1),
                lambda: box.decrypt_many([(1, sealed)]),
                lambda: box.recheck([(1, sealed)], EMAIL, CANARY),
                lambda: box.search_tokens(CANARY),
                lambda: box.encrypt(CANARY, row=1),
            ):
                with pytest.raises(AccessDenied) as caught:
                    use()
                assert "CANARY" not in str(caught.value) + caught.value.hint
            box.prefetch([sealed])

        assert not app.resolver._entries

    def test_rights_are_separate(self, app: Lacre, home: Path) -> None:
        """Who may encrypt does not thereby decrypt or search, and the other way round."""
        text = (home / "lacre.toml").read_text()
        text = text.replace(
            "[classes.pii]",
            '[classes.pii]\nrights.writer = ["encrypt"]\nrights.reader = ["decrypt"]\nrights.finder = ["search"]',
        )
        with Lacre(
            Policy(parse_policy(text, {})),
            store=app.store,
            services=app.services,
            sink=CapturedEvents(),
        ) as other:
            field = other.field("pii", table="t", column="c", index=EMAIL)
            with other.acting_as("svc:x", roles={"app"}, purpose="test"):
                sealed = field.encrypt("a", row=1)
            uses: dict[str, Callable[[], Any]] = {
                "writer": lambda: field.encrypt("a", row=1),
                "reader": lambda: field.decrypt(sealed, row=1),
                "finder": lambda: field.search_tokens("a"),
            }
            for role in uses:
                with other.acting_as("svc:x", roles={role}, purpose="test"):
                    for right, use in uses.items():
                        if right == role:
                            use()
                        else:
                            with pytest.raises(AccessDenied):
                                use()


@pytest.mark.usefixtures("acting")
class TestIndexes:
    """A token finds equal values of one column, and tells nothing across columns."""

    def test_a_class_without_index_key_takes_no_index(self, app: Lacre) -> None:
        """A blind index on a class that forbids it is refused where it is declared."""
        with pytest.raises(ConfigurationError, match="no blind index"):
            app.field("credentials", table="t", column="c", index=EMAIL)

    def test_tokens_differ_across_tenants_columns_tables_and_indexes(self, app: Lacre) -> None:
        """The same value has another token wherever two tokens must not be compared."""
        with app.acting_as("operator", roles={"operator"}, purpose="test"):
            app.create_keys("t2", "pii")
        bits = {"bits": 128}
        fields = [
            app.field("pii", table="t", column="c", index=BlindIndex("exact", **bits)),
            app.field("pii", table="t", column="d", index=BlindIndex("exact", **bits)),
            app.field("pii", table="u", column="c", index=BlindIndex("exact", **bits)),
            app.field("banking", table="t", column="c", index=BlindIndex("exact", **bits)),
            app.field("pii", table="t", column="c", index=BlindIndex("exact", name="two", **bits)),
            app.field("pii", table="t", column="c", index=BlindIndex("name", **bits)),
            app.field("pii", table="t", column="c", index=BlindIndex("exact", bits=136)),
        ]
        tokens = [field.search_tokens("ana")[0][:16] for field in fields]
        with app.acting_as("svc:x", roles={"app"}, purpose="test", tenant="t2"):
            tokens.append(fields[0].search_tokens("ana")[0])

        assert len(set(tokens)) == len(tokens)

    def test_prepare_and_search_agree(self, box: Field) -> None:
        """What is stored with a value is what a search for it asks."""
        assert box.prepare("ana", row=1).tokens == tuple(box.search_tokens("ana"))
        assert box.prepare("ana", row=1).tokens != box.prepare("bob", row=1).tokens

    def test_after_a_rotation_both_tokens_are_asked(self, app: Lacre, box: Field) -> None:
        """Rows written before and after the new index root are both found."""
        before = box.prepare("ana", row=1).tokens[0]
        with app.acting_as("operator", roles={"operator"}, purpose="test"):
            from lacre.keys.hierarchy import KeyKind

            replace(app.provisioner, settle=0.0).rotate(app.scope("default", "pii", KeyKind.INDEX))
        app.resolver.forget()
        after = box.prepare("ana", row=2).tokens[0]

        assert before != after
        assert box.search_tokens("ana") == [after, before]

    def test_an_index_nobody_declared_is_unsupported(self, app: Lacre, box: Field) -> None:
        """A question no token answers is refused."""
        bare = app.field("pii", table="t", column="c")
        for field, name in ((bare, None), (box, "other")):
            with pytest.raises(UnsupportedQuery):
                field.search_tokens("a", index=name)

    def test_a_recheck_tells_hits_from_collisions(self, box: Field) -> None:
        """A truncated index's hit is believed only if the plaintext agrees."""
        items: list[tuple[Any, Any]] = [
            (n, box.encrypt(value, row=n)) for n, value in enumerate(["ana", "bob", None])
        ]
        assert box.recheck(items, EMAIL, "ana") == [True, False, False]

    def test_a_recheck_that_fails_is_recorded(
        self, app: Lacre, sink: CapturedEvents, box: Field
    ) -> None:
        """A moved value met by a search leaves the same trace as one met by a look."""
        sealed = box.encrypt("ana", row=1)
        with pytest.raises(Tampered):
            box.recheck([(2, sealed)], EMAIL, "ana")

        assert [event.outcome for event in seen(app, sink, Looked)] == [Outcome.FAILED]


class TestEvidence:
    """Every use leaves an event, and nothing else leaves anything."""

    @pytest.mark.usefixtures("acting")
    def test_every_use_leaves_an_event(self, app: Lacre, sink: CapturedEvents, box: Field) -> None:
        """Looks, failed looks, writes and searches: who, why, where, which row, what became of it."""
        sealed = box.encrypt(CANARY, row=41)
        box.prepare(CANARY, row=42)
        box.decrypt(sealed, row=41)
        box.decrypt_many([(41, sealed), (41, sealed)])
        with pytest.raises(Tampered):
            box.decrypt(sealed, row=43)
        with pytest.raises(PlaintextFound):
            box.decrypt("plain", row=44)
        box.search_tokens(CANARY)

        looks = {event.outcome: event for event in seen(app, sink, Looked) if event.key}
        assert looks[Outcome.ALLOWED].rows == ("41",) * 3
        assert looks[Outcome.FAILED].rows == ("43",)
        assert [e.rows for e in seen(app, sink, Looked) if not e.key] == [("44",)]
        assert [event.rows for event in seen(app, sink, Written)] == [("41", "42")]
        assert [event.index for event in seen(app, sink, Searched)] == ["exact"]
        for event in sink.events:
            assert (event.principal, event.purpose, event.tenant) == ("svc:x", "test", "default")
            assert event.details()["table"] == "customers"

    @pytest.mark.usefixtures("acting")
    def test_without_evidence_no_value_is_handed_out(
        self, app: Lacre, sink: CapturedEvents, box: Field
    ) -> None:
        """A recorder that is down refuses looks, writes and searches; no plaintext is in a frame."""
        sealed = box.encrypt(CANARY, row=1)
        app.recorder.flush()
        sink.failing = OSError("CANARY of the disk")
        with pytest.raises(EvidenceUnavailable):
            app.recorder.write([box.written([1])])
        for use in (
            lambda: box.decrypt(sealed, row=1),
            lambda: box.encrypt("a", row=1),
            lambda: box.search_tokens("a"),
        ):
            with pytest.raises(EvidenceUnavailable) as caught:
                use()
            trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            inside = [frame for frame in trace.stack if "test_field" not in frame.filename]
            assert inside
            assert "CANARY" not in "".join(str(frame.locals) for frame in inside)
        sink.failing = None

    @pytest.mark.usefixtures("acting")
    def test_no_plaintext_key_or_token_leaks(
        self,
        app: Lacre,
        sink: CapturedEvents,
        box: Field,
        home: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Not into a repr, a log, a message, an event, a file or, for what was decrypted, a frame."""
        caplog.set_level(logging.DEBUG)
        stored = box.prepare(CANARY, row=CANARY)
        sealed = stored.value
        box.decrypt(sealed, row=CANARY)
        box.search_tokens(CANARY)
        box.recheck([(CANARY, sealed)], EMAIL, CANARY)
        found = box.encrypt(CANARY, row=1)
        errors: list[LacreError] = []
        for use in (
            lambda: box.decrypt(sealed, row=2),
            lambda: box.encrypt(CANARY + "\udc80", row=1),
            lambda: box.recheck([(1, found), (2, found)], EMAIL, "other"),
            lambda: box.decrypt(CANARY, row=1),
        ):
            with pytest.raises(LacreError) as caught:
                use()
            errors.append(caught.value)
        shown = [
            repr(box),
            repr(box.scheme),
            repr(app),
            repr(app.resolver),
            repr(vars(app.resolver)),
        ]
        shown += [repr(stored.tokens), repr(box._tenants), caplog.text]
        shown += [str(error) + error.hint + repr(error) for error in errors]
        app.recorder.flush()
        shown += [json.dumps(dict(event.details())) for event in sink.events]
        trace = traceback.TracebackException.from_exception(errors[2], capture_locals=True)
        inside = [frame for frame in trace.stack if "src/lacre" in frame.filename]
        assert inside
        shown += [str(frame.locals) for frame in inside]
        key = app.resolver.to_encrypt(box._tenants["default"].data).material.reveal()

        for text in shown:
            assert CANARY not in text
            assert repr(key)[2:-1] not in text
        for path in home.rglob("*"):
            if path.is_file():
                assert b"CANARY" not in path.read_bytes()

    def test_nothing_that_holds_keys_pickles_or_copies(self, app: Lacre, box: Field) -> None:
        """A field, its application and a key stay in the process."""
        with app.acting_as("svc:x", roles={"app"}, purpose="test"):
            box.prepare("a", row=1)
        key = app.resolver.to_encrypt(box._tenants["default"].data)

        for thing in (box, app, app.resolver, key, key.material, box._tenants["default"]):
            with pytest.raises((LacreError, TypeError, AttributeError)):
                pickle.dumps(thing)
            with pytest.raises((LacreError, TypeError, AttributeError)):
                copy.deepcopy(thing)


class TestDeclaring:
    """A declaration that cannot hold is refused where it is made."""

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"class_": "nothing"}, "no class 'nothing'"),
            ({"store": "elsewhere"}, "no store 'elsewhere'"),
            ({"table": ""}, "table"),
            ({"column": ""}, "column"),
            ({"type": float}, "no codec"),
            ({"mask": "loud"}, "no mask"),
            ({"type": int, "index": BlindIndex("email")}, "takes text"),
            ({"index": [BlindIndex("exact"), BlindIndex("exact")]}, "one name"),
        ],
    )
    def test_a_wrong_declaration_says_what_is_wrong(
        self, app: Lacre, wrong: dict[str, Any], said: str
    ) -> None:
        """Class, store, names, type, mask and indexes are checked when the field is made."""
        declared: dict[str, Any] = {"class_": "pii", "table": "t", "column": "c"} | wrong
        with pytest.raises(ConfigurationError, match=said) as caught:
            app.field(declared.pop("class_"), **declared)
        assert caught.value.hint or said in ("table", "column")

    def test_names_are_bound_apart(self, app: Lacre) -> None:
        """Where one name ends and the next begins cannot be shifted."""
        one = app.field("pii", table="ab", column="c")
        two = app.field("pii", table="a", column="bc")
        with app.acting_as("svc:x", roles={"app"}, purpose="test"):
            sealed = one.encrypt("x", row=1)

            with pytest.raises(Tampered):
                two.decrypt(sealed, row=1)
