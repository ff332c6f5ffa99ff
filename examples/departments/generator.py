# SPDX-License-Identifier: Apache-2.0
"""
The generator, a Lambda function: one message for each department, in clear, onto the queue of the data's owner.

What it does NOT do: encrypt, which is the owner's work and needs rights on the departments' keys that this role has not.

Its settings are `QUEUE_URL`, and `DEPARTMENTS`, names with commas between; `finance,sales` without it.
"""

import json
import os
from functools import cache
from typing import Any

__all__ = ["handle", "message"]

# As the source's own run printed them.
_TEXTS = {
    "finance": (
        "Lot of consumers, but this is a sensitive and personal information that only finance department can read "
        "(could be a json)"
    ),
    "sales": (
        "Lot of consumers, sensitive / personal information directly for sales department, just them can read "
        "(could be a json)"
    ),
}


def message(department: str) -> str:
    """Return the message for *department*, as the owner of the data receives it."""
    text = _TEXTS.get(department, f"Sensitive and personal information for {department} alone")
    return json.dumps({"department": department, "data": text})


def handle(event: object, context: object) -> dict[str, list[str]]:
    """Send a message for each department; return their ids. Neither *event* nor *context* says anything."""
    queue = os.environ["QUEUE_URL"]
    departments = os.environ.get("DEPARTMENTS", "finance,sales").split(",")
    sent = [
        _sqs().send_message(QueueUrl=queue, MessageBody=message(name.strip()))["MessageId"]
        for name in departments
    ]
    return {"sent": sent}


@cache
def _sqs() -> Any:
    # Once for each process that Lambda keeps. The role's credentials are in the environment, and no others are taken.
    import boto3

    return boto3.client("sqs")
