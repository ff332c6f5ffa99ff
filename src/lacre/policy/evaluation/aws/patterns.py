# SPDX-License-Identifier: Apache-2.0
"""
Names with `*` and `?` in them, and ARNs, as policies of AWS compare them.

Knows no document. ``*`` stands for any characters, none of them too, ``?`` for exactly one.
"""

import re
from functools import lru_cache

from lacre.errors import PolicyNotUnderstood

__all__ = ["arn_like", "glob", "resource_like"]


def glob(pattern: str, text: str, *, any_case: bool = False) -> bool:
    """Whether *text* is what *pattern* describes."""
    return _compiled(pattern, any_case).fullmatch(text) is not None


def arn_like(pattern: str, arn: str) -> bool:
    """
    Whether *arn* is what *pattern* describes, as the operators for ARNs compare.

    "Each of the six colon-delimited components of the ARN is checked separately." What is no ARN is like none.
    """
    wanted = pattern.split(":", 5)
    if len(wanted) != 6 or wanted[0] != "arn":
        raise PolicyNotUnderstood(
            f"{pattern!r}, compared as an ARN: it has not the six parts of one"
        )
    found = arn.split(":", 5)
    return len(found) == 6 and all(map(glob, wanted, found))


def resource_like(pattern: str, resource: str) -> bool:
    """
    Whether *resource* is among what an element `Resource` says.

    Raises:
        PolicyNotUnderstood: it depends on whether a wildcard may stand for a colon, and so for several parts.
    """
    if pattern == "*" or pattern == resource:
        return True
    if resource == "*":
        return False
    parts = pattern.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or set(parts[2]) & set("*?"):
        raise PolicyNotUnderstood(
            f"the resource {pattern!r}: it has not the six parts of an ARN, or no one service"
        )
    apart = arn_like(pattern, resource)
    if apart != glob(pattern, resource):
        raise PolicyNotUnderstood(
            f"the resource {pattern!r}: a wildcard would stand for several parts of an ARN"
        )
    return apart


@lru_cache(maxsize=4096)
def _compiled(pattern: str, any_case: bool) -> re.Pattern[str]:
    text = "".join({"*": ".*", "?": "."}.get(each) or re.escape(each) for each in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if any_case else re.NOFLAG))
