# SPDX-License-Identifier: Apache-2.0
"""
Values as their original software writes them: Node's crypto under the two services' own code, and the Python packages.

``python -m tests.legacy.originals`` writes them to ``fixtures/``, where they stay as they are: what a release read, the next reads.
``fixtures/rails.json`` is written by Active Record itself, see ``generators/rails.rb``.
"""

import base64
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lacre.errors import Tampered

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
TEXTS = [
    "529.982.247-25",
    "Ana Souza",
    "Zoë 🦊 são 日本",
    "x" * 5000,
    '{"a": [1, "b"]}',
    "a\tb\n\x7f\u2028",
]
CONTEXT = {
    "userId": "7d0f3c0e-9d0b-4f5e-8d3a-2f1c6f9b1a11",
    "organizationId": "org-1",
    "purpose": "data_storage",
    "timestamp": "2025-03-04T05:06:07.089Z",
}


def node(script: str, given: object) -> Any:
    """Run a generator under Node."""
    program = shutil.which("node")
    if program is None:
        raise AssertionError("there is no node, 20 or older: apt-get install nodejs")
    ran = subprocess.run(
        [program, "--no-warnings", HERE / "generators" / script],
        input=json.dumps(given).encode(),
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return json.loads(ran.stdout)


class FileKms:
    """A key service in a file: AES-256-GCM over 32 bytes, the context as associated data."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.calls = 0

    def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        iv = os.urandom(12)
        return iv + AESGCM(self.key).encrypt(iv, data_key, self._associated(context))

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        self.calls += 1
        try:
            return AESGCM(self.key).decrypt(wrapped[:12], wrapped[12:], self._associated(context))
        except (InvalidTag, ValueError):
            raise Tampered from None

    @staticmethod
    def _associated(context: Mapping[str, str]) -> bytes:
        return json.dumps(sorted(map(list, context.items())), separators=(",", ":")).encode()


def nexus(kms: FileKms, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the Nexus service stores for *values*: text, context and cipher."""
    made = [os.urandom(32) for _ in values]
    keys = [{"plaintext": _base64(key), "ciphertext": _base64(kms.wrap(key, {}))} for key in made]
    return list(node("nexus.js", {"dataKeys": keys, "keyId": "alias/nexus", "values": values}))


def chandlery(kms: FileKms, values: list[dict[str, Any]], column: str = "taxId") -> list[str]:
    """What the Ship Chandlery platform stores for *values*: text, and how often it was saved."""
    given = {"kmsKey": _base64(kms.key), "table": "organizations", "column": column}
    return list(node("chandlery.js", given | {"values": values}))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def made_nexus() -> dict[str, Any]:
    kms = FileKms(os.urandom(32))
    contexts: list[Any] = [
        CONTEXT,
        {"timestamp": CONTEXT["timestamp"]},
        CONTEXT | {"userId": 'Zoë "x" \\ 日\u2028\ud800'},
        CONTEXT | {"userId": 42},
        CONTEXT | {"userId": "", "purpose": ""},
    ]
    values = [
        {"text": text, "context": CONTEXT, "cipher": cipher}
        for cipher in ("createCipher", "createCipheriv")
        for text in TEXTS
    ] + [
        {"text": "Ana", "context": context, "cipher": cipher}
        for cipher in ("createCipher", "createCipheriv")
        for context in contexts
    ]
    stored = nexus(kms, values)
    lost = nexus(kms, [{"text": "Ana", "context": None, "cipher": "createCipher"}])[0]
    return {
        "written_by": f"node {_node()}, the service's own code",
        "kms_key": kms.key.hex(),
        "values": [
            {"cipher": value["cipher"], "value": value["text"], "stored": one}
            for value, one in zip(values, stored, strict=True)
        ],
        "without_time": lost,
    }


def made_chandlery() -> dict[str, Any]:
    kms = FileKms(os.urandom(32))
    values = [{"text": text, "saves": saves} for saves in (1, 2, 3) for text in TEXTS]
    return {
        "written_by": f"node {_node()}, the platform's own code",
        "kms_key": kms.key.hex(),
        "values": [
            {"saves": value["saves"], "value": value["text"], "stored": one}
            for value, one in zip(values, chandlery(kms, values), strict=True)
        ],
    }


def made_fernet() -> dict[str, Any]:
    keys = [Fernet.generate_key() for _ in range(2)]
    values = [
        {"value": text, "stored": MultiFernet([Fernet(key)]).encrypt(text.encode()).decode()}
        for key in keys
        for text in [*TEXTS, ""]
    ]
    import cryptography

    return {
        "written_by": f"cryptography {cryptography.__version__}",
        "keys": [key.decode() for key in keys],
        "values": values,
    }


TYPED: list[tuple[str, str, object]] = [
    ("str", "Unicode", "Zoë 🦊"),
    ("str", "Unicode", ""),
    ("str", "Unicode", "À"),
    ("str", "Unicode", "x" * 16),
    ("bool", "Boolean", False),
    ("int", "Integer", -42),
    ("date", "Date", dt.date(1990, 1, 31)),
    ("datetime", "DateTime", dt.datetime(1990, 1, 31, 4, 5, 6, 789)),
    ("decimal", "Numeric", Decimal("10.50")),
]


def made_sqlalchemy_utils() -> dict[str, Any]:
    import sqlalchemy
    import sqlalchemy_utils
    from sqlalchemy_utils.types.encrypted import encrypted_type as module

    engines = {
        "aes": module.AesEngine,
        "aes-gcm": module.AesGcmEngine,
        "fernet": module.FernetEngine,
    }
    ways = [("aes", padding) for padding in ("naive", "pkcs5", "oneandzeroes", "zeroes")]
    values = []
    for engine, padding in [*ways, ("aes-gcm", "naive"), ("fernet", "naive")]:
        for kind in (module.StringEncryptedType, module.EncryptedType):
            for value_type, name, value in TYPED:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    column = kind(
                        getattr(sqlalchemy, name), "a secret key", engines[engine], padding
                    )
                stored = column.process_bind_param(value, None)
                values.append(
                    {
                        "engine": engine,
                        "padding": padding,
                        "type": value_type,
                        "value": value if isinstance(value, str | bool | int) else str(value),
                        "bytes": isinstance(stored, bytes),
                        "stored": stored.decode() if isinstance(stored, bytes) else stored,
                    }
                )
    return {
        "written_by": f"sqlalchemy-utils {sqlalchemy_utils.__version__}",
        "key": "a secret key",
        "values": values,
    }


def made_django() -> dict[str, Any]:
    from importlib.metadata import version

    from django.conf import settings

    secrets = ["the present secret key", "the secret key of before"]
    salts = ["salt one", "salt two"]
    if not settings.configured:
        settings.configure(
            SECRET_KEY=secrets[0], SALT_KEY=salts, SECRET_KEY_FALLBACKS=[], USE_TZ=True
        )
    from encrypted_fields import fields

    values = []
    for secret in secrets:
        for salt in salts:
            settings.SECRET_KEY, settings.SALT_KEY = secret, salt
            for value_type, kind, value in [
                ("str", fields.EncryptedCharField(max_length=5000), "Zoë 🦊"),
                ("str", fields.EncryptedTextField(), "x" * 3000),
                ("str", fields.EncryptedEmailField(), "ana@example.org"),
                ("int", fields.EncryptedIntegerField(), -42),
                ("bool", fields.EncryptedBooleanField(), True),
                ("date", fields.EncryptedDateField(), dt.date(1990, 1, 31)),
                ("datetime", fields.EncryptedDateTimeField(), dt.datetime(1990, 1, 31, 4, 5, 6, 789, tzinfo=dt.UTC)),
                ("json", fields.EncryptedJSONField(), {"cpf": "529", "list": ["a", {"b": "c"}]}),
            ]:  # fmt: skip
                plain = value if isinstance(value, str | bool | int | dict) else str(value)
                values.append(
                    {"type": value_type, "value": plain, "stored": kind.get_prep_value(value)}
                )
    return {
        "written_by": f"django-fernet-encrypted-fields {version('django-fernet-encrypted-fields')}",
        "secret_keys": secrets,
        "salts": salts,
        "values": values,
    }


def _node() -> str:
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


MADE = {
    "nexus": made_nexus,
    "chandlery": made_chandlery,
    "fernet": made_fernet,
    "sqlalchemy_utils": made_sqlalchemy_utils,
    "django_fernet": made_django,
}


def kept(name: str) -> dict[str, Any]:
    """Return the values of *name* as they were written once."""
    found = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def main(names: list[str]) -> None:
    for name in names or MADE:
        path = FIXTURES / f"{name}.json"
        path.write_text(json.dumps(MADE[name](), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
