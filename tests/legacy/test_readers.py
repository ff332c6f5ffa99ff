# SPDX-License-Identifier: Apache-2.0
"""Every reader, against values that the original software wrote."""

import base64
import contextlib
import copy
import json
import pickle
import random
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from lacre.errors import ConfigurationError, InvalidValue, MisuseError, Tampered
from lacre.legacy import (
    ChandleryReader,
    DjangoFernetReader,
    FernetReader,
    NexusReader,
    RailsReader,
    SqlalchemyUtilsReader,
)
from lacre.legacy.reader import gcm
from tests.legacy.originals import CONTEXT, MADE, FileKms, chandlery, kept, nexus
from tests.legacy.readers import SOURCES, cases, reader_of, wrong_reader_of


def stored_of(case: dict[str, Any]) -> Any:
    """A case's stored value, as a driver hands it over."""
    return case["stored"].encode() if case.get("bytes") else case["stored"]


def shown(value: object) -> object:
    """A value as the fixtures spell it."""
    return value if isinstance(value, str | bool | int | dict) else str(value)


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_original_wrote_is_read(source: str) -> None:
    """Every kept value comes back, with its type, and looks like what its reader reads."""
    facts, values = cases(source)
    for case in values:
        reader = reader_of(source, facts, case)
        value, _ = reader.found(stored_of(case))

        assert shown(value) == case["value"]
        assert type(value) is reader.python_type
        assert reader.looks_like(stored_of(case))


@pytest.mark.parametrize("source", MADE)
def test_what_the_original_writes_today_is_read(source: str) -> None:
    """The software that is installed here writes what the kept values say it writes."""
    facts = MADE[source]()

    for case in facts["values"]:
        value, _ = reader_of(source, facts, case).found(stored_of(case))
        assert shown(value) == case["value"]


@pytest.mark.parametrize("source", SOURCES)
def test_another_key_opens_nothing(source: str) -> None:
    """With a wrong key every value fails with one error that says nothing, but where the format authenticates nothing."""
    facts, values = cases(source)
    for case in values:
        reader = wrong_reader_of(source, facts, case)
        if case.get("engine") == "aes":
            with pytest.raises((Tampered, InvalidValue)):
                _differs(reader, case)
            continue
        with pytest.raises(Tampered) as caught:
            reader.found(stored_of(case))

        assert str(caught.value) == "the value does not open in this place"
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def _differs(reader: Any, case: dict[str, Any]) -> None:
    # AES-CBC: another key may by chance unpad to text. It is never the value.
    if shown(reader.found(stored_of(case)).value) != case["value"]:
        raise Tampered


def parts(case: dict[str, Any]) -> list[tuple[tuple[str, ...], bytes]]:
    """Where the bytes of a stored value are, each with its path in the JSON; () is all of it."""
    stored = case["stored"]
    if isinstance(stored, str) and not stored.startswith("{"):
        alphabet = stored.replace("-", "+").replace("_", "/")
        return [((), base64.b64decode(alphabet))]
    found = stored if isinstance(stored, dict) else json.loads(stored)
    if "p" in found:
        return [(("p",), base64.b64decode(found["p"])), *(
            (("h", name), base64.b64decode(found["h"][name])) for name in ("iv", "at")
        )]  # fmt: skip
    names = {"encryptedData", "ciphertext", "encryptedKey", "encryptedDataKey", "iv", "authTag"}
    if names & found.keys():
        return [((name,), base64.b64decode(found[name])) for name in names & found.keys()]
    return [(("cpf",), base64.urlsafe_b64decode(found["cpf"]))]


def with_part(case: dict[str, Any], path: tuple[str, ...], data: bytes) -> Any:
    """*case*'s stored value with other bytes at *path*."""
    stored = case["stored"]
    urlsafe = isinstance(stored, str) and (stored.startswith("gAAAA") or path == ("cpf",))
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    if not path:
        return text
    made = copy.deepcopy(stored) if isinstance(stored, dict) else json.loads(stored)
    place = made
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = text
    return made if isinstance(stored, dict) else json.dumps(made)


@pytest.mark.parametrize("source", SOURCES)
def test_a_changed_bit_or_a_cut_opens_nothing(source: str) -> None:
    """Bits of each part are flipped, each part is cut and lengthened: nothing opens but the IV that one service never used."""
    facts, values = cases(source)
    draw = random.Random(5)
    refused = 0
    for case in values:
        if case.get("engine") == "aes":
            continue
        reader = reader_of(source, facts, case)
        for path, data in parts(case):
            changed = [data[:-1], data + b"\0", data[:4]] if data else [b"\0"]
            for _ in range(4 if data else 0):
                at = draw.randrange(len(data) * 8)
                flipped = bytearray(data)
                flipped[at // 8] ^= 1 << at % 8
                changed.append(bytes(flipped))
            for one in changed:
                if path == ("iv",) and case.get("cipher") == "createCipher" and len(one) == 16:
                    continue  # stored and not used: see the reader
                if one == data:
                    continue
                with pytest.raises(Tampered):
                    reader.found(with_part(case, path, one))
                refused += 1

    assert refused > 50


def test_an_unauthenticated_format_refuses_without_an_oracle() -> None:
    """Of AES-CBC each changed last block fails as everything else does, or reads as another value: the page says so."""
    facts, values = cases("sqlalchemy_utils")
    faces = set()
    for case in values:
        if case["engine"] != "aes":
            continue
        data = base64.b64decode(case["stored"])
        for changed in (
            data[:-1],
            data[:8],
            b"",
            data + bytes(16),
            data[:-1] + bytes([data[-1] ^ 1]),
        ):
            try:
                reader_of("sqlalchemy_utils", facts, case).found(base64.b64encode(changed).decode())
            except (Tampered, InvalidValue) as error:
                faces.add((type(error), str(error).partition(" is no ")[0]))

    assert faces <= {
        (Tampered, "the value does not open in this place"),
        (InvalidValue, "what was encrypted"),
    }


HOSTILE: list[Any] = [
    "", "{", "{}", "null", "[]", "[" * 100_000, '{"a":' * 5_000, "\ud800", "gAAAA", "gAAAA" + "A" * 95, b"\xff\xfe", 5, None, True,
    "=" * 64, "QUJD\n", "💥" * 40, '{"p":"","h":{}}', '{"p":5,"h":{"iv":5,"at":5}}', '{"p":"","p":"","h":{"iv":"","at":""}}',
    json.dumps({"ciphertext": [], "encryptedDataKey": {}, "iv": 1, "authTag": None, "algorithm": "AES-256-GCM"}),
    json.dumps({"encryptedData": [], "encryptedKey": {}, "iv": 1, "authTag": None, "algorithm": "aes-256-gcm", "keyId": 1, "context": []}),
    '{"h":{"iv":"AAAAAAAAAAAAAAAA","at":"AAAAAAAAAAAAAAAAAAAAAA==","k":{"p":"","h":{"k":{}}}},"p":""}',
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_hostile_values_are_refused(source: str) -> None:
    """Whatever stands in the column fails as tampered, quickly, and asks no key service for it."""
    facts, values = cases(source)
    for case in values[:: max(1, len(values) // 4)]:
        reader = reader_of(source, facts, case)
        for stored in HOSTILE:
            if source == "chandlery" and stored == "":
                continue
            reader.looks_like(stored)
            with pytest.raises(Tampered):
                reader.found(stored)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary().map(lambda b: base64.b64encode(b).decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["p", "h", "iv", "at", "c", "e", "k", "algorithm", "authTag", "context", "encryptedData", "encryptedKey",
                         "keyId", "ciphertext", "encryptedDataKey", "userId", "timestamp"]), inner, max_size=7),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@given(data=st.data())
@settings(max_examples=60)
def test_whatever_is_stored_ends_in_the_tree_of_errors(source: str, data: st.DataObject) -> None:
    """No stored value, whatever its shape, raises anything but `Tampered` or `InvalidValue`."""
    facts, values = cases(source)
    case = data.draw(st.sampled_from(values))
    reader = reader_of(source, facts, case)
    original = stored_of(case)
    if isinstance(original, dict) or (isinstance(original, str) and original.startswith("{")):
        parsed = dict(original) if isinstance(original, dict) else json.loads(original)
        changed = parsed | data.draw(st.dictionaries(st.sampled_from(sorted(parsed)), ANYTHING, min_size=1, max_size=2))  # fmt: skip
        stored: Any = data.draw(st.sampled_from([changed, json.dumps(changed)]))
    else:
        stored = data.draw(ANYTHING | st.binary())
    with contextlib.suppress(Tampered, InvalidValue):
        reader.looks_like(stored)
        reader.found(stored)


def test_a_tag_is_sixteen_bytes_wherever_it_is_cut() -> None:
    """Ciphertext and tag that are right together are refused where the tag is said to be shorter."""
    sealed = AESGCM(bytes(32)).encrypt(bytes(12), b"Ana", b"")

    assert gcm(bytes(32), bytes(12), sealed[:-16], sealed[-16:]) == b"Ana"
    for length in (4, 8, 15, 17, 19):
        with pytest.raises(Tampered):
            gcm(bytes(32), bytes(12), sealed[:-length], sealed[-length:])


def test_a_value_larger_than_any_is_not_looked_into() -> None:
    """Past the largest value of lacre twice in base64 nothing is decoded."""
    facts = kept("fernet")
    reader = FernetReader(name="f", keys=facts["keys"])
    for stored in ("gAAAA" + "A" * (33 << 20), b"gAAAA" + b"A" * (33 << 20)):
        with pytest.raises(Tampered):
            reader.found(stored)

        assert not reader.looks_like(stored)


@pytest.mark.parametrize("source", SOURCES)
def test_readers_keep_their_keys(source: str) -> None:
    """A reader shows its name alone, and neither pickles nor copies."""
    facts, values = cases(source)
    reader = reader_of(source, facts, values[0])

    assert repr(reader) == f"<{type(reader).__name__} {source}>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(MisuseError):
            leave(reader)


def test_nothing_of_a_value_is_in_an_error() -> None:
    """A value of another type, and one that does not open, are refused without being quoted."""
    canary = "canary-529982"
    facts = kept("fernet")
    from cryptography.fernet import Fernet

    token = Fernet(facts["keys"][0]).encrypt(canary.encode()).decode()
    for value_type in ("int", "bool", "date", "datetime", "decimal", "uuid", "json"):
        reader = FernetReader(name="f", keys=facts["keys"], value_type=value_type)
        with pytest.raises(InvalidValue) as caught:
            reader.found(token)

        assert canary not in repr(caught.value)
        assert caught.value.__context__ is None


def variables(error: BaseException) -> str:
    """What a crash reporter would send: the variables of every frame of lacre's, of every error that hangs together."""
    told, seen = [], []
    while error is not None and error not in seen:
        seen.append(error)
        frame = error.__traceback__
        while frame is not None:
            if (
                "lacre" in frame.tb_frame.f_code.co_filename
                and "tests" not in frame.tb_frame.f_code.co_filename
            ):
                told += [repr(value) for value in frame.tb_frame.f_locals.values()]
            frame = frame.tb_next
        error = error.__context__  # type: ignore[assignment]
    assert told
    return "\n".join(told)


@pytest.mark.parametrize("source", SOURCES)
def test_no_key_and_no_plaintext_is_in_a_frame(source: str) -> None:
    """What does not open, and what is no value of its type, leaves no variable that says more than was stored."""
    facts, values = cases(source)
    data_keys: list[bytes] = []

    def unwrap(wrapped: bytes, context: Any) -> bytes:
        data_keys.append(FileKms(bytes.fromhex(facts["kms_key"])).unwrap(wrapped, context))
        return data_keys[-1]

    case = values[0] if source != "rails" else values[3]
    reader = reader_of(source, facts, case)
    if hasattr(reader, "_unwrap"):
        reader = copy_of(reader, unwrap)
    plain = case["value"] if isinstance(case["value"], str) else "CANARY"
    path, data = next((path, data) for path, data in parts(case) if path[-1:] not in (("iv",), ("encryptedKey",), ("encryptedDataKey",)))  # fmt: skip
    with pytest.raises((Tampered, InvalidValue)) as caught:
        reader.found(with_part(case, path, data[:-1] + bytes([data[-1] ^ 1])))
    said = variables(caught.value)

    assert plain not in said
    for key in [*data_keys, *getattr(reader, "_keys", []), getattr(reader, "_key", b"\0never")]:
        assert repr(key)[2:-1] not in said


def copy_of(reader: Any, unwrap: Any) -> Any:
    """The same reader of the two services, with another way to its data keys."""
    if isinstance(reader, NexusReader):
        return NexusReader(name=reader.name, unwrap=unwrap)
    return ChandleryReader(name=reader.name, unwrap=unwrap, **reader._context)


def test_a_value_of_another_type_is_in_no_frame() -> None:
    """The text that is no number is in no variable of a frame that the error passed."""
    facts = kept("fernet")
    from cryptography.fernet import Fernet

    token = Fernet(facts["keys"][0]).encrypt(b"CANARY-529").decode()
    with pytest.raises(InvalidValue) as caught:
        FernetReader(name="f", keys=facts["keys"], value_type="int").found(token)

    assert "CANARY-529" not in variables(caught.value)


class TestNexus:
    """Of the Nexus service."""

    facts = kept("nexus")
    kms = FileKms(bytes.fromhex(facts["kms_key"]))
    both = NexusReader(name="nexus", unwrap=kms.unwrap)

    def test_both_ways_of_writing_are_read_by_one_reader(self) -> None:
        """Rows of `createCipher` and of `createCipheriv` stand in one column; a narrowed reader takes its own."""
        for case in self.facts["values"]:
            assert self.both.found(case["stored"]).value == case["value"]
            other = {"createCipher": "createCipheriv", "createCipheriv": "createCipher"}
            narrow = NexusReader(name="n", unwrap=self.kms.unwrap, ciphers=[other[case["cipher"]]])  # type: ignore[list-item]
            with pytest.raises(Tampered):
                narrow.found(case["stored"])

    @pytest.mark.parametrize("name", ["userId", "timestamp", "purpose"])
    def test_the_stored_context_is_bound(self, name: str) -> None:
        """Another user, time or purpose than it was written with opens nothing; what was never bound may change."""
        stored = copy.deepcopy(self.facts["values"][0]["stored"])
        stored["context"]["organizationId"] = "another"
        stored["keyId"] = "another"
        opened = self.both.found(stored).value
        stored["context"][name] += "x"

        assert opened == self.facts["values"][0]["value"]
        with pytest.raises(Tampered):
            self.both.found(stored)

    def test_a_short_tag_is_refused(self) -> None:
        """Node takes tags of four bytes; of 2**32 tries one would pass."""
        stored = copy.deepcopy(self.facts["values"][0]["stored"])
        tag = base64.b64decode(stored["authTag"])
        for length in (0, 4, 8, 12, 15, 17):
            stored["authTag"] = base64.b64encode((tag + b"\0")[:length]).decode()
            with pytest.raises(Tampered):
                self.both.found(stored)

    @pytest.mark.parametrize("algorithm", ["aes-256-cbc", "AES-256-GCM", "", None, "id-aes128-GCM"])
    def test_the_algorithm_is_not_the_values_to_choose(self, algorithm: object) -> None:
        """Any other algorithm than the one is refused, before the key service is asked."""
        stored = copy.deepcopy(self.facts["values"][0]["stored"]) | {"algorithm": algorithm}
        before = self.kms.calls

        with pytest.raises(Tampered):
            self.both.found(stored)
        assert self.kms.calls == before

    def test_a_value_whose_time_was_not_stored_is_lost(self) -> None:
        """The service bound the clock's time and kept it nowhere: its own rows of that kind open for nobody, and cost no call."""
        before = self.kms.calls
        with pytest.raises(Tampered):
            self.both.found(self.facts["without_time"])

        assert self.kms.calls == before

    def test_json_text_is_read_like_a_document(self) -> None:
        """A jsonb column reads as text or as a mapping, its members in any order."""
        case = self.facts["values"][2]
        text = json.dumps(dict(reversed(case["stored"].items())))

        assert self.both.found(text).value == case["value"]
        assert self.both.found(text.encode()).value == case["value"]

    def test_ciphers_that_are_none_are_refused(self) -> None:
        """A reader names what it reads."""
        for ciphers in ([], ["createDecipher"]):
            with pytest.raises(ConfigurationError):
                NexusReader(name="n", unwrap=self.kms.unwrap, ciphers=ciphers)  # type: ignore[arg-type]

    def test_one_call_of_the_key_service_reads_a_value(self) -> None:
        """Whichever way it was written."""
        kms = FileKms(self.kms.key)
        stored = nexus(kms, [{"text": "Ana", "context": CONTEXT, "cipher": "createCipheriv"}])[0]
        reader = NexusReader(name="n", unwrap=kms.unwrap)

        assert (reader.found(stored).value, kms.calls, reader.calls) == ("Ana", 1, 1)


class TestChandlery:
    """Of the Ship Chandlery platform."""

    facts = kept("chandlery")
    kms = FileKms(bytes.fromhex(facts["kms_key"]))
    reader = ChandleryReader(name="c", unwrap=kms.unwrap, table="organizations", column="taxId")

    def test_what_its_cache_encrypted_again_is_told(self) -> None:
        """A value saved twice or three times holds ciphertext in ciphertext; it is unwrapped, and the reader says so."""
        told = {
            case["saves"]: self.reader.found(case["stored"]).remark for case in self.facts["values"]
        }

        assert told == {1: "", 2: "encrypted more than once", 3: "encrypted more than once"}

    def test_another_column_opens_nothing(self) -> None:
        """The data key is bound to table and column, on each layer."""
        other = ChandleryReader(
            name="c", unwrap=self.kms.unwrap, table="organizations", column="bankIfscCode"
        )
        for case in self.facts["values"]:
            with pytest.raises(Tampered):
                other.found(case["stored"])

    def test_an_inner_layer_that_does_not_open_is_no_value(self) -> None:
        """What looks like ciphertext inside ciphertext is never handed on as the value."""
        forged = json.loads(self.facts["values"][0]["stored"]) | {"authTag": "A" * 22 + "=="}
        stored = chandlery(self.kms, [{"text": json.dumps(forged), "saves": 1}])[0]

        with pytest.raises(Tampered):
            self.reader.found(stored)

    def test_layers_without_end_are_refused(self) -> None:
        """Nine layers are more than any bug made."""
        eight = chandlery(self.kms, [{"text": "Ana", "saves": 8}, {"text": "Ana", "saves": 9}])

        assert self.reader.found(eight[0]).value == "Ana"
        with pytest.raises(Tampered):
            self.reader.found(eight[1])

    def test_the_empty_text_stands_and_no_other(self) -> None:
        """The platform never encrypted the empty text; other plaintext in the column is refused."""
        assert self.reader.found("").value == ""
        for plain in ("Ana", " ", "{}"):
            with pytest.raises(Tampered):
                self.reader.found(plain)


class TestRails:
    """Of Active Record Encryption."""

    facts = kept("rails")
    salt = facts["keys"]["key_derivation_salt"]

    def test_rails_own_vector_is_read(self) -> None:
        """
        The ciphertext that Rails' suite keeps, "deterministic ciphertexts remain constant", and its keys.

        rails/rails, activerecord/test/cases/encryption/encryptable_record_test.rb at 0715712d (7.1), keys in test/cases/helper.rb.
        """
        stored = '{"p":"DIohhw==","h":{"iv":"wEPaDcJP3VNIxaiz","at":"X7+2xvvcu1k1if6Dy28Esw=="}}'
        reader = RailsReader(
            name="r", keys=["test deterministic key"], salt="testing key derivation salt"
        )

        assert reader.found(stored).value == "Dune"

    def test_a_key_of_its_own_beside_the_value_is_read(self) -> None:
        """Envelope encryption keeps a wrapped key in a header."""
        reader = RailsReader(name="r", keys=[self.facts["keys"]["primary_key"]], salt=self.salt)

        assert reader.looks_like(self.facts["envelope"])
        assert reader.found(self.facts["envelope"]).value == "Ana"

    def test_a_header_cannot_make_gigabytes(self) -> None:
        """A compressed value is inflated up to the largest value and no further; trailing bytes are refused."""
        reader = RailsReader(name="r", keys=["k" * 12], salt="s" * 20, digests=["sha256"])
        (key,) = reader._keys
        for plain in (zlib.compress(bytes(17 << 20)), zlib.compress(b"Ana") + b"x", b"Ana"):
            sealed = AESGCM(key).encrypt(bytes(12), plain, b"")
            stored = {
                "p": base64.b64encode(sealed[:-16]).decode(),
                "h": {"iv": base64.b64encode(bytes(12)).decode(), "at": base64.b64encode(sealed[-16:]).decode(), "c": True},
            }  # fmt: skip
            with pytest.raises(Tampered):
                reader.found(stored)

    def test_an_unknown_encoding_is_refused(self) -> None:
        """The header that names it is not authenticated, so only known ones count."""
        case = next(case for case in self.facts["values"] if case["name"] == "latin-1")
        reader = reader_of("rails", self.facts, case)
        for name in ("rot13", "hex", "zlib", "idna"):
            stored = json.loads(case["stored"])
            stored["h"]["e"] = base64.b64encode(name.encode()).decode()
            with pytest.raises(Tampered):
                reader.found(stored)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FernetReader(name="x", keys=[]),
        lambda: FernetReader(name="x", keys=["hunter2"]),
        lambda: FernetReader(name="x", keys=["A" * 43 + "="], value_type="float"),
        lambda: SqlalchemyUtilsReader(name="x", key="", engine="aes"),
        lambda: SqlalchemyUtilsReader(name="x", key="hunter2", engine="des"),
        lambda: SqlalchemyUtilsReader(name="x", key="hunter2", engine="aes", padding="none"),
        lambda: DjangoFernetReader(name="x", secret_keys=[], salts=["hunter2"]),
        lambda: RailsReader(name="x", keys=["hunter2"], salt=""),
        lambda: RailsReader(name="x", keys=["hunter2"], salt="s", digests=["md5"]),
    ],
)
def test_a_wrong_configuration_says_what_to_do(make: Any) -> None:
    """What is yours to fix is named, and no key is in it."""
    with pytest.raises(ConfigurationError) as caught:
        make()

    assert "hunter2" not in str(caught.value) + caught.value.hint
