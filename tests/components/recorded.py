# SPDX-License-Identifier: Apache-2.0
"""
The record an emulator of AWS keeps of requests: one line of JSON each, without plaintext and without ciphertext.

Standard library only: it runs in the emulators' own environments.
"""

import json
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

__all__ = ["Recorder"]

_CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d+/([^/]+)/([^/]+)/")
_KEYS = ("KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId")
_CONTEXTS = ("EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext")


class Recorder:
    """Writes to *file*."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def record(
        self, headers: Iterable[tuple[str, str]], body: bytes, status: int, answer: bytes
    ) -> None:
        """Write down one request, if it was signed as requests to AWS are."""
        given = {name.lower(): value for name, value in headers}
        found = _CREDENTIAL.search(given.get("authorization", ""))
        if found is None:
            return
        access_key, region, service = found.groups()
        asked, target = _json(body), given.get("x-amz-target", "")
        action = parse_qs(body.decode("latin-1")).get("Action", [""])[0] if not target else ""
        entry = {
            "time": time.time(),
            "service": service,
            "operation": target.rpartition(".")[2] or action,
            "region": region,
            "access_key": access_key,
            "agent": given.get("user-agent", ""),
            **{name: asked[name] for name in (*_KEYS, *_CONTEXTS) if name in asked},
            "status": status,
        }
        if status >= 400:
            entry["error"] = _json(answer).get("__type", "")
        # Written before the answer goes out, so that whoever has the answer finds the line.
        with self._lock:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
