# SPDX-License-Identifier: Apache-2.0
"""
Masks: what a reader without the right to decrypt is shown instead of a value.

Each is total: whatever it is given, it returns a mask and never raises. Apart from the domain of
an address and the year of a date, which are what those masks are for, none shows more than a
third of a value's letters and digits; a shorter value, or one of another kind, is hidden whole.
Does not decide who sees a mask, and hides nothing from whoever holds the key.
"""

import datetime as dt
import re
import unicodedata
from collections.abc import Callable

from lacre.errors import ConfigurationError
from lacre.sensitive import Mask

__all__ = ["mask"]

# One constant for every value there is: not even its length, its type or its absence shows, and
# no key is needed to make it.
_HIDDEN = Mask("***")


def mask(name: str) -> Callable[[object], Mask]:
    """
    Return the mask called *name*: a function from a value to what may be shown of it.

    Raises:
        ConfigurationError: there is none of that name.
    """
    made = _MASKS.get(name)
    if made is None:
        raise ConfigurationError(f"no mask is called {name!r}", hint="masks: " + ", ".join(_MASKS))
    return made


def _hidden(_value: object) -> Mask:
    return _HIDDEN


def _last4(value: object) -> Mask:
    return _tail(_characters(value), 4)


def _phone(value: object) -> Mask:
    characters = _characters(value)
    return _tail(characters, 2) if characters.isdecimal() else _HIDDEN


def _tail(characters: str, shown: int) -> Mask:
    # The prefix has one length, so that it does not tell the value's.
    return Mask("***" + characters[-shown:]) if len(characters) >= 3 * shown else _HIDDEN


def _card(value: object) -> Mask:
    # PCI DSS 3.4.1 would allow the first six as well. With both, and the check digit, some 10^5
    # numbers remain: few enough to try against a blind index.
    digits = _characters(value)
    return (
        Mask("**** " + digits[-4:]) if digits.isdecimal() and 12 <= len(digits) <= 19 else _HIDDEN
    )


def _cpf(value: object) -> Mask:
    # Brazil's public registers hide the first three digits and the two check digits
    # (***.982.247-**). Check digits follow from the others, so that leaves 1,000 candidates;
    # this shape, the next most common there, leaves a million.
    digits = _characters(value)
    return (
        Mask(f"***.***.{digits[6:9]}-**") if digits.isdecimal() and len(digits) == 11 else _HIDDEN
    )


_EMAIL = re.compile(r"([^\s@]+)@((?:[\w-]{1,63}\.)+[\w-]{2,63})")


def _email(value: object) -> Mask:
    found = _EMAIL.fullmatch(_text(value).strip())
    if found is None:
        return _HIDDEN
    local, domain = found.groups()
    return Mask(f"{local[0] if len(local) >= 3 else ''}***@{domain}")


_MOST_WORDS = 6  # of a name; past that it is some other text


def _name(value: object) -> Mask:
    words = unicodedata.normalize("NFC", _text(value)).split()
    spelt = ["".join(filter(str.isalpha, word)) for word in words]
    initials = [letters[0] for letters in spelt if letters]
    if not 1 <= len(initials) <= _MOST_WORDS or 3 * len(initials) > sum(map(len, spelt)):
        return _HIDDEN
    return Mask(" ".join(f"{initial}." for initial in initials))


_DATE = re.compile(r"([0-9]{4})-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.+Z-]*)?")


def _year(value: object) -> Mask:
    if isinstance(value, dt.date):
        return Mask(f"{value.year:04}")
    found = _DATE.fullmatch(_text(value))
    return Mask(found[1]) if found else _HIDDEN


def _characters(value: object) -> str:
    return "".join(filter(str.isalnum, _text(value)))


_LONGEST = 4096


def _text(value: object) -> str:
    """The text of a value that is one, or a plain number; empty for all others."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else ""
    if type(value) is int and value.bit_length() <= 256:
        return str(value)
    return ""


_MASKS: dict[str, Callable[[object], Mask]] = {
    "hidden": _hidden,
    "last4": _last4,
    "cpf": _cpf,
    "card": _card,
    "email": _email,
    "phone": _phone,
    "name": _name,
    "year": _year,
}
