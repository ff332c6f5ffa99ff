# SPDX-License-Identifier: Apache-2.0
"""Changing what is held about a person."""

from lacre.pydantic import Protected
from nexus.models import User
from nexus.schemas import Change

__all__ = ["change"]


def change(user: User, body: Change) -> None:
    """Give *user* the fields that *body* has: null clears one, one that is not there stays."""
    for name in body.model_fields_set:
        value = getattr(body, name)
        setattr(user, name, value.reveal() if isinstance(value, Protected) else None)
