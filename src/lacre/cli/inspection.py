# SPDX-License-Identifier: Apache-2.0
"""`lacre inspect`: explain a ciphertext without opening it."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from lacre._core.field import Header, parse
from lacre._core.textform import from_json_text, from_text
from lacre.cli.operator import key_store
from lacre.cli.terminal import data, out, say, table
from lacre.errors import ConfigurationError, KeyNotFound, Tampered

__all__ = ["inspect"]

_LONGEST = 64 * 1024 * 1024  # above any value, in any of its forms


def inspect(
    value: str = typer.Argument(
        "-", help="the value: hex, text or JSON form; - reads stdin; @FILE reads a file"
    ),
    config: Path = typer.Option(
        "lacre.toml",
        "--config",
        "-c",
        envvar="LACRE_CONFIG",
        help="the policy file, to look the key up",
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Explain any value lacre wrote: format, suite, key, sizes. Opens nothing and needs no rights."""
    raw, form = _read(value)
    header = parse(raw)
    facts: dict[str, Any] = {
        "format": "lacre field format 1",
        "form": form,
        "bytes": len(raw),
        "suite": "0x01 AES-256-GCM, HKDF-Expand-SHA-512, 32-byte commitment",
        "padded": header.padded,
        "key id": header.key_id.hex(),
        "salt": header.salt.hex(),
        "commitment": header.commitment.hex(),
        "plaintext": _length(header),
        "key": _key(header.key_id, config),
    }
    if as_json:
        data(facts)
        return
    out.print(
        table(
            ("", ""),
            [
                [name, ("yes" if shown else "no") if isinstance(shown, bool) else str(shown)]
                for name, shown in facts.items()
            ],
        )
    )
    say(
        "a value is bound to its store, table, column, row, tenant and type; none of them is written in it"
    )


def _length(header: Header) -> str:
    size = len(header.body) - 16
    return f"at most {size - 1} bytes (padded to {size})" if header.padded else f"{size} bytes"


def _key(key_id: bytes, config: Path) -> str:
    try:
        store, _ = key_store(config)
        row = store.row(key_id)
    except KeyNotFound:
        return "not in this key store"
    except ConfigurationError:
        return "no key store at hand (name one with --config)"
    return f"{row.scope}, version {row.version}, {row.state}"


def _read(value: str) -> tuple[bytes, str]:
    if value == "-":
        content = sys.stdin.buffer.read(_LONGEST)
    elif value.startswith("@"):
        try:
            with Path(value[1:]).open("rb") as file:
                content = file.read(_LONGEST)
        except OSError:
            raise ConfigurationError(f"{value[1:]} cannot be read") from None
    else:
        content = value.encode()
    try:
        parse(content)
    except Tampered:
        return _from_text(content)
    return content, "binary"


def _from_text(content: bytes) -> tuple[bytes, str]:
    text = content.decode("utf-8", "replace").strip()
    for form, read in (("hex", _from_hex), ("text", from_text), ("JSON", from_json_text)):
        try:
            raw = bytes(read(text))
            parse(raw)
        except (Tampered, ValueError, json.JSONDecodeError):
            continue
        return raw, form
    raise ConfigurationError(
        "this is not a value lacre wrote",
        hint="a value is hex (c101...), text (wQE...), JSON or binary, of 91 bytes or more",
    )


def _from_hex(text: str) -> bytes:
    # As databases print it: with or without x'...' or \x.
    return bytes.fromhex(
        text.removeprefix("x'").removeprefix("X'").removesuffix("'").removeprefix("\\x")
    )
