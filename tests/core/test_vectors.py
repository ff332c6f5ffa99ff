# SPDX-License-Identifier: Apache-2.0
"""Our own vectors, through the Python code. `interop/` runs the same file through another reader."""

import datetime as dt
import enum
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from lacre._core import field
from lacre._core.blind import index_key, number, token
from lacre._core.canonical import canonical
from lacre._core.derive import WRAP, PreparedKey, expand
from lacre._core.padding import padded_length
from lacre._core.textform import (
    from_json,
    from_json_text,
    from_text,
    to_json,
    to_json_text,
    to_text,
)
from lacre.errors import InvalidValue, MisuseError, Tampered
from lacre.fields.codecs import Codec, codec_for
from lacre.fields.rows import row_text
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, state_mac, subject_digest
from lacre.sensitive import KeyMaterial

ROOT = Path(__file__).parents[2]
FILE = json.loads((ROOT / "vectors" / "field-format-1.json").read_text("ascii"))
TESTS = [(group, test) for group in FILE["testGroups"] for test in group["tests"]]
# What opens values is run a second time with the key set up beforehand.
PREPARED = [
    (group, test | {"prepared": True})
    for group, test in TESTS
    if group["type"] in ("FieldDecrypt", "Wrap")
]

TYPES: dict[str, type] = {
    "str": str,
    "int": int,
    "decimal": Decimal,
    "date": dt.date,
    "datetime": dt.datetime,
    "bytes": bytes,
    "bool": bool,
    "json": dict,
    "uuid": UUID,
}


def codec_of(group: dict[str, Any]) -> Codec:
    if group["codec"] == "enum":
        members: Any = enum.Enum("Members", group["members"])
        return codec_for(members)
    return codec_for(TYPES[group["codec"]])


def same(found: Any, decoded: Any, codec: str) -> bool:
    """Whether the value *found* is the one that the vectors spell *decoded*, type included."""
    read: dict[str, Any] = {
        "int": int,
        "decimal": Decimal,
        "date": dt.date.fromisoformat,
        "datetime": dt.datetime.fromisoformat,
        "bytes": bytes.fromhex,
        "json": json.loads,
        "uuid": UUID,
    }
    if codec == "enum":
        return bool(found.name == decoded)
    wanted = read[codec](decoded) if codec in read else decoded
    # repr tells 1 from 1.0 and True, 0.0 from -0.0, 1.50 from 1.5, and keeps members' order.
    return type(found) is type(wanted) and repr(found) == repr(wanted)


def key_of(test: dict[str, Any]) -> bytes | PreparedKey:
    key = bytes.fromhex(test["key"])
    return PreparedKey(key) if "prepared" in test else key


def run_field(group: dict[str, Any], test: dict[str, Any]) -> bool:
    key, value, context = key_of(test), bytes.fromhex(test["value"]), canonical(test["place"])
    codec = codec_of(group)
    encoding = field.decrypt(key, value, context)
    found = codec.decode(encoding)
    if test["result"] == "invalid":
        return False  # it opened: the refusals below would hide that
    header = field.parse(value)
    again = field.encrypt(
        key, header.key_id, context, codec.encode(found), salt=header.salt, padded=header.padded
    )
    return (
        encoding.hex() == test["encoding"]
        and same(found, test["decoded"], group["codec"])
        and again == value
        and field.key_id_of(value).hex() == test["keyId"]
    )


def run_wrap(_: dict[str, Any], test: dict[str, Any]) -> bool:
    material = field.decrypt(
        key_of(test),
        bytes.fromhex(test["value"]),
        bytes.fromhex(test["context"]),
        label=WRAP,
    )
    return material.hex() == str(test["material"])


def run_text(_: dict[str, Any], test: dict[str, Any]) -> bool:
    value = from_text(test["text"])
    return value.hex() == test["value"] and to_text(value) == test["text"]


def run_json(_: dict[str, Any], test: dict[str, Any]) -> bool:
    value = from_json_text(test["json"])
    form = json.loads(test["json"])
    return (
        value.hex() == test["value"]
        and from_json(form) == value
        and to_json(value) == form
        and json.loads(to_json_text(value)) == form
    )


def run_blind(_: dict[str, Any], test: dict[str, Any]) -> bool:
    place = test["place"] | {"bits": test["bits"], "version": int(test["place"]["version"])}
    key = index_key(bytes.fromhex(test["root"]), **place)
    made = token(key, bytes.fromhex(test["normalised"]), test["bits"])
    return key.hex() == test["indexKey"] and made.hex() == test["token"]


def run_number(_: dict[str, Any], test: dict[str, Any]) -> bool:
    return number(bytes.fromhex(test["token"]), test["bits"]) == test["number"]


def run_canonical(_: dict[str, Any], test: dict[str, Any]) -> bool:
    return canonical(test["pairs"]).hex() == str(test["map"])


def run_row(_: dict[str, Any], test: dict[str, Any]) -> bool:
    row = key_row(test["pairs"])
    return row.immutable().hex() == test["row"] and row.wrap_context() == test["wrapContext"]


def run_mac(_: dict[str, Any], test: dict[str, Any]) -> bool:
    pairs = test["pairs"]
    row = key_row(
        {"key": pairs["key"]},
        state=pairs["state"],
        revision=pairs["revision"],
        changed=pairs["changed"],
    )
    return state_mac(KeyMaterial(bytes.fromhex(test["key"])), row).hex() == str(test["mac"])


def key_row(
    pairs: dict[str, str], *, state: str = "active", revision: str = "1", changed: str = ""
) -> KeyRow:
    scope = Scope(
        kind=KeyKind(pairs.get("kind", "data")),
        app=pairs.get("app", ""),
        env=pairs.get("env", ""),
        service=pairs.get("service", ""),
        tenant=pairs.get("tenant", ""),
        class_=pairs.get("class", ""),
        subject=pairs.get("subject"),
    )
    return KeyRow(
        key_id=bytes.fromhex(pairs["key"]),
        scope=scope,
        version=int(pairs.get("version", "1")),
        parent=pairs.get("parent", ""),
        suite=int(pairs.get("suite", "1")),
        created=pairs.get("created", ""),
        keystore=pairs.get("keystore", ""),
        wrapped=None,
        state=KeyState(state),
        revision=int(revision),
        changed=changed,
        mac=None,
        digest=bytes.fromhex(pairs["digest"]) if "digest" in pairs else None,
    )


def run_digest(_: dict[str, Any], test: dict[str, Any]) -> bool:
    pairs = dict(test["pairs"])
    subject = pairs.pop("subject")
    scope = Scope(kind=KeyKind.SUBJECT, class_="any", **pairs)
    return subject_digest(scope, subject).hex() == str(test["digest"])


def run_expand(_: dict[str, Any], test: dict[str, Any]) -> bool:
    key, label, info = (bytes.fromhex(test[name]) for name in ("key", "label", "info"))
    return expand(key, label, info, test["size"]).hex() == str(test["okm"])


def run_padding(_: dict[str, Any], test: dict[str, Any]) -> bool:
    return padded_length(test["size"]) == test["padded"]


def run_row_text(_: dict[str, Any], test: dict[str, Any]) -> bool:
    read: dict[str, Any] = {
        "uuid": UUID,
        "int": int,
        "str": str,
        "float": float,
        "bool": lambda text: text == "True",
    }
    parts = [read[part["type"]](part["value"]) for part in test["parts"]]
    return row_text(parts[0] if len(parts) == 1 else parts) == test["row"]


RUNNERS = {
    "FieldDecrypt": run_field,
    "Wrap": run_wrap,
    "TextForm": run_text,
    "JsonForm": run_json,
    "BlindIndex": run_blind,
    "IndexNumber": run_number,
    "Canonical": run_canonical,
    "KeyRow": run_row,
    "StateMac": run_mac,
    "SubjectDigest": run_digest,
    "Expand": run_expand,
    "Padding": run_padding,
    "RowText": run_row_text,
}

# What a refusal is: bytes from outside are Tampered, a caller's arguments are MisuseError.
REFUSALS = {
    "FieldDecrypt": Tampered,
    "Wrap": Tampered,
    "TextForm": Tampered,
    "JsonForm": Tampered,
    "RowText": InvalidValue,
}


@pytest.mark.parametrize(
    ("group", "test"),
    TESTS + PREPARED,
    ids=[
        f"{test['tcId']}-{group['type']}-{test['comment']}{'-prepared' * ('prepared' in test)}"
        for group, test in TESTS + PREPARED
    ],
)
def test_vector(group: dict[str, Any], test: dict[str, Any]) -> None:
    """A valid vector gives exactly what it states; an invalid one is refused with one error."""
    run = RUNNERS[group["type"]]

    if test["result"] == "valid":
        assert run(group, test)
    else:
        with pytest.raises(REFUSALS.get(group["type"], MisuseError)):
            run(group, test)


def test_the_file_counts_its_tests() -> None:
    """No vector is lost between the script and this run."""
    numbers = [test["tcId"] for _, test in TESTS]

    assert numbers == list(range(1, FILE["numberOfTests"] + 1))
    assert {flag for _, test in TESTS for flag in test["flags"]} == set(FILE["notes"])
    assert {test["result"] for _, test in TESTS} == {"valid", "invalid"}


def test_the_file_is_what_the_script_writes() -> None:
    """`vectors/make.py --check` passes, so nobody edited the file by hand."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "vectors" / "make.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )

    assert done.returncode == 0, done.stderr


def test_every_codec_has_valid_and_invalid_vectors() -> None:
    """No codec is without a vector for what it accepts; all but `bytes` have one it refuses."""
    seen = {
        (group["codec"], test["result"])
        for group, test in TESTS
        if group["type"] == "FieldDecrypt" and test["flags"] != ["BadPadding"]
    }

    assert {codec for codec, result in seen if result == "valid"} == {*TYPES, "enum"}
    assert {codec for codec, result in seen if result == "invalid"} == {*TYPES, "enum"} - {"bytes"}
