# SPDX-License-Identifier: Apache-2.0
"""
The policies of ``docs/how-to/aws-kms.md``, with the names of a test's own keys and roles; and their conditions.

`meets` knows the four condition operators that the page uses, as AWS' page "IAM JSON policy elements: Condition
operators" describes them, and refuses any other. It evaluates conditions only: who may what is the emulators'.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["FIELDS_ARN", "INDEX_ARN", "PAGE", "actions", "documented", "meets", "with_names", "without"]  # fmt: skip

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "aws-kms.md"
FIELDS_ARN = "arn:aws:kms:eu-central-1:111122223333:key/11111111-1111-4111-8111-111111111111"
INDEX_ARN = "arn:aws:kms:eu-central-1:111122223333:key/22222222-2222-4222-8222-222222222222"
_BLOCK = re.compile(r"^`([a-z-]+\.json)`:\n\n```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def documented() -> dict[str, Any]:
    """Return each policy of the page, by its file's name. ``index-key.json`` is made as the page says."""
    text = PAGE.read_text("utf-8")
    found = {name: json.loads(block) for name, block in _BLOCK.findall(text)}
    index = json.loads(json.dumps(found["fields-key.json"]).replace('"branch"', '"index"'))
    unwrap = next(each for each in index["Statement"] if each["Sid"] == "Unwrap")
    said = re.search(r'`"Principal": (\{.*?\})` in `Unwrap`', text)
    assert said is not None
    unwrap["Principal"] = json.loads(said[1])
    return {**found, "index-key.json": index}


def with_names(policy: Any, names: Mapping[str, str]) -> Any:
    """Return *policy* with each name of the page replaced by the test's."""
    text = json.dumps(policy)
    for documented, own in names.items():
        text = text.replace(documented, own)
    return json.loads(text)


def without(policy: Any, *, action: str | None = None, conditions: bool = False) -> Any:
    """Return *policy* without one action, or without its conditions."""
    kept = []
    for given in policy["Statement"]:
        each = dict(given)
        if conditions:
            each.pop("Condition", None)
        each["Action"] = [name for name in _listed(each["Action"]) if name != action]
        each["Action"] = each["Action"] or ["sts:GetCallerIdentity"]  # a policy is never empty
        kept.append(each)
    return {**policy, "Statement": kept}


def actions(policy: Any) -> set[str]:
    """Return every action that *policy* allows."""
    return {name for each in policy["Statement"] for name in _listed(each["Action"])}


def meets(condition: Mapping[str, Any], context: Mapping[str, str], *, now: dt.datetime) -> bool:
    """Whether a request with *context* as its encryption context meets a statement's *condition*."""
    request: dict[str, Any] = {f"kms:EncryptionContext:{name}": context[name] for name in context}
    request |= {"kms:EncryptionContextKeys": sorted(context), "aws:CurrentTime": now}
    return all(
        _OPERATORS[operator](request.get(key), wanted)
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    )


_OPERATORS = {
    "StringEquals": lambda value, wanted: value in _listed(wanted),
    "Null": lambda value, wanted: (value is None) == (wanted == "true"),
    "ForAllValues:StringEquals": lambda values, wanted: set(values or ()) <= set(_listed(wanted)),
    "DateLessThan": lambda value, wanted: value < dt.datetime.fromisoformat(wanted),
}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
