# SPDX-License-Identifier: Apache-2.0
"""
Who used a person's data, from lacre's evidence: the lines that name the person's pseudonym.

Reads the file from its beginning, which does for an example; a service with many people would load
the lines into a table of its own.
"""

import json
from collections import deque
from pathlib import Path
from typing import Any
from uuid import UUID

from nexus.models import User
from nexus.schemas import Look

__all__ = ["looks_at"]

_WHAT = {"look": "read", "legacy-look": "read", "bulk": "read", "encrypt": "written"}
_MOST = 1_000  # the latest


def looks_at(
    evidence: Path, person: UUID, *, pseudonym: str | None, name_staff: bool
) -> tuple[list[Look], bool]:
    """
    Return the accesses to the data of *person*, oldest first, and whether those are all.

    Args:
        evidence: the file. What the recorder still holds is not in it: flush it before.
        pseudonym: what the evidence calls the person; of whoever was erased there is none.
        name_staff: say which employee it was. Whether a person may know that depends on the case
            (CJEU C-579/21): by default the roles and the purpose are told.
    """
    found: deque[Look] = deque(maxlen=_MOST)
    count = 0
    if pseudonym is None:
        return [], True
    with evidence.open(encoding="utf-8") as lines:
        for line in lines:
            # Cheaper than reading every line as JSON.
            if pseudonym in line:
                looks = _looks(json.loads(line), pseudonym, person, name_staff)
                found.extend(looks)
                count += len(looks)
    return list(found), count <= _MOST


def _looks(event: dict[str, Any], pseudonym: str, person: UUID, name_staff: bool) -> list[Look]:
    what = _WHAT.get(event["action"])
    if what is None or event["table"] != User.__tablename__ or pseudonym not in event["subjects"]:
        return []
    # One event of a bulk reading is of several columns.
    columns = event["columns"] if event["action"] == "bulk" else [event]
    return [_look(event, column, what, pseudonym, person, name_staff) for column in columns]


def _look(
    event: dict[str, Any],
    column: dict[str, Any],
    what: str,
    pseudonym: str,
    person: UUID,
    name_staff: bool,
) -> Look:
    principal = event["principal"]
    if principal == f"user:{person}":
        by = "yourself"
    elif name_staff or principal.startswith("svc:"):
        by = principal
    else:
        by = "staff"
    return Look.model_validate(
        {
            "when": event["time"],
            "times": event["subjects"].count(pseudonym),
            "what": what,
            "field": column["column"],
            "by": by,
            "roles": event["roles"],
            "purpose": event["purpose"],
            "outcome": column["outcome"],
        }
    )
