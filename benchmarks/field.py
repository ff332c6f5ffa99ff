# SPDX-License-Identifier: Apache-2.0
"""
One value, encrypted and decrypted: the bare construction, lacre's core, `lacre.field`, peers.

    python benchmarks/field.py [--peers PYTHON] [--rounds N]

Prints a table and writes `results/<date>-field.json`. How it is measured, and what it does not
say: `README.md`. Ends with status 1 where a bar is missed.
"""

import argparse
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from measuring import (
    Bar,
    Peer,
    Timings,
    bars_table,
    judged,
    machine,
    rounds,
    say,
    table,
    timed,
    verdict,
    write_results,
)
from setting import application

from lacre import Lacre
from lacre._core import field
from lacre._core.canonical import FieldPlace
from lacre._core.derive import FIELD, PreparedKey

HERE = Path(__file__).parent
VALUES = 10_000  # of 32 bytes in a round
NONCE = bytes(12)
MIB = 1 << 20
LARGE = {"1 MiB": (MIB, 16), "16 MiB": (16 * MIB, 2)}  # size, values in a round

BARS = [
    bar
    for verb in ("encrypt", "decrypt")
    for bar in (
        Bar(what=f"core {verb}", beside=f"bare {verb}", limit=1.4),
        Bar(what=f"field {verb}", beside=f"core {verb}", limit=1.9),
    )
]
PEER_BARS = [
    Bar(what=f"core {verb}", beside=f"{peer} {verb}", limit=limit, at_least=True)
    for verb in ("encrypt", "decrypt")
    for peer, limit in (("sqlalchemy-utils", 2), ("aws cached", 12), ("aws keyring", 150))
]
LARGE_BARS = [
    Bar(what=f"{what} {verb} {name}", beside=f"raw {verb} {name}", limit=1.1)
    for name in LARGE
    for verb in ("encrypt", "decrypt")
    for what in ("core", "field")
]
MEMORY_LIMIT = 2.2  # multiples of the plaintext, itself included


def bare(plaintext: bytes, contexts: list[bytes]) -> dict[str, Callable[[], float]]:
    """What the format costs at least: one urandom, one HMAC-SHA-512, one AES-GCM, written inline."""
    key, head = os.urandom(32), b"\xc1\x01\x00" + os.urandom(16)
    sealed = []
    for context in contexts:
        salt = os.urandom(24)
        derived = hmac.digest(key, FIELD + head + salt + context + b"\x01", "sha512")
        body = AESGCM(derived[:32]).encrypt(NONCE, plaintext, None)
        sealed.append(head + salt + derived[32:] + body)

    def encrypt() -> None:
        for context in contexts:
            salt = os.urandom(24)
            derived = hmac.digest(key, FIELD + head + salt + context + b"\x01", "sha512")
            head + salt + derived[32:] + AESGCM(derived[:32]).encrypt(NONCE, plaintext, None)

    def decrypt() -> None:
        for context, value in zip(contexts, sealed, strict=True):
            derived = hmac.digest(key, FIELD + value[:43] + context + b"\x01", "sha512")
            if not hmac.compare_digest(derived[32:], value[43:75]):
                raise SystemExit("the bare construction does not open its own value")
            AESGCM(derived[:32]).decrypt(NONCE, value[75:], None)

    return {
        "bare encrypt": lambda: timed(encrypt, len(contexts)),
        "bare decrypt": lambda: timed(decrypt, len(contexts)),
    }


def core(plaintext: bytes, rows: list[str], place: FieldPlace) -> dict[str, Callable[[], float]]:
    """The format itself, with a resolved key: a fresh salt and the row's own context each time."""
    key, key_id = PreparedKey(os.urandom(32)), os.urandom(16)

    def encrypted(row: str) -> bytes | bytearray:
        return field.encrypt(
            key, key_id, place.at(row), plaintext, salt=os.urandom(24), padded=False
        )

    sealed = [encrypted(row) for row in rows]

    def encrypt() -> None:
        for row in rows:
            field.encrypt(key, key_id, place.at(row), plaintext, salt=os.urandom(24), padded=False)

    def decrypt() -> None:
        for row, value in zip(rows, sealed, strict=True):
            field.decrypt(key, value, place.at(row))

    return {
        "core encrypt": lambda: timed(encrypt, len(rows)),
        "core decrypt": lambda: timed(decrypt, len(rows)),
    }


def whole(lacre: Lacre, name: str, value: Any, rows: list[str]) -> dict[str, Callable[[], float]]:
    """
    `lacre.field`: decided and recorded each time.

    A round ends when the last of its records is in the file and flushed to disk.
    """
    padded = None if isinstance(value, str) else False
    box = lacre.field("pii", table="customers", column="token", type=type(value), padded=padded)
    sealed = [box.encrypt(value, row=row) for row in rows]
    lacre.recorder.flush()

    def encrypt() -> None:
        for row in rows:
            box.encrypt(value, row=row)
        lacre.recorder.flush()

    def decrypt() -> None:
        for row, stored in zip(rows, sealed, strict=True):
            box.decrypt(stored, row=row)
        lacre.recorder.flush()

    return {
        f"{name} encrypt": lambda: timed(encrypt, len(rows)),
        f"{name} decrypt": lambda: timed(decrypt, len(rows)),
    }


def large(lacre: Lacre, label: str, size: int, count: int) -> dict[str, Callable[[], float]]:
    """One large value without padding, beside AES-GCM alone on the same bytes."""
    plaintext = os.urandom(size)
    cipher, key, key_id = AESGCM(os.urandom(32)), PreparedKey(os.urandom(32)), os.urandom(16)
    place = FieldPlace(column="c", store="main", table="t", tenant="default", type="bytes")
    box = lacre.field("pii", table="t", column="c", type=bytes, padded=False)

    def core_encrypt() -> bytes | bytearray:
        return field.encrypt(
            key, key_id, place.at("42"), plaintext, salt=os.urandom(24), padded=False
        )

    of_raw = cipher.encrypt(NONCE, plaintext, None)
    of_core = core_encrypt()
    of_field = box.encrypt(plaintext, row="42")
    operations: dict[str, Callable[[], object]] = {
        "raw encrypt": lambda: cipher.encrypt(NONCE, plaintext, None),
        "core encrypt": core_encrypt,
        "field encrypt": lambda: box.encrypt(plaintext, row="42"),
        "raw decrypt": lambda: cipher.decrypt(NONCE, of_raw, None),
        "core decrypt": lambda: field.decrypt(key, of_core, place.at("42")),
        "field decrypt": lambda: box.decrypt(of_field, row="42"),
    }

    def repeated(operation: Callable[[], object]) -> Callable[[], float]:
        def run() -> None:
            for _ in range(count):
                operation()

        return lambda: timed(run, count)

    return {f"{name} {label}": repeated(operation) for name, operation in operations.items()}


def memory() -> list[dict[str, Any]]:
    """Peak memory of each large operation, each in a process of its own."""
    found = []
    for label, (size, _) in LARGE.items():
        for what in ("raw", "core", "field"):
            for verb in ("encrypt", "decrypt"):
                command = [sys.executable, HERE / "large.py", f"{what} {verb}", str(size)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                peaks = {k: round(v, 3) for k, v in json.loads(done.stdout).items()}
                met = None if what == "raw" else max(peaks.values()) <= MEMORY_LIMIT
                found.append({"what": f"{what} {verb} {label}", **peaks, "met": met})
    return found


def microseconds(figures: Mapping[str, Timings]) -> str:
    lines = [
        (name, f"{taken.least * 1e6:,.2f}", f"{taken.median * 1e6:,.2f}")
        for name, taken in figures.items()
    ]
    return table(("microseconds a value", "least", "median"), lines)


def memory_table(peaks: list[dict[str, Any]]) -> str:
    lines = [
        (
            peak["what"],
            "" if peak["met"] is None else f"<= {MEMORY_LIMIT}x",
            f"{peak['allocated']:.2f}x",
            f"{peak['resident']:.2f}x",
            verdict(peak["met"]),
        )
        for peak in peaks
    ]
    return table(("peak memory / plaintext", "bar", "allocated", "resident", ""), lines)


def main() -> int:
    arguments = argparse.ArgumentParser(description="one value, encrypted and decrypted")
    arguments.add_argument("--peers", type=Path, help="the Python that has the peers")
    arguments.add_argument("--rounds", type=int, default=25)
    given = arguments.parse_args()

    rows = [str(number) for number in range(100_000, 100_000 + VALUES)]
    place = FieldPlace(
        column="token", store="main", table="customers", tenant="default", type="bytes"
    )
    secret = os.urandom(32)
    bars = [*BARS, *LARGE_BARS]
    peer = Peer(given.peers, HERE / "peers.py") if given.peers else None
    with application() as lacre:
        candidates = (
            bare(secret, [place.at(row) for row in rows])
            | core(secret, rows, place)
            | whole(lacre, "field", secret, rows)
            | whole(lacre, "field, str padded,", "x" * 32, rows)
        )
        if peer is not None:
            bars += PEER_BARS
            asked = peer
            for bar in PEER_BARS:
                candidates[bar.beside] = lambda name=bar.beside: asked.seconds(name)  # type: ignore[misc]
        say(f"{given.rounds} rounds of {len(candidates)} candidates on 32 bytes, in turn")
        figures = rounds(candidates, given.rounds)
        for label, (size, count) in LARGE.items():
            say(f"{given.rounds} rounds on {label}")
            figures |= rounds(large(lacre, label, size, count), given.rounds)
    say("peak memory of large values, each in a process of its own")
    peaks = memory()
    judgements = judged(bars, figures)
    print(microseconds(figures), bars_table(judgements), memory_table(peaks), sep="\n\n")
    facts = machine(("lacre", "cryptography", "pydantic", "sqlalchemy"))
    facts["openssl of cryptography"] = backend.openssl_version_text()
    if peer is not None:
        facts["peers"] = peer.versions
        peer.close()
    path = write_results(
        "field",
        {
            "machine": facts,
            "rounds": given.rounds,
            "seconds": {
                name: {"least": taken.least, "median": taken.median}
                for name, taken in figures.items()
            },
            "bars": judgements,
            "memory": peaks,
        },
    )
    verdicts = [judgement["met"] for judgement in [*judgements, *peaks]]
    missed, barred = verdicts.count(False), len(verdicts) - verdicts.count(None)
    print(f"\n{missed} of {barred} bars missed; written to benchmarks/results/{path.name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
