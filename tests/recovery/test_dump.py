"""A dump is one signed text: every other text is refused before a byte of it is believed."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.errors import Tampered
from lacre.fields.column_state import ColumnState, move
from lacre.kms.local import Identity, PublicIdentity, text
from lacre.recovery.dump import Dump, read_dump, write_dump
from lacre.sensitive import KeyMaterial


@pytest.fixture
def identity(home: Path) -> Identity:
    """The operator of `home`."""
    return Identity.load(home / "lacre" / "identities" / "operator.key")


@pytest.fixture
def parts(home: Path, operator: Lacre, identity: Identity) -> dict[str, Any]:
    """What a dump of `home` is made of, a column state among it."""
    move(
        operator.store, identity, keystore=operator.store.keystore_id, store="main", table="t",
        column="c", class_="pii", to=ColumnState.DUAL, changed="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return {
        "contents": operator.store.contents(),  # type: ignore[attr-defined]
        "manifests": {
            path.stem: path.read_bytes() for path in (home / "lacre" / "keystore").glob("*.json")
        },
        "app": "app",
        "env": "test",
        "taken_at": "2026-01-02T03:04:05Z",
        "signer": identity,
        "signers": [identity.public],
    }


@pytest.fixture
def data(parts: dict[str, Any]) -> bytes:
    """The dump."""
    return write_dump(**parts)


def resigned(data: bytes, identity: Identity, change: Callable[[list[bytes]], None]) -> bytes:
    """The dump with its lines changed, signed anew by *identity*."""
    lines = data.split(b"\n")[:-2]
    change(lines)
    body = b"".join(line + b"\n" for line in lines)
    signature = identity.sign(b"lacre/1/key-dump" + hashlib.sha256(body).digest())
    return body + text.to_base64url(signature).encode() + b"\n"


def test_a_dump_comes_back_as_it_was(parts: dict[str, Any], data: bytes) -> None:
    """Every row, manifest and name; the same store makes the same bytes."""
    dump = read_dump(data, signers=parts["signers"])
    contents = parts["contents"]

    assert (dump.app, dump.env, dump.taken_at) == ("app", "test", "2026-01-02T03:04:05Z")
    assert dump.manifests == parts["manifests"]
    assert len(dump.manifests) == 7
    assert set(dump.contents.keys) == set(contents.keys)
    assert (dump.contents.columns, set(dump.contents.seen)) == (
        contents.columns,
        set(contents.seen),
    )
    assert (dump.contents.keystore, dump.contents.remembers) == (contents.keystore, True)
    assert write_dump(**parts | {"contents": dump.contents}) == data


def test_every_byte_is_bound(parts: dict[str, Any], data: bytes) -> None:
    """One bit of any byte flipped, anything cut off or added, is Tampered."""
    for at in (*range(0, len(data), 7), len(data) - 1):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(Tampered):
            read_dump(bytes(altered), signers=parts["signers"])
    lines = data.split(b"\n")
    wrong = [
        b"", b"\n", b"\n\n", data[:-1], data + b"\n", data + b"x", data + data, b"\n" + data,
        *(data[:size] for size in range(0, len(data), 97)),
        b"\n".join([lines[0], lines[2], lines[1], *lines[3:]]),
        b"\n".join([lines[0], *lines[2:]]),
        b"\n".join([lines[0], lines[1], *lines[1:]]),
        data.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + data,
        os.urandom(500),
    ]  # fmt: skip
    for altered in wrong:
        with pytest.raises(Tampered):
            read_dump(altered, signers=parts["signers"])


def test_a_strangers_dump_is_refused(parts: dict[str, Any], data: bytes) -> None:
    """A signer whom lacre.toml does not name, or who signs another's header, proves nothing."""
    stranger = Identity.create("stranger")
    for signers in ([], [stranger.public]):
        with pytest.raises(Tampered):
            read_dump(data, signers=signers)
    both: list[PublicIdentity] = [*parts["signers"], stranger.public]
    with pytest.raises(Tampered):
        read_dump(resigned(data, stranger, lambda lines: None), signers=both)
    with pytest.raises(Tampered):
        write_dump(**parts | {"signer": stranger})


def edit(at: int, **members: Any) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        lines[at] = text.dump(json.loads(lines[at]) | members)

    return change


def swap(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def twice(lines: list[bytes]) -> None:
    lines.insert(1, lines[1])
    edit(0, keys=12)(lines)


def drop(lines: list[bytes]) -> None:
    del lines[1]


def spaced(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b":", b": ")


KEYS, COLUMN, SEEN, MANIFEST = 1, 12, 13, 20
WRONG: dict[str, Callable[[list[bytes]], None]] = {
    "order": swap,
    "a row twice": twice,
    "a row missing": drop,
    "another spelling": spaced,
    "an unknown member": edit(KEYS, more=1),
    "a format of the future": edit(0, format="lacre-key-dump-3"),
    "a format of the past, with what it had not": edit(0, format="lacre-key-dump-1"),
    "another key store": edit(0, keystore="ab" * 16),
    "no id": edit(0, keystore="AB" * 16),
    "a negative count": edit(0, seen=-1),
    "a count that is none": edit(0, seen=True),
    "no truth value": edit(0, remembers=1),
    "an unknown kind": edit(KEYS, kind="master"),
    "an unknown state": edit(KEYS, state="lost"),
    "version 0": edit(KEYS, version=0),
    "a version that is text": edit(KEYS, version="1"),
    "a revision no store takes": edit(KEYS, revision=2**31),
    "an empty tenant": edit(KEYS, tenant=""),
    "an empty subject": edit(KEYS, subject=""),
    "a long tenant": edit(KEYS, tenant="x" * 256),
    "a lone surrogate": edit(KEYS, tenant="\ud800"),
    "a long parent": edit(KEYS, parent="x" * 1025),
    "destroyed with a key": edit(KEYS, state="destroyed"),
    "living without one": edit(KEYS, wrapped=None),
    "no base64url": edit(KEYS, wrapped="_" * 7 + "="),
    "a wrapped key without end": edit(KEYS, wrapped="A" * 90_000),
    "a short MAC": edit(KEYS, mac="AAAA"),
    "a column nobody signed": edit(COLUMN, state="plaintext"),
    "a column's other class": edit(COLUMN, **{"class": "banking"}),
    "a column's stranger": edit(COLUMN, signer="00" * 16),
    "a memory no reader wrote": edit(SEEN, hash="AA"),
    "a manifest behind the memory": edit(SEEN, serial=2),
    "another manifest of that serial": edit(SEEN, hash="00" * 32),
    "a manifest under another name": edit(MANIFEST, name="aaa"),
    "a manifest nobody signed": edit(MANIFEST, file="AAAA"),
    "a manifest that is a path": edit(MANIFEST, name="../x"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_no_store_holds_is_refused_even_signed(
    parts: dict[str, Any], data: bytes, wrong: Callable[[list[bytes]], None]
) -> None:
    """Every row is checked before any is written: order, types, lengths, states, signatures."""
    assert read_dump(resigned(data, parts["signer"], lambda lines: None), signers=parts["signers"])

    with pytest.raises(Tampered):
        read_dump(resigned(data, parts["signer"], wrong), signers=parts["signers"])


@pytest.mark.parametrize("name", ["version", "active"])
def test_rows_that_cannot_be_in_one_store_are_refused(parts: dict[str, Any], name: str) -> None:
    """Two rows of one version, or two active ones of one scope, never become a dump."""
    contents = parts["contents"]
    row = contents.keys[0]
    more = {"version": 2} if name == "active" else {"state": row.state.PENDING, "mac": None}
    other = replace(row, key_id=b"\xff" * 16, **more)  # type: ignore[arg-type]

    with pytest.raises(Tampered):
        write_dump(**parts | {"contents": replace(contents, keys=(*contents.keys, other))})


def test_a_column_state_that_nobody_signed_is_not_dumped(parts: dict[str, Any]) -> None:
    """What could not be restored is found at the time of the dump."""
    contents = parts["contents"]
    forged = replace(contents.columns[0], state=ColumnState.PLAINTEXT)

    with pytest.raises(Tampered):
        write_dump(**parts | {"contents": replace(contents, columns=(forged,))})


def test_no_key_in_the_clear_is_in_a_dump(
    home: Path, operator: Lacre, data: bytes, parts: dict[str, Any]
) -> None:
    """No data key, branch key, index root, root key or private identity key, in any encoding."""
    from lacre.kms.local.manifest import open_version, verify

    identity: Identity = parts["signer"]
    secrets: list[bytes] = []
    provisioner = operator.provisioner
    secrets += [provisioner._unwrap(row).reveal() for row in parts["contents"].keys]
    for name, file in parts["manifests"].items():
        manifest = verify(
            file, key=name, keystore=operator.store.keystore_id, signers=parts["signers"]
        )
        for version in manifest.versions:
            root = open_version(manifest, version, identity)
            assert isinstance(root, KeyMaterial)
            secrets.append(root.reveal())
    for path in (home / "lacre" / "identities").glob("*.key"):
        private = text.from_base64url(json.loads(path.read_bytes())["private"], 64)
        secrets += [private[:32], private[32:]]

    assert len(secrets) == 11 + 7 + 6
    decoded = data + b"".join(
        text.from_base64url(value, len(value) * 3 // 4)
        for line in data.split(b"\n")[:-2]
        for value in json.loads(line).values()
        if isinstance(value, str) and len(value) > 40 and value.isascii() and ":" not in value and "." not in value
    )  # fmt: skip
    assert parts["contents"].keys[0].wrapped in decoded
    for secret in secrets:
        for form in (secret, secret.hex().encode(), text.to_base64url(secret)[:40].encode()):
            assert form not in decoded


def test_nothing_of_a_dump_prints(data: bytes, parts: dict[str, Any]) -> None:
    """Neither its rows nor its manifests are in a repr."""
    dump: Dump = read_dump(data, signers=parts["signers"])

    assert len(repr(dump)) < 400
