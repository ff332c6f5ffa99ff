# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PERF401 - one kind of test, one line
"""
Write `field-format-1.json`, the test vectors of ``spec/field-format.md`` and ``spec/key-rows.md``.

Deterministic: keys and salts come from `fixed`, nothing from a clock or a generator. Values are put
together here from HMAC and AES-GCM directly, not by `lacre._core.field`, so that the invalid ones
can be authentic in everything but the fault they show.

    python vectors/make.py           write the file
    python vectors/make.py --check   fail if the file is not what this script writes
"""

import datetime as dt
import enum
import hashlib
import hmac
import json
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from cases import BAD, NOTES, VALUES, Colour
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lacre._core.blind import index_key, number, token
from lacre._core.canonical import canonical
from lacre._core.padding import pad, padded_length
from lacre.fields.codecs import codec_for

FILE = Path(__file__).with_name("field-format-1.json")
Test = dict[str, Any]


def fixed(name: str, size: int) -> bytes:
    return hashlib.sha512(b"lacre test vectors: " + name.encode()).digest()[:size]


KEY, KEY_ID = fixed("key", 32), fixed("key id", 16)
OTHER_KEY, OTHER_ID = fixed("other key", 32), fixed("other key id", 16)
PLACE = {"column": "email", "row": "42", "store": "main", "table": "customers", "tenant": "default", "type": "str"}
_salts = iter(range(1 << 30))


def expand(key: bytes, label: str, info: bytes, size: int) -> bytes:
    return hmac.digest(key, label.encode().ljust(16, b"\0") + info + b"\x01", "sha512")[:size]


def raw(plaintext: bytes, context: bytes, *, flags: int, label: str = "lacre/1/field", key: bytes = KEY, key_id: bytes = KEY_ID, start: bytes = b"\xc1\x01") -> bytes:
    """Return a value of exactly these parts, whether the format allows them or not."""
    salt = fixed(f"salt {next(_salts)}", 24)
    head = start + bytes([flags]) + key_id + salt
    derived = expand(key, label, head + context, 64)
    return head + derived[32:] + AESGCM(derived[:32]).encrypt(bytes(12), plaintext, None)


def shown(value: Any) -> Any:
    """Return *value* as the vectors write it: text in one spelling, booleans as such."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict | list | float) or value is None:
        return codec_for(dict).encode(value).decode()
    return value if isinstance(value, bool) else str(value)


def test(comment: str, flags: str, *, valid: bool, **members: Any) -> Test:
    shown_members = {name: item.hex() if isinstance(item, bytes) else item for name, item in members.items()}
    return {"comment": comment, "flags": flags.split(), **shown_members, "result": "valid" if valid else "invalid"}


def opening(comment: str, flags: str, value: bytes, *, place: dict[str, str] = PLACE, key: bytes = KEY, encoding: bytes | None = None, decoded: Any = None) -> Test:
    known = {} if encoding is None else {"encoding": encoding, "decoded": decoded}
    return test(comment, flags, valid=encoding is not None, key=key, keyId=KEY_ID, place=place, value=value, **known)


def typed_groups() -> Iterator[Test]:
    for python_type, values in VALUES:
        codec = codec_for(python_type)
        place = PLACE | {"type": codec.name}
        context = canonical(place)
        tests = []
        for comment, value in values:
            encoding = codec.encode(value)
            padded = pad(encoding) if codec.padded else encoding
            made = raw(padded, context, flags=codec.padded)
            tests.append(opening(comment, "Normal" if comment in ("ascii", "one", "name") else "EdgeCase", made, place=place, encoding=encoding, decoded=shown(value)))
        for comment, bad in BAD.get(codec.name, []):
            made = raw(pad(bad) if codec.padded else bad, context, flags=codec.padded)
            tests.append(opening(comment, "BadEncoding", made, place=place))
        group = {"type": "FieldDecrypt", "codec": codec.name}
        yield (group | ({"members": list(Colour.__members__)} if codec.name == "enum" else {}) | {"tests": tests})


def bytes_group() -> Test:
    place = PLACE | {"type": "bytes", "column": "file"}
    context = canonical(place)
    tests = []
    for size in (0, 1, 30, 31, 32, 63, 64, 222, 223, 224, 254, 255, 256, 257, 271, 272, 303, 1023, 1024, 2000, 4095, 4096):
        content = hashlib.shake_128(b"%d" % size).digest(size)
        for flags in (0, 1):
            made = raw(pad(content) if flags else content, context, flags=flags)
            tests.append(opening(f"{size} bytes, {'padded' if flags else 'not padded'}", "Padded", made, place=place, encoding=content, decoded=content.hex()))
    zeros = bytes(32)
    for comment, bad in (
        ("no marker", zeros), ("empty", b""), ("marker and nothing else", b"\x80"), ("a longer step than needed", b"a\x80" + bytes(62)), ("not a step", b"a\x80" + bytes(29)),
        ("byte after the marker", b"a\x80" + bytes(29) + b"\x01"), ("PKCS#7", b"a".ljust(32, b"\x1f")), ("multiple of 32 where Padm\u00e9 is due", (b"a" * 260 + b"\x80").ljust(320, b"\0")), ("shorter than Padm\u00e9", (b"a" * 290 + b"\x80").ljust(295, b"\0")),
    ):  # fmt: skip
        tests.append(opening(comment, "BadPadding", raw(bad, context, flags=1), place=place))
    return {"type": "FieldDecrypt", "codec": "bytes", "tests": tests}


def altered_group() -> Test:
    context, encoding = canonical(PLACE), b"ana@example.org"
    padded = pad(encoding)
    good = raw(padded, context, flags=1)
    tests = [opening("as written", "Normal", good, encoding=encoding, decoded=encoding.decode())]
    for row in ("\u00e9" * 4096, "r" * 65535, "\U0001f600", '["7","a"]'):
        place = PLACE | {"row": row}
        tests.append(opening(f"row id of {len(row.encode())} bytes", "LongContext", raw(padded, canonical(place), flags=1), place=place, encoding=encoding, decoded=encoding.decode()))
    for part, other in (("column", "phone"), ("row", "43"), ("store", "archive"), ("table", "suppliers"), ("tenant", "acme"), ("type", "enum")):
        tests.append(opening(f"written with another {part}", "WrongPlace", raw(padded, canonical(PLACE | {part: other}), flags=1)))
    shifted = PLACE | {"row": "4", "store": "2main"}
    tests.append(opening("the same text divided otherwise among two parts", "WrongPlace", raw(padded, canonical(shifted), flags=1)))
    tests.append(opening("written under another key", "WrongKey", raw(padded, context, flags=1, key=OTHER_KEY)))
    tests.append(opening("key id of another key, written under this one", "ModifiedHeader", good[:3] + OTHER_ID + good[19:]))
    for label in ("lacre/1/wrap", "lacre/1/index", "lacre/1/state", "lacre/1/check", "lacre/1/name", "lacre/1/fielD"):
        tests.append(opening(f"derived with {label}", "LabelConfusion", raw(padded, context, flags=1, label=label)))
    for start in (b"\xc0\x01", b"\xc1\x00", b"\xc1\x02", b"\x01\xc1"):
        tests.append(opening(f"begins {start.hex(' ')}, derived to match", "ModifiedHeader", raw(padded, context, flags=1, start=start)))
    for flags in (2, 3, 0x80, 0x81, 0xFF):
        tests.append(opening(f"flags {flags:#04x}, derived to match", "ModifiedHeader", raw(padded, context, flags=flags)))
    tests.append(opening("padded flag removed", "ModifiedHeader", good[:2] + b"\0" + good[3:]))
    tests.append(opening("suite changed", "ModifiedHeader", good[:1] + b"\x02" + good[2:]))
    for offset, part in ((0, "magic"), (1, "suite"), (2, "flags"), (3, "key id"), (18, "key id"), (19, "salt"), (42, "salt")):
        tests.append(opening(f"bit changed in {part}, byte {offset}", "ModifiedHeader", flipped(good, offset)))
    for offset in (43, 58, 74):
        tests.append(opening(f"bit changed in commitment, byte {offset}", "ModifiedCommitment", flipped(good, offset)))
    for offset in (75, 90, len(good) - 16, len(good) - 1):
        tests.append(opening(f"bit changed in {'tag' if offset > 90 else 'ciphertext'}, byte {offset}", "ModifiedBody", flipped(good, offset)))
    for cut in (1, 4, 12, 16, len(good) - 91, len(good) - 90, len(good) - 43, len(good) - 1, len(good)):
        tests.append(opening(f"{cut} bytes cut from the end", "ModifiedBody", good[: len(good) - cut]))
    tests.append(opening("tag cut to 12 bytes from the left", "ModifiedBody", good[:-16] + good[-12:]))
    tests.append(opening("one zero byte more", "ModifiedBody", good + b"\0"))
    tests.append(opening("twice", "ModifiedBody", good + good))
    return {"type": "FieldDecrypt", "codec": "str", "tests": tests}


def flipped(value: bytes, offset: int, bit: int = 1) -> bytes:
    return value[:offset] + bytes([value[offset] ^ bit]) + value[offset + 1 :]


def text_group() -> Test:
    short = raw(b"\x01", canonical(PLACE | {"type": "bool"}), flags=0)
    long = raw(pad(bytes(range(128, 228))), canonical(PLACE | {"type": "bytes"}), flags=1)
    tests = [test(f"value of {len(value)} bytes", "Normal", valid=True, text=base64(value), value=value) for value in (short, long)]
    text, last = base64(short), base64(short)[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    worse = {
        "padding character": text + "=", "unused bits set": text[:-1] + alphabet[alphabet.index(last) + 1], "newline at the end": text + "\n", "space before": " " + text, "space within": text[:5] + " " + text[5:],
        "character cut": text[:-1], "two characters added": text + "AA", "standard alphabet": b64encode(long).decode().rstrip("="), "letter beyond ASCII": "\u0430" + text[1:], "empty": "", "hex": short.hex(), "90 bytes": base64(short[:90]),
        "not a value": base64(b"{" + short[1:]), "full-width character": text[:-1] + chr(ord(last) + 0xFEE0), "NUL at the end": text + "\0",
    }  # fmt: skip
    return {"type": "TextForm", "tests": tests + [test(comment, "CaseOfText", valid=False, text=bad) for comment, bad in worse.items()]}


def base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def json_form(value: bytes) -> dict[str, Any]:
    suffix = "-PADDED" if value[2] else ""
    return {"encryptedData": base64(value[75:-16]), "encryptedKey": "", "iv": base64(value[19:43]), "authTag": base64(value[43:75] + value[-16:]), "algorithm": "lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT" + suffix, "keyId": value[3:19].hex(), "context": {}}  # fmt: skip


def json_group() -> Test:
    values = [raw(b"", canonical(PLACE | {"type": "bytes"}), flags=0), raw(b"\x01", canonical(PLACE | {"type": "bool"}), flags=0), raw(pad(b"Ana"), canonical(PLACE), flags=1)]
    tests = [test(f"value of {len(value)} bytes", "Normal", valid=True, json=json.dumps(json_form(value), separators=(",", ":")), value=value) for value in values]
    form = json_form(values[1])
    tests.append(test("other order, white space", "Normal", valid=True, json=json.dumps(dict(reversed(form.items())), indent=1), value=values[1]))
    text = json.dumps(form)
    changes: dict[str, dict[str, Any]] = {
        "algorithm of the source": {"algorithm": "aes-256-gcm"}, "algorithm in lower case": {"algorithm": form["algorithm"].lower()}, "padding claimed": {"algorithm": form["algorithm"] + "-padded"}, "algorithm not text": {"algorithm": None},
        "wrapped key": {"encryptedKey": "AAAA"}, "wrapped key null": {"encryptedKey": None}, "context not empty": {"context": {"tenant": "default"}}, "context a list": {"context": []}, "context null": {"context": None},
        "key id in upper case": {"keyId": form["keyId"].upper()}, "key id with hyphens": {"keyId": str(UUID(form["keyId"]))}, "key id short": {"keyId": form["keyId"][:-2]}, "key id with spaces": {"keyId": values[1][3:19].hex(" ")}, "key id a number": {"keyId": 7},
        "salt short": {"iv": base64(values[1][19:42])}, "salt long": {"iv": base64(values[1][19:44])}, "tag short": {"authTag": base64(values[1][43:75] + values[1][-16:-1])}, "tag without commitment": {"authTag": base64(values[1][-16:])},
        "padding character": {"encryptedData": form["encryptedData"] + "=="}, "unused bits set": {"encryptedData": form["encryptedData"][:-1] + "Z"}, "data null": {"encryptedData": None}, "data a list": {"encryptedData": [form["encryptedData"]]}, "additional member": {"v": 1},
    }  # fmt: skip
    worse = {comment: json.dumps(form | change) for comment, change in changes.items()}
    worse |= {f"without {name}": json.dumps({member: item for member, item in form.items() if member != name}) for name in form}
    worse |= {"member twice": text[:-1] + ', "encryptedKey": ""}', "member twice, other spelling": text[:-1] + ', "\\u0069v": ' + json.dumps(form["iv"]) + "}", "a list": f"[{text}]", "text": json.dumps(text), "two objects": text + text, "cut": text[:-1], "empty": "", "NaN": text.replace("{}", "NaN"), "BOM": "\ufeff" + text}  # fmt: skip
    return {"type": "JsonForm", "tests": tests + [test(comment, "CaseOfText", valid=False, json=bad) for comment, bad in worse.items()]}


def wrap_group() -> Test:
    parent, material = fixed("parent", 32), fixed("material", 32)
    r = canonical(row())
    good = raw(material, r, flags=0, label="lacre/1/wrap", key=parent)
    other = canonical(row(version="2"))
    tests = [test("a data key under a branch key", "Normal", valid=True, key=parent, keyId=KEY_ID, context=r, value=good, material=material)]
    for comment, flags, value in (
        ("a row of another version", "WrongPlace", raw(material, other, flags=0, label="lacre/1/wrap", key=parent)), ("another parent", "WrongKey", raw(material, r, flags=0, label="lacre/1/wrap", key=OTHER_KEY)),
        ("a field value", "LabelConfusion", raw(material, r, flags=0, key=parent)), ("bit changed in tag", "ModifiedBody", flipped(good, 122)), ("bit changed in commitment", "ModifiedCommitment", flipped(good, 43)), ("cut", "ModifiedBody", good[:-1]),
    ):  # fmt: skip
        tests.append(test(comment, flags, valid=False, key=parent, keyId=KEY_ID, context=r, value=value))
    return {"type": "Wrap", "tests": tests}


def row(**other: str) -> dict[str, str]:
    """Return the pairs of R of a data key under a branch key, with these changed or added."""
    pairs = {"app": "shop", "class": "pii", "env": "prod", "kind": "data", "service": "api", "tenant": "a\u00e7a\u00ed"}
    return pairs | {"created": "2026-11-22T10:00:00Z", "key": OTHER_ID.hex(), "keystore": "main", "parent": KEY_ID.hex(), "suite": "1", "version": "1"} | other


def wrap_context(pairs: dict[str, str]) -> dict[str, str]:
    digest = hashlib.sha256(b"lacre/1/keyrow".ljust(16, b"\0") + canonical(pairs)).digest()
    policy = {name: pairs[name] for name in ("app", "class", "env", "kind", "service", "tenant")}
    return policy | {"lacre-key": pairs["key"], "lacre-row": base64(digest)}


def key_groups() -> Iterator[Test]:
    rows = {"a data key": row(), "a subject key": row(subject=fixed("subject", 16).hex()), "a branch key": row(parent="local://pii-fields", kind="branch", version="12")}
    yield {"type": "KeyRow", "tests": [test(comment, "Normal", valid=True, pairs=pairs, row=canonical(pairs), wrapContext=wrap_context(pairs)) for comment, pairs in rows.items()]}
    tests = []
    for state in ("active", "decrypt_only"):
        pairs = {"changed": "2026-11-22T10:00:01Z", "key": OTHER_ID.hex(), "revision": "3", "state": state}
        tests.append(test(state, "Normal", valid=True, key=KEY, pairs=pairs, mac=expand(KEY, "lacre/1/state", canonical(pairs), 32)))
    yield {"type": "StateMac", "tests": tests}


def subject_groups() -> Iterator[Test]:
    place = {"app": "shop", "env": "prod", "service": "api", "tenant": "a\u00e7a\u00ed"}
    tests = []
    for subject in ("42", "0" * 32, '["7","a"]', "Jo\u00e3o", "x" * 65535):
        pairs = place | {"subject": subject}
        digest = hashlib.sha256(b"lacre/1/subject".ljust(16, b"\0") + canonical(pairs)).digest()
        tests.append(test(f"{ascii(subject)[:40]}, {len(subject)} characters", "Normal", valid=True, pairs=pairs, digest=digest))
    yield {"type": "SubjectDigest", "tests": tests}
    pairs = row(kind="subject", subject=fixed("pseudonym", 16).hex(), digest=tests[0]["digest"])
    yield {"type": "KeyRow", "tests": [test("a subject key, with the digest of whose it is", "Normal", valid=True, pairs=pairs, row=canonical(pairs), wrapContext=wrap_context(pairs))]}


def small_groups() -> Iterator[Test]:
    place = {"column": "cpf", "index": "cpf", "kind": "exact", "normaliser": "cpf", "part": "", "store": "main", "table": "customers"}
    root, normalised = fixed("index root", 32), b"52998224725"
    tests = []
    for bits, version, text in [(bits, 1, normalised) for bits in (1, 7, 8, 9, 12, 16, 31, 32, 33, 96, 128, 256, 511, 512)] + [(96, 2, normalised), (96, 1, b""), (96, 1, "joão".encode())]:
        key = index_key(root, **place, bits=bits, version=version)
        tests.append(
            test(
                f"{bits} bits, version {version}, {len(text)} bytes",
                "BlindIndex",
                valid=True,
                root=root,
                place=place | {"bits": str(bits), "version": str(version)},
                normalised=text,
                bits=bits,
                indexKey=key,
                token=token(key, text, bits),
            )
        )
    for bits in (0, 513, -1):
        tests.append(test(f"{bits} bits", "BlindIndex", valid=False, root=root, place=place | {"bits": str(bits), "version": "1"}, normalised=normalised, bits=bits))
    yield {"type": "BlindIndex", "tests": tests}

    maps = [{"a": ""}, {"": "x"}, {"b": "2", "a": "1", "aa": "3"}, {"é": "1", "z": "2", "e\u0301": "3", "\U0001f600": "4", "\uffff": "5"}, PLACE, {"k": "v" * 300}]
    tests = [test(", ".join(ascii(key) for key in pairs)[:60], "Normal", valid=True, pairs=pairs, map=canonical(pairs)) for pairs in maps]
    yield {"type": "Canonical", "tests": [*tests, test("no pairs", "EdgeCase", valid=False, pairs={})]}

    labels = [f"lacre/1/{use}" for use in ("field", "wrap", "index", "state", "check", "name")]
    tests = [
        test(f"{label}, {size} bytes", "Normal", valid=True, key=KEY, label=label.encode().ljust(16, b"\0"), info=b"info", size=size, okm=expand(KEY, label, b"info", size))
        for label in labels
        for size in (1, 16, 32, 63, 64)
    ]
    for comment, key, label, size in (
        ("key of 31 bytes", KEY[:31], bytes(16), 32),
        ("key of 33 bytes", KEY + b"\0", bytes(16), 32),
        ("label of 15 bytes", KEY, bytes(15), 32),
        ("label of 17 bytes", KEY, bytes(17), 32),
        ("no output", KEY, bytes(16), 0),
        ("more than a block", KEY, bytes(16), 65),
    ):
        tests.append(test(comment, "EdgeCase", valid=False, key=key, label=label, info=b"info", size=size))
    yield {"type": "Expand", "tests": tests}

    sizes = [*range(34), 63, 64, 254, 255, 256, 270, 271, 272, 287, 511, 512, 1023, 1024, 65534, 65535, 65536, 1000000, 16777215, 16777216]
    yield {"type": "Padding", "tests": [test(f"{size} bytes", "Padded", valid=True, size=size, padded=padded_length(size)) for size in sizes]}

    keys: list[tuple[Any, ...]] = [
        (7,),
        (0,),
        (-1,),
        (-(1 << 63),),
        ((1 << 64) - 1,),
        ("7",),
        ("Ana Célia",),
        ("\U0001f600",),
        (UUID(int=0xABCDEF),),
        (7, "a"),
        ("a", UUID(int=1), -5),
        ('"\\\n\u007f\u2028é',),
        ('"\\\n\u0001\u007f\u2028é', 1),
    ]
    tests = [test(ascii(key)[:60], "Normal", valid=True, parts=[part(each) for each in key], row=row_text(*key)) for key in keys]
    for comment, bad in (("no parts", []), ("empty text", [part("")]), ("empty text in a composite", [part(1), part("")]), ("boolean", [part(True)]), ("float", [part(1.5)])):
        tests.append(test(comment, "EdgeCase", valid=False, parts=bad))
    yield {"type": "RowText", "tests": tests}


def part_groups() -> Iterator[Test]:
    root = fixed("index root", 32)
    place = {"column": "name", "index": "prefix", "kind": "prefix", "normaliser": "name", "part": "3", "store": "main", "table": "customers"}
    contains = place | {"index": "contains", "kind": "contains", "part": ""}
    both = place | {"column": '["name","born"]', "index": "name_and_birth", "kind": "compound", "normaliser": '["name/1","exact/1"]', "part": ""}
    date = (726468).to_bytes(4, "big")
    asked = [
        ("prefix of 3", place, 32, b"mar"),
        ("prefix of 4", place | {"part": "4"}, 32, b"mari"),
        ("trigram", contains, 16, b"sil"),
        ("trigram at a beginning", contains, 16, b" ma"),
        ("trigram beyond ASCII", contains, 16, "山田太".encode()),
        ("compound", both, 96, (3).to_bytes(4, "big") + b"ana" + len(date).to_bytes(4, "big") + date),
    ]
    tests = []
    for comment, where, bits, text in asked:
        key = index_key(root, **where, bits=bits, version=1)
        tests.append(test(comment, "BlindIndex", valid=True, root=root, place=where | {"bits": str(bits), "version": "1"}, normalised=text, bits=bits, indexKey=key, token=token(key, text, bits)))
    yield {"type": "BlindIndex", "tests": tests}
    made = [(b"\0\0\0\0", 32), (b"\x7f\xff\xff\xff", 32), (b"\x80\0\0\0", 32), (b"\xff\xff\xff\xff", 32), (b"\xff\xff", 16), (b"\xff\xf0", 12), (b"\0\x10", 12), (b"\xff\xff\xff\xfe", 31)]
    yield {"type": "IndexNumber", "tests": [test(f"{each.hex()}, {bits} bits", "BlindIndex", valid=True, token=each, bits=bits, number=number(each, bits)) for each, bits in made]}


def row_text(*parts: Any) -> str:
    texts = [each.hex if isinstance(each, UUID) else str(each) for each in parts]
    return texts[0] if len(texts) == 1 else codec_for(list).encode(texts).decode()


def part(value: Any) -> dict[str, str]:
    return {"type": type(value).__name__.lower(), "value": str(value)}


def document() -> str:
    groups = [*typed_groups(), bytes_group(), altered_group(), text_group(), json_group(), wrap_group(), *key_groups(), *small_groups(), *subject_groups(), *part_groups()]
    number = 0
    for group in groups:
        for index, each in enumerate(group["tests"]):
            number += 1
            group["tests"][index] = {"tcId": number, **each}
    used = {flag for group in groups for each in group["tests"] for flag in each["flags"]}
    if used != set(NOTES):
        raise SystemExit(f"flags and notes differ: {used ^ set(NOTES)}")
    whole = {
        "algorithm": "lacre field format 1",
        "schema": "README.md",
        "numberOfTests": number,
        "header": ["Test vectors of spec/field-format.md and spec/key-rows.md."],
        "notes": {flag: {"bugType": kind, "description": what, "effect": effect} for flag, (kind, what, effect) in sorted(NOTES.items())},
        "testGroups": groups,
    }
    # ASCII only: an editor that normalises Unicode would otherwise destroy what NFD vectors test.
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


def main() -> int:
    text = document()
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text("ascii") != text:
            print(f"{FILE.name} is not what make.py writes; a released vector is never edited", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text, "ascii")
    print(f"{FILE.name}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
