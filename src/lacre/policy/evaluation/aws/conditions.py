# SPDX-License-Identifier: Apache-2.0
"""
Conditions of a statement, and whether a request meets them.

As the pages "IAM JSON policy elements: Condition operators" and "Set operators for multi-valued context
keys" say. Does not know `Binary...`, a set operator with `IfExists` (of which readers of the documentation
differ), policy variables.
"""

import datetime as dt
import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lacre.errors import PolicyNotUnderstood
from lacre.policy.evaluation.aws.calls import Request
from lacre.policy.evaluation.aws.known import has_several
from lacre.policy.evaluation.aws.patterns import arn_like, glob

__all__ = ["Test", "all_hold", "conditions_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One key of a condition: ``"StringEquals": {"aws:PrincipalArn": [...]}``. *key* is lower-case."""

    operator: str
    key: str
    wanted: tuple[str, ...]

    def holds(self, request: Request) -> bool:
        """Whether *request* meets it."""
        found = request.value(self.key)
        quantifier, _, name = self.operator.rpartition(":")
        if name == "Null":
            return any((found is None) == _truth(wanted) for wanted in self.wanted)
        plain = name.removesuffix("IfExists")
        if found is None and plain != name:
            return True
        compare, negated = _OPERATORS[plain]

        def meets(value: str) -> bool:
            # Several values wanted are alternatives; of a negated operator, none of them may be it.
            return any(compare(wanted, value) for wanted in self.wanted) != negated

        if quantifier:
            values = () if found is None else found if isinstance(found, tuple) else (found,)
            # Of no values, all meet it and none does.
            return (
                all(map(meets, values)) if quantifier == "ForAllValues" else any(map(meets, values))
            )
        if found is None:
            return negated
        if isinstance(found, tuple):
            raise PolicyNotUnderstood(f"{self.operator} of {self.key}, which has several values")
        return meets(found)


def conditions_of(element: object) -> tuple[Test, ...]:
    """
    Read the element `Condition` of a statement.

    Raises:
        PolicyNotUnderstood: an operator, a key or a value that this module does not know.
    """
    if not isinstance(element, Mapping):
        raise PolicyNotUnderstood("the element Condition: it is no object")
    tests = []
    for operator, keys in element.items():
        quantifier, _, name = str(operator).rpartition(":")
        exists = name.endswith("IfExists")
        if (
            quantifier not in {"", "ForAllValues", "ForAnyValue"}
            or (name.removesuffix("IfExists") not in _OPERATORS and name != "Null")
            or (quantifier and (exists or name == "Null"))
        ):
            raise PolicyNotUnderstood(f"the condition operator {operator!r}")
        if not isinstance(keys, Mapping) or not keys:
            raise PolicyNotUnderstood(f"{operator}: it has no condition key")
        for key, wanted in keys.items():
            test = Test(operator=operator, key=str(key).lower(), wanted=_wanted(operator, wanted))
            _check(test, name.removesuffix("IfExists"), quantified=bool(quantifier))
            tests.append(test)
    return tuple(tests)


def all_hold(tests: tuple[Test, ...], request: Request) -> bool:
    """
    Whether *request* meets all of *tests*.

    Raises:
        PolicyNotUnderstood: the answer depends on what the call does not say.
    """
    unknown: PolicyNotUnderstood | None = None
    for test in tests:
        try:
            if not test.holds(request):
                return False
        except PolicyNotUnderstood as error:
            unknown = error
    if unknown is not None:
        raise unknown
    return True


def _wanted(operator: str, element: object) -> tuple[str, ...]:
    found = []
    for value in element if isinstance(element, list) else [element]:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not isinstance(value, str | bool | int | float) or (isinstance(value, str) and "${" in value):  # fmt: skip
            raise PolicyNotUnderstood(
                f"{operator}: the value {value!r}, which is a variable or no plain value"
            )
        found.append(text)
    if not found:
        raise PolicyNotUnderstood(f"{operator}: a list without values")
    return tuple(found)


def _check(test: Test, name: str, *, quantified: bool) -> None:
    several = has_several(test.key)
    if several and not quantified and name != "Null":
        raise PolicyNotUnderstood(
            f"{test.operator} of {test.key}, which has several values",
            hint="ForAllValues: with a Null of its own, or ForAnyValue:",
        )
    # A value that is none of its kind is refused now, not when a call comes along that meets it.
    if name in _KINDS:
        for wanted in test.wanted:
            _KINDS[name](wanted)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise PolicyNotUnderstood(f"{text!r}, where true or false is due")
    return text.lower() == "true"


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PolicyNotUnderstood(f"{text!r}, where a number is due")
    return number


def _date(text: str) -> dt.datetime:
    try:
        if text.isdecimal():
            return dt.datetime.fromtimestamp(int(text), dt.UTC)
        if "T" not in text:
            return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(tzinfo=dt.UTC))
        moment: dt.datetime | None = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PolicyNotUnderstood(f"{text!r}, where a date is due: it is none, or has no zone")
    return moment


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise PolicyNotUnderstood(f"{text!r}, where a range of addresses is due") from None


def _inside(wanted: str, found: str) -> bool:
    inner, outer = _network(found), _network(wanted)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _ordered(read: Callable[[str], Any], *, below: bool, equal: bool) -> Callable[[str, str], bool]:
    def compare(wanted: str, found: str) -> bool:
        limit, value = read(wanted), read(found)
        return (
            bool(value == limit)
            if equal and value == limit
            else bool((value < limit) == below and value != limit)
        )

    return compare


def _family(kind: str, read: Callable[[str], Any]) -> dict[str, tuple[Callable[[str, str], bool], bool]]:  # fmt: skip
    def same(wanted: str, found: str) -> bool:
        return bool(read(wanted) == read(found))

    return {
        f"{kind}Equals": (same, False),
        f"{kind}NotEquals": (same, True),
        f"{kind}LessThan": (_ordered(read, below=True, equal=False), False),
        f"{kind}LessThanEquals": (_ordered(read, below=True, equal=True), False),
        f"{kind}GreaterThan": (_ordered(read, below=False, equal=False), False),
        f"{kind}GreaterThanEquals": (_ordered(read, below=False, equal=True), False),
    }


def _equal(wanted: str, found: str) -> bool:
    return wanted == found


def _equal_in_any_case(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower()


def _same_truth(wanted: str, found: str) -> bool:
    return _truth(wanted) == _truth(found)


# What is compared, and whether the operator is the negation of it.
_OPERATORS: Final[dict[str, tuple[Callable[[str, str], bool], bool]]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_in_any_case, False),
    "StringNotEqualsIgnoreCase": (_equal_in_any_case, True),
    "StringLike": (glob, False),
    "StringNotLike": (glob, True),
    "ArnEquals": (arn_like, False),
    "ArnLike": (arn_like, False),
    "ArnNotEquals": (arn_like, True),
    "ArnNotLike": (arn_like, True),
    "Bool": (_same_truth, False),
    "IpAddress": (_inside, False),
    "NotIpAddress": (_inside, True),
    **_family("Numeric", _number),
    **_family("Date", _date),
}
_KINDS: Final[dict[str, Callable[[str], object]]] = {
    "Null": _truth,
    "Bool": _truth,
    "IpAddress": _network,
    "NotIpAddress": _network,
    **{name: lambda text: arn_like(text, "") for name in _OPERATORS if name.startswith("Arn")},
    **{name: _number for name in _OPERATORS if name.startswith("Numeric")},
    **{name: _date for name in _OPERATORS if name.startswith("Date")},
}
