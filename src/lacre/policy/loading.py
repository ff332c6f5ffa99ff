# SPDX-License-Identifier: Apache-2.0
"""
Read `lacre.toml`, lay the environment over it, and say what is wrong with either. And `lacre.lock`.

Only what differs between two deployments of one service may come from the environment
(`OVERLAY`); classes, rights and signers never, because a policy is a file under review. Does not
open the key store or the keystore.
"""

import datetime as dt
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lacre.errors import ConfigurationError
from lacre.keys.kms_keys import check_kms_key, is_alias
from lacre.policy.consistency import Inconsistent, check_governance
from lacre.policy.lints.lint import lint, refuse
from lacre.policy.model import PolicyFile
from lacre.policy.places import Places

__all__ = [
    "LOCK",
    "OVERLAY",
    "load_pins",
    "load_policy",
    "lock_text",
    "other_environments",
    "parse_policy",
]

Setting = tuple[str | int, ...]

LOCK = "lacre.lock"  # beside lacre.toml

_PREFIX = "LACRE_"

# Variables under the prefix that are not settings: the first names the file itself.
_OTHERS = frozenset({"LACRE_CONFIG"})

OVERLAY: Mapping[str, tuple[str, ...]] = {
    _PREFIX + "__".join(part.upper() for part in path): path
    for path in (
        ("env",),
        ("service",),
        ("default_tenant",),
        ("key_store", "url"),
        ("key_store", "schema"),
        ("local", "directory"),
        ("local", "identity"),
        ("local", "operator"),
        ("openbao", "address"),
        ("openbao", "ca_file"),
        ("openbao", "auth"),
        ("openbao", "role_id"),
        ("openbao", "secret_id_file"),
        ("openbao", "token_file"),
        ("aws", "profile"),
        ("aws", "endpoint_url"),
        ("aws", "fips"),
        ("calls", "deadline"),
        ("calls", "attempt"),
        ("cache", "age"),
        ("cache", "entries"),
        ("audit", "url"),
        ("audit", "schema"),
        ("audit", "path"),
        ("audit", "sequencer"),
        ("audit", "identity"),
        ("audit", "buffer"),
    )
}


def load_policy(
    path: Path, environ: Mapping[str, str], *, moving_from: str | None = None
) -> PolicyFile:
    """
    Return the policy in the file at *path*, with the overlay of *environ*.

    Args:
        moving_from: in the place of `[move]`, without an end.

    Raises:
        ConfigurationError: names the file, the line, the setting and what it should be; or an error
            that a lint found, which stops the file from loading as a whole.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no {path}",
            hint="run `lacre init` here, or name the file: LACRE_CONFIG or --config",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__})") from None
    file = parse_policy(text, environ, name=str(path), moving_from=moving_from)
    found = lint(
        file, today=_today(), others=other_environments(file, text, environ), stopping=True
    )
    refuse(found, str(path))
    return file


def other_environments(
    file: PolicyFile, text: str, environ: Mapping[str, str]
) -> Iterator[PolicyFile]:
    """Yield the policy in *text* as each of its other environments would load it."""
    for name in file.environments:
        if name != file.env:
            yield parse_policy(
                text, {**environ, "LACRE_ENV": name}, name=f"lacre.toml, as env {name}"
            )


def parse_policy(
    text: str,
    environ: Mapping[str, str],
    *,
    name: str = "lacre.toml",
    moving_from: str | None = None,
) -> PolicyFile:
    """Return the policy in *text*; *name* is what errors call it."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, tables without end
        raise ConfigurationError(f"{name} holds something no policy needs") from None
    overlaid: dict[Setting, str] = {}
    for variable, value in environ.items():
        if variable.startswith(_PREFIX) and variable not in _OTHERS:
            overlaid[_overlay(tables, variable, value)] = variable
    if moving_from is not None:
        tables["move"] = {"from": moving_from, "until": dt.date.max}
    try:
        file = PolicyFile.model_validate(tables)
        check_governance(file)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        path, sentence = tuple(first["loc"]), f"{_sentence(first)}{more}"
    except Inconsistent as error:
        path, sentence = error.path, str(error)
    else:
        return file
    where = ".".join(str(part) for part in path) or "the file"
    raise ConfigurationError(
        f"{_at(path, text, name, overlaid)}: {where}: {sentence}",
        hint="docs/reference/lacre-toml.md lists every setting",
    )


def _at(path: Setting, text: str, name: str, overlaid: Mapping[Setting, str]) -> str:
    """Where a setting was said: in a variable, or on a line of the file."""
    if variable := overlaid.get(path):
        return f"the environment variable {variable}"
    line = Places(text).line(path)
    return name if line is None else f"{name}:{line}"


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def load_pins(config: Path) -> dict[str, str]:
    """
    Return what `lacre.lock`, beside the policy at *config*, pins each alias to; nothing without one.

    Raises:
        ConfigurationError: it is not such a file.
    """
    path = config.resolve().parent / LOCK
    try:
        pins = tomllib.loads(path.read_text(encoding="utf-8")).get("kms_keys", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        pins = None
    if not isinstance(pins, dict) or not all(_is_pin(*pin) for pin in pins.items()):
        raise ConfigurationError(
            f"{path} is not what `lacre keys pin` writes", hint="restore it, or pin anew and review"
        )
    return pins


def lock_text(pins: Mapping[str, str]) -> str:
    """Return the text of a `lacre.lock`."""
    lines = [
        "# Which key each alias of lacre.toml stands for. Written by `lacre keys pin`; a change of",
        "# this file changes under whose key data is encrypted, so it is reviewed like lacre.toml.",
        "",
        "[kms_keys]",
        *(f'"{alias}" = "{key}"' for alias, key in sorted(pins.items())),
    ]
    return "\n".join(lines) + "\n"


def _is_pin(alias: str, key: object) -> bool:
    # To a key of the same service and region, that is no label itself.
    try:
        return (
            isinstance(key, str)
            and is_alias(check_kms_key(alias))
            and not is_alias(check_kms_key(key))
            and key.split("/")[:3] == alias.split("/")[:3]
        )
    except ValueError:
        return False


def _overlay(tables: dict[str, Any], variable: str, value: str) -> Setting:
    path = OVERLAY.get(variable)
    if path is None:
        raise ConfigurationError(
            f"the environment variable {variable} is no setting of lacre",
            hint="settings that may come from the environment: " + ", ".join(sorted(OVERLAY)),
        )
    table = tables
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return path  # the file is wrong there, and validation says so
    table[path[-1]] = value
    return path


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return {
        "extra_forbidden": "there is no such setting",
        "missing": "is required",
    }.get(error["type"], message[:1].lower() + message[1:])
