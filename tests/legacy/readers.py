# SPDX-License-Identifier: Apache-2.0
"""Each reader with the keys of its fixtures, and the values it is to read."""

import json
from typing import Any

from lacre.legacy import (
    ChandleryReader,
    DjangoFernetReader,
    FernetReader,
    LegacyReader,
    NexusReader,
    RailsReader,
    SqlalchemyUtilsReader,
)
from tests.legacy.originals import MADE, FileKms, kept

__all__ = ["SOURCES", "cases", "reader_of", "wrong_reader_of"]

SOURCES = [*MADE, "rails"]


_MADE: dict[str, LegacyReader] = {}  # deriving a key is slow on purpose


def reader_of(source: str, facts: dict[str, Any], case: dict[str, Any]) -> LegacyReader:
    """The reader of *case*, whose keys *facts* hold."""
    keys = {name: held for name, held in facts.items() if name != "values"}
    way = {name: held for name, held in case.items() if name not in ("value", "stored", "name")}
    known = json.dumps([source, keys, way], sort_keys=True)
    if known not in _MADE:
        _MADE[known] = _reader_of(source, facts, case)
    return _MADE[known]


def _reader_of(source: str, facts: dict[str, Any], case: dict[str, Any]) -> LegacyReader:
    kind = case.get("type", "str")
    match source:
        case "nexus":
            kms = FileKms(bytes.fromhex(facts["kms_key"]))
            return NexusReader(name=source, unwrap=kms.unwrap, ciphers=[case["cipher"]])
        case "chandlery":
            kms = FileKms(bytes.fromhex(facts["kms_key"]))
            return ChandleryReader(
                name=source, unwrap=kms.unwrap, table="organizations", column="taxId"
            )
        case "fernet":
            return FernetReader(name=source, keys=facts["keys"])
        case "sqlalchemy_utils":
            return SqlalchemyUtilsReader(
                name=source,
                key=facts["key"],
                engine=case["engine"],
                padding=case["padding"],
                value_type=kind,
            )
        case "django_fernet":
            return DjangoFernetReader(
                name=source,
                secret_keys=facts["secret_keys"],
                salts=facts["salts"],
                value_type=kind,
            )
        case "rails":
            keys = facts["keys"]
            key = keys["deterministic_key" if case["deterministic"] else "primary_key"]
            return RailsReader(
                name=source,
                keys=[key, facts["former_key"]],
                salt=keys["key_derivation_salt"],
                digests=[case["digest"].lower()],
            )
    raise AssertionError(source)


_WRONG = {
    "kms_key": "00" * 32,
    "keys": ["A" * 43 + "="],
    "key": "another",
    "secret_keys": ["another"],
    "former_key": "another",
}


def wrong_reader_of(source: str, facts: dict[str, Any], case: dict[str, Any]) -> LegacyReader:
    """The same reader with other keys."""
    wrong = {name: _WRONG.get(name, held) for name, held in facts.items()}
    if source == "rails":
        wrong["keys"] = dict.fromkeys(facts["keys"], "another key")
    return reader_of(source, wrong, case)


def cases(source: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts of a source's fixtures, and its values."""
    facts = kept(source)
    return facts, facts["values"]
