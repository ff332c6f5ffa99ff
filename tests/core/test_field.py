# SPDX-License-Identifier: Apache-2.0
"""Field format 1: that it opens what was written, where it was written, and nothing else."""

import json
import traceback
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from lacre._core import field
from lacre._core.canonical import canonical
from lacre._core.derive import FIELD, expand
from lacre._core.padding import pad
from lacre._core.textform import from_json_text, from_text, to_json_text, to_text
from lacre.errors import InvalidValue, LacreError, MisuseError, Tampered
from lacre.fields.codecs import codec_for
from tests.core.collision import collide

KEY = b"canary-key-canary-key-canary-key"
OTHER_KEY = bytes(range(32))
KEY_ID, OTHER_ID = bytes(range(16)), bytes(range(1, 17))
SALT, OTHER_SALT = bytes(range(24)), bytes(range(1, 25))
PLACE = {
    "column": "email",
    "row": "42",
    "store": "main",
    "table": "customers",
    "tenant": "default",
    "type": "str",
}
CONTEXT = canonical(PLACE)
CANARY = b"canary plaintext"

# 91, 92 and 123 bytes: lengths that leave base64 no, four and two unused bits.
VALUES = {
    "empty": bytes(field.encrypt(KEY, KEY_ID, CONTEXT, b"", salt=SALT, padded=False)),
    "bool": bytes(field.encrypt(KEY, KEY_ID, CONTEXT, b"\x01", salt=SALT, padded=False)),
    "padded": bytes(field.encrypt(KEY, KEY_ID, CONTEXT, CANARY, salt=SALT, padded=True)),
}
each_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


def open_binary(value: bytes) -> bytes:
    return field.decrypt(KEY, value, CONTEXT)


def open_text(text: bytes) -> bytes:
    return field.decrypt(KEY, from_text(text.decode("latin-1")), CONTEXT)


def open_json(text: bytes) -> bytes:
    return field.decrypt(KEY, from_json_text(text.decode("latin-1")), CONTEXT)


# How a value is spelt, as bytes to alter, and how each spelling is opened.
ENCODINGS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "binary": (bytes, open_binary),
    "text": (lambda value: to_text(value).encode(), open_text),
    "json": (lambda value: to_json_text(value).encode(), open_json),
}
each_encoding = pytest.mark.parametrize(("spell", "opened"), ENCODINGS.values(), ids=ENCODINGS)


def raw(plaintext: bytes, *, flags: int, context: bytes = CONTEXT) -> bytes:
    """Return an authentic value of any plaintext, padded or not as the flags claim."""
    head = b"\xc1\x01" + bytes([flags]) + KEY_ID + SALT
    derived = expand(KEY, FIELD, head + context, 64)
    return head + derived[32:] + AESGCM(derived[:32]).encrypt(bytes(12), plaintext, None)


def refusal(opened: Callable[[bytes], bytes], altered: bytes) -> LacreError | None:
    """Return what refused *altered*, or None if it opened. Any other exception passes through."""
    try:
        opened(altered)
    except LacreError as error:
        return error
    return None


def refused(opened: Callable[[bytes], bytes], altered: Iterator[bytes]) -> int:
    """Assert that each is Tampered, shows nothing, and leads to nothing; return how many."""
    count = 0
    for count, each in enumerate(altered, 1):  # noqa: B007
        error = refusal(opened, each)
        assert type(error) is Tampered, each
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.__dict__)
        assert "canary" not in shown
    return count


# Faithful reading.


@given(
    plaintext=st.binary(max_size=700),
    padded=st.booleans(),
    salt=st.binary(min_size=24, max_size=24),
)
def test_opens_what_was_written(plaintext: bytes, padded: bool, salt: bytes) -> None:
    """Whatever bytes go in come out, in any kind of buffer."""
    value = field.encrypt(KEY, KEY_ID, CONTEXT, plaintext, salt=salt, padded=padded)

    for buffer in (bytes(value), bytearray(value), memoryview(value)):
        assert field.decrypt(KEY, buffer, CONTEXT) == plaintext


@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("padded", [False, True])
def test_large_values_are_written_in_place_alike(size: int, padded: bool) -> None:
    """The path that writes into the result gives the bytes that the specification gives."""
    plaintext = bytes(size)
    value = field.encrypt(KEY, KEY_ID, CONTEXT, plaintext, salt=SALT, padded=padded)

    assert value == raw(pad(plaintext) if padded else plaintext, flags=padded)
    assert field.decrypt(KEY, value, CONTEXT) == plaintext


@pytest.mark.parametrize("padded", [False, True])
def test_16_mib_is_the_most(padded: bool) -> None:
    """Exactly 16 MiB goes in and out; a byte more is the caller's mistake, without the value."""
    most = bytes(field.MAX_ENCODED)
    value = field.encrypt(KEY, KEY_ID, CONTEXT, most, salt=SALT, padded=padded)

    assert field.decrypt(KEY, value, CONTEXT) == most
    with pytest.raises(InvalidValue):
        field.encrypt(KEY, KEY_ID, CONTEXT, most + b"\0", salt=SALT, padded=padded)


def test_more_than_16_mib_is_refused_though_authentic() -> None:
    """What encrypt never makes, decrypt never gives: not even within the last step of padding."""
    more = bytes(field.MAX_ENCODED + 1)

    for value in (
        raw(more, flags=0),
        raw(pad(more), flags=1),
        raw(pad(more), flags=0) + bytes(1 << 20),
    ):
        with pytest.raises(Tampered):
            field.decrypt(KEY, value, CONTEXT)


@pytest.mark.parametrize(
    ("key_id", "context", "salt"), [(b"short", CONTEXT, SALT), (KEY_ID, b"", SALT), (KEY_ID, CONTEXT, SALT[:-1]), (KEY_ID, CONTEXT, SALT + b"\0"), (KEY_ID, CONTEXT, b"")]
)  # fmt: skip
def test_a_value_is_not_made_without_all_its_parts(
    key_id: bytes, context: bytes, salt: bytes
) -> None:
    """A short salt, key id or no place at all is a bug of the caller, found at once."""

    with pytest.raises(MisuseError):
        field.encrypt(KEY, key_id, context, b"x", salt=salt, padded=False)


# Exhaustive tampering.


@each_value
@each_encoding
def test_every_bit_flip_is_refused(
    value: bytes, spell: Callable[[bytes], bytes], opened: Callable[[bytes], bytes]
) -> None:
    """No single bit of any encoding can change without the value being refused."""
    spelt = spell(value)
    flips = (
        spelt[:at] + bytes([spelt[at] ^ 1 << bit]) + spelt[at + 1 :]
        for at in range(len(spelt))
        for bit in range(8)
    )

    opened(spelt)
    assert refused(opened, flips) == 8 * len(spelt)


@each_value
@each_encoding
def test_every_truncation_is_refused(
    value: bytes, spell: Callable[[bytes], bytes], opened: Callable[[bytes], bytes]
) -> None:
    """No end, no beginning and no single byte can be taken away."""
    spelt = spell(value)
    size = range(len(spelt))

    assert refused(opened, (spelt[:at] for at in size)) == len(spelt)
    assert refused(opened, (spelt[at + 1 :] for at in size)) == len(spelt)
    assert refused(opened, (spelt[:at] + spelt[at + 1 :] for at in size)) == len(spelt)


@each_value
@each_encoding
def test_every_extension_is_refused(
    value: bytes, spell: Callable[[bytes], bytes], opened: Callable[[bytes], bytes]
) -> None:
    """No byte can be added at either end; around JSON, white space is JSON's own and changes nothing."""
    spelt = spell(value)
    more = [bytes([byte]) for byte in range(256)]
    space = [b" ", b"\t", b"\n", b"\r"] if opened is open_json else []

    assert refused(opened, (spelt + byte for byte in more if byte not in space)) == 256 - len(space)
    assert refused(opened, (byte + spelt for byte in more if byte not in space)) == 256 - len(space)
    assert {opened(spelt + byte) for byte in space} <= {opened(spelt)}
    assert refused(opened, iter([spelt + spelt, spelt + bytes(16), spelt + bytes(1000)])) == 3


def test_fields_of_two_values_do_not_mix() -> None:
    """Each field taken from another valid value of the same place is refused, and so is each pair."""
    bounds = [(2, 3), (3, 19), (19, 43), (43, 75), (75, -16), (-16, None)]
    one = field.encrypt(KEY, KEY_ID, CONTEXT, b"x" * 32, salt=SALT, padded=False)
    other = field.encrypt(KEY, OTHER_ID, CONTEXT, b"y", salt=OTHER_SALT, padded=True)
    assert len(one) == len(other)
    mixtures = []
    for chosen in range(1, 2 ** len(bounds) - 1):
        mixed = bytearray(one)
        for bit, (start, end) in enumerate(bounds):
            if chosen >> bit & 1:
                mixed[start:end] = other[start:end]
        mixtures.append(bytes(mixed))

    assert refused(open_binary, iter(mixtures)) == 2**6 - 2


@pytest.mark.parametrize("part", PLACE)
def test_a_moved_value_is_refused(part: str) -> None:
    """A value opens in no other column, row, store, table, tenant or type."""
    value = VALUES["padded"]

    with pytest.raises(Tampered):
        field.decrypt(KEY, value, canonical(PLACE | {part: "another"}))
    with pytest.raises(Tampered):
        field.decrypt(KEY, value, b"")


def test_another_key_is_refused() -> None:
    """A value opens under its own key only."""

    with pytest.raises(Tampered):
        field.decrypt(OTHER_KEY, VALUES["padded"], CONTEXT)


def test_a_ciphertext_that_opens_under_two_keys_is_refused() -> None:
    """AES-GCM alone accepts one ciphertext under two keys; the commitment names one of them."""
    head = b"\xc1\x01\x00" + KEY_ID + SALT
    mine, theirs = (expand(key, FIELD, head + CONTEXT, 64) for key in (KEY, OTHER_KEY))
    sealed = collide(mine[:32], theirs[:32], b"transfer to ana.")
    value = head + mine[32:] + sealed
    plaintexts = {
        AESGCM(derived[:32]).decrypt(bytes(12), sealed, None) for derived in (mine, theirs)
    }

    assert len(plaintexts) == 2
    assert field.decrypt(KEY, value, CONTEXT) in plaintexts
    with pytest.raises(Tampered):
        field.decrypt(OTHER_KEY, value, CONTEXT)


def test_a_right_ciphertext_with_a_wrong_commitment_is_refused() -> None:
    """The commitment is compared, all 32 bytes of it."""
    value = VALUES["padded"]

    for at in range(43, 75):
        with pytest.raises(Tampered):
            open_binary(value[:at] + bytes([value[at] ^ 0x80]) + value[at + 1 :])


# What an error leaves behind.


def frames(error: BaseException) -> str:
    """The formatted traceback with locals, without the frame of the test, which holds everything."""
    assert error.__traceback__ is not None
    inner = error.__traceback__.tb_next
    assert inner is not None
    whole = traceback.TracebackException(
        type(error), error, inner, capture_locals=True, compact=False
    )
    return "".join(whole.format())


def bad_tag() -> bytes:
    return VALUES["padded"][:-1] + bytes([VALUES["padded"][-1] ^ 1])


FAILURES = {
    "too short": b"\xc1",
    "wrong magic": b"{" + VALUES["padded"][1:],
    "wrong commitment": VALUES["padded"][:43] + bytes(32) + VALUES["padded"][75:],
    "wrong tag": bad_tag(),
    "wrong padding": raw(CANARY, flags=1),
}


@pytest.mark.parametrize("value", FAILURES.values(), ids=FAILURES)
def test_a_failed_decryption_leaves_no_secret_in_its_frames(value: bytes) -> None:
    """
    No frame of ours in the traceback holds the key, the derived key or the plaintext, and no
    other exception is chained: error reporters send all of these. The caller's frames are its own.
    """
    derived = expand(KEY, FIELD, value[:43] + CONTEXT, 64)

    with pytest.raises(Tampered) as caught:
        field.decrypt(KEY, value, CONTEXT)

    text = frames(caught.value)
    assert "in decrypt" in text
    assert "context = " in text
    assert "canary" not in text
    assert repr(derived[:32])[2:-1] not in text
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("python_type", "encoding"), [(int, b"canary"), (str, b"canary\xff"), (dict, b'{"canary":1,"canary":1}'), (bool, b"canary"), (list, b"[canary")])  # fmt: skip
def test_a_failed_decoding_leaves_no_plaintext_in_its_frames(
    python_type: type, encoding: bytes
) -> None:
    """An authentic plaintext that its codec refuses is in no frame of ours and in no chained error."""
    codec = codec_for(python_type)

    with pytest.raises(Tampered) as caught:
        codec.decode(field.decrypt(KEY, raw(encoding, flags=0), CONTEXT))

    assert "canary" not in frames(caught.value)
    assert caught.value.__context__ is None


def test_a_failed_encryption_leaves_no_key_in_its_frames() -> None:
    """The key is gone when encrypt raises. The value is still in the caller's frames, and not ours to hide."""
    big = b"canary" * (field.MAX_ENCODED // 6 + 1)

    with pytest.raises(InvalidValue) as caught:
        field.encrypt(KEY, KEY_ID, CONTEXT, big, salt=SALT, padded=True)
    assert "canary" not in frames(caught.value)

    with pytest.raises(MisuseError) as misused:
        field.encrypt(KEY, KEY_ID, CONTEXT, CANARY, salt=b"", padded=True)
    assert "canary" not in frames(misused.value)

    with pytest.raises(MisuseError) as derived:
        expand(KEY + b"x", FIELD, b"", 32)
    assert "canary" not in frames(derived.value)


# Headers.


def test_a_header_is_read_without_a_key() -> None:
    """The header gives its parts, and the key id alone."""
    value = VALUES["padded"]
    header = field.parse(value)

    assert (header.suite, header.padded, header.key_id, header.salt) == (1, True, KEY_ID, SALT)
    assert header.commitment + header.body == value[43:]
    assert field.key_id_of(memoryview(value)) == KEY_ID
    assert field.looks_encrypted(value)


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\xc1\x01\x00" + bytes(87), b"\xc0\x01\x00" + bytes(88), b"\xc1\x02\x00" + bytes(88), b"\xc1\x01\x02" + bytes(88), b"ana@example.org" * 10, b"\xc1\x01\x00" + bytes(17_301_593)])  # fmt: skip
def test_what_is_not_a_value_has_no_header(value: bytes) -> None:
    """Another magic, suite, flag or length is not field format 1."""

    assert not field.looks_encrypted(value)
    for read in (field.parse, field.key_id_of):
        with pytest.raises(Tampered):
            read(value)


def test_json_form_names_no_place() -> None:
    """What everyone can read in the JSON form is the key id; tenant, row and column are not in it."""
    form = json.loads(to_json_text(VALUES["padded"]))

    assert form["keyId"] == KEY_ID.hex()
    assert form["context"] == {}
    assert not any(text in json.dumps(form) for text in ("customers", "email", "default"))
