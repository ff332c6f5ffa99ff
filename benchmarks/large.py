# SPDX-License-Identifier: Apache-2.0
"""
The peak memory of one large value, measured in a process of its own. Run by `field.py`.

Prints two multiples of the plaintext's size as JSON: what Python allocated (tracemalloc) and what
the process held (the kernel's high-water mark of its resident set, since the start of *this*
program: `ru_maxrss` would count the parent's as well). Both count the plaintext itself, so a
function that makes exactly one output has 2.
"""

import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from setting import application

from lacre import Lacre
from lacre._core import field
from lacre._core.canonical import FieldPlace
from lacre._core.derive import PreparedKey

NONCE = bytes(12)


def operation(name: str, plaintext: bytes) -> tuple[Callable[[bytes], object], bytes]:
    """Return what is measured, and its input: the plaintext, or a ciphertext of it."""
    raw, key = AESGCM(bytes(32)), PreparedKey(bytes(32))
    place = FieldPlace(column="c", store="main", table="t", tenant="default", type="bytes").at("42")

    def encrypt(value: bytes) -> bytes | bytearray:
        return field.encrypt(key, bytes(16), place, value, salt=os.urandom(24), padded=False)

    if name == "raw encrypt":
        return lambda value: raw.encrypt(NONCE, value, None), plaintext
    if name == "raw decrypt":
        return lambda value: raw.decrypt(NONCE, value, None), raw.encrypt(NONCE, plaintext, None)
    if name == "core encrypt":
        return encrypt, plaintext
    if name == "core decrypt":
        return lambda value: field.decrypt(key, value, place), bytes(encrypt(plaintext))
    raise SystemExit(f"no operation {name!r}")


def of_application(
    name: str, lacre: Lacre, plaintext: bytes
) -> tuple[Callable[[bytes], object], Any]:
    """The same, by way of `lacre.field`."""
    box = lacre.field("pii", table="t", column="c", type=bytes, padded=False)
    if name == "field encrypt":
        return lambda value: box.encrypt(value, row="42"), plaintext
    return lambda value: box.decrypt(value, row="42"), box.encrypt(plaintext, row="42")


def resident() -> int:
    """Return the high-water mark of the resident set, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the kernel gives no VmHWM")


def main(name: str, size: int) -> None:
    with application() if name.startswith("field ") else nullcontext() as lacre:

        def made(plaintext: bytes) -> tuple[Callable[[Any], object], Any]:
            if lacre is None:
                return operation(name, plaintext)
            return of_application(name, lacre, plaintext)

        warm, small = made(os.urandom(100_000))
        warm(small)
        call, given = made(os.urandom(size))
        measure(call, given, size)


def measure(call: Callable[[Any], object], given: Any, size: int) -> None:
    gc.collect()
    # Making the input may have taken more than the operation will: the mark starts anew here.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    held = resident()
    result = call(given)
    grown = resident() - held
    del result
    tracemalloc.start()
    result = call(given)
    allocated = tracemalloc.get_traced_memory()[1]
    del result
    print(json.dumps({"allocated": 1 + allocated / size, "resident": 1 + grown / size}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
