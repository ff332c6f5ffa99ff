# SPDX-License-Identifier: Apache-2.0
"""
Normalisers: the one spelling of a value that a blind index is computed from.

Implements ``spec/field-format.md``, section "Blind index"; each rule and its examples are in
``docs/reference/normalisers.md``, which the tests run. Never changes what is stored: the field
comes back as it was written. Does not prove that a number was issued or that an address exists.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Literal

from lacre.errors import ConfigurationError, InvalidValue

__all__ = ["Normaliser", "normaliser"]

Sensitive = Literal["government_id", "card"]

# Far past every value these rules are for. Unicode normalisation sorts runs of combining marks
# in quadratic time, so text of any length would be a way to stall a writer.
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Normaliser:
    """
    One rule. It is part of every index key, so another rule is another *version*.

    `sensitive` names the values whose whole domain can be tried out, so that an index key and a
    copy of the table are as good as the plaintext. `normalise` is idempotent and raises
    `InvalidValue` for a value that is not of its kind.
    """

    name: str
    version: int
    sensitive: Sensitive | None
    normalise: Callable[[str], str] = field(repr=False, compare=False)

    @property
    def identity(self) -> str:
        """Name and version, as the index key binds them: ``cpf/1``."""
        return f"{self.name}/{self.version}"


@lru_cache(maxsize=256)  # asked for with every value that is indexed
def normaliser(name: str) -> Normaliser:
    """
    Return the normaliser called *name*.

    ``phone:BR`` is `phone` for numbers that may be written without their country, here Brazil's.

    Raises:
        ConfigurationError: there is none of that name, or the package it needs is missing.
    """
    base, colon, region = name.partition(":")
    if base not in _RULES or (colon and base != "phone"):
        raise ConfigurationError(
            f"no normaliser is called {name!r}",
            hint="normalisers: " + ", ".join([*_RULES, "phone:REGION"]),
        )
    sensitive, make = _RULES[base]
    rule = _phone(region if colon else None) if base == "phone" else make()
    return Normaliser(
        name=name,
        version=1,
        sensitive=sensitive,
        normalise=_guarded(rule, None if base == "exact" else _LONGEST),
    )


def _guarded(rule: Callable[[str], str], longest: int | None) -> Callable[[str], str]:
    def normalise(value: str) -> str:
        if not isinstance(value, str):
            raise InvalidValue(
                f"a normaliser takes text, the value is of type {type(value).__name__}"
            )
        if longest is not None and len(value) > longest:
            raise InvalidValue(f"a value to normalise has at most {longest} characters")
        if not value.isascii() and _SURROGATE.search(value):
            raise InvalidValue("the text holds a lone surrogate, which is not valid Unicode")
        return rule(value)

    return normalise


# Every refusal below is raised outside the `except` that caught its cause: `from None` would
# only hide the cause from the traceback's text, and keep it, value and all, in `__context__`.

_SURROGATE = re.compile("[\ud800-\udfff]")


def _plain(text: str) -> str:
    """Digits of any script and full-width forms in ASCII, without invisible characters."""
    if text.isascii():
        return text
    plain = []
    for char in text:
        digit = unicodedata.decimal(char, None)
        if char.isascii():
            plain.append(char)
        elif digit is not None:
            plain.append(str(digit))
        elif unicodedata.east_asian_width(char) == "F":
            plain.append(unicodedata.normalize("NFKC", char))
        elif char.isalpha():
            # Before upper-casing: a long s or a dotless i would become an S or an I.
            raise InvalidValue("the number holds a letter outside A to Z")
        elif unicodedata.category(char) != "Cf":
            plain.append(char)
    return "".join(plain)


def _digits() -> Callable[[str], str]:
    def rule(text: str) -> str:
        digits = []
        for char in _plain(text):
            if "0" <= char <= "9":
                digits.append(char)
            elif not char.isspace() and unicodedata.category(char)[0] not in "PSZ":
                # Dropping a letter would make two accounts one.
                raise InvalidValue("the value holds more than digits and separators")
        if not digits:
            raise InvalidValue("the value holds no digit")
        return "".join(digits)

    return rule


_REASONS = {
    "InvalidChecksum": "its check digits are wrong",
    "InvalidComponent": "a part of it cannot be",
    "InvalidFormat": "it is not written like one",
    "InvalidLength": "its length is wrong",
}


def _standard(
    module_name: str, what: str, separators: str = ""
) -> Callable[[], Callable[[str], str]]:
    def make() -> Callable[[str], str]:
        module = _optional(module_name)
        invalid: type[Exception] = _optional("stdnum.exceptions").ValidationError

        def rule(text: str) -> str:
            number, reason = "", ""
            try:
                number = module.validate(_without(separators, _plain(text)))
            except invalid as refusal:
                reason = _REASONS.get(type(refusal).__name__, "it is not valid")
            if not reason and not number.isascii():
                reason = _REASONS["InvalidFormat"]
            if reason:
                raise InvalidValue(f"the value is not {what}: {reason}")
            return number

        return rule

    return make


def _without(separators: str, text: str) -> str:
    return "".join(char for char in text if char not in separators and not char.isspace())


_CARD = re.compile(r"[0-9]{12,19}")


def _card() -> Callable[[str], str]:
    luhn = _optional("stdnum.luhn")

    def rule(text: str) -> str:
        number = _without("-.", _plain(text))
        if not _CARD.fullmatch(number) or not number.strip("0"):
            raise InvalidValue(
                "the value is not a card number: 12 to 19 digits, not all of them zero"
            )
        if not luhn.is_valid(number):
            raise InvalidValue("the value is not a card number: its check digit is wrong")
        return number

    return rule


_IFSC = re.compile(r"[A-Z]{4}0[A-Z0-9]{6}")


def _ifsc() -> Callable[[str], str]:
    def rule(text: str) -> str:
        code = _without("-", _plain(text)).upper()
        if not _IFSC.fullmatch(code):
            raise InvalidValue(
                "the value is not an IFSC: four letters, a zero, six letters or digits"
            )
        return code

    return rule


def _phone(region: str | None) -> Callable[[str], str]:
    phonenumbers = _optional("phonenumbers")
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigurationError(
            f"phone:{region} names no region",
            hint="two capital letters of ISO 3166, for example phone:BR",
        )
    complete = phonenumbers.ValidationResult.IS_POSSIBLE
    with_plus = phonenumbers.CountryCodeSource.FROM_NUMBER_WITH_PLUS_SIGN

    def once(text: str) -> str | None:
        try:
            number = phonenumbers.parse(text, region, keep_raw_input=True)
        except phonenumbers.NumberParseException:
            return None
        # Possible, not valid: a range allotted after this release of the library is a number all
        # the same. Without its country it has to be valid, or a local number would pass for one
        # that has its area, and be equal in every town.
        if phonenumbers.is_possible_number_with_reason(number) != complete:
            return None
        if number.country_code_source != with_plus and not phonenumbers.is_valid_number(number):
            return None
        main: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        # E.164 has no extensions, and without them a whole office would have one number.
        return f"{main};ext={number.extension}" if number.extension else main

    def rule(text: str) -> str:
        number = once(text)
        # The library strips trunk prefixes by pattern; a number it would read differently the
        # second time has no one spelling.
        if number is None or once(number) != number:
            way = (
                "write it with + and its country"
                if region is None
                else f"write it as in {region}, or with + and its country"
            )
            raise InvalidValue(f"the value is not a telephone number: {way}")
        return number

    return rule


def _exact() -> Callable[[str], str]:
    return str


def _name() -> Callable[[str], str]:
    def fold(text: str) -> str:
        # Letter by letter only outside ASCII, where alone something is dropped: for every hit of a
        # search this runs on what the row holds.
        letters = _OUTSIDE_ASCII.sub(_kept, unicodedata.normalize("NFKD", text))
        return " ".join(letters.casefold().split())

    return _settled(fold)


_OUTSIDE_ASCII = re.compile(r"[^\x00-\x7f]")


def _kept(found: re.Match[str]) -> str:
    return "" if _droppable(found[0]) else found[0]


def _droppable(char: str) -> bool:
    # Accents, and the points of Hebrew and Arabic. Not every mark: vowel signs of Indic scripts
    # (class 0), their virama and nukta (9, 7), the voicing of kana (8) and the vowels of Thai,
    # Lao and Tibetan (84 to 132) make another name, not another spelling of it.
    accent = unicodedata.combining(char)
    if 10 <= accent <= 36 or accent >= 200 or accent == 1:
        return True
    # Invisible: format characters and variation selectors.
    return (
        unicodedata.category(char) == "Cf"
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


def _settled(step: Callable[[str], str]) -> Callable[[str], str]:
    """Apply *step* until nothing changes: case folding can undo a normal form, and once more."""

    def rule(text: str) -> str:
        while (again := step(text)) != text:
            text = again
        return text

    return rule


# What HTML takes for an address, and any visible character outside ASCII (RFC 6531).
_LOCAL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]{1,64}")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_LONGEST_ADDRESS = 254  # RFC 5321, with the erratum


def _email() -> Callable[[str], str]:
    fold = _settled(lambda text: unicodedata.normalize("NFKC", text).casefold())

    def rule(text: str) -> str:
        text = text.strip()
        local, domain = "", ""
        if text.isascii() and len(text) <= _LONGEST_ADDRESS:
            # What follows does the same with it, and takes longer than to encrypt it.
            local, _, domain = text.lower().rpartition("@")
            if _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain):
                return f"{local}@{domain}"
        elif len(text) <= _LONGEST_ADDRESS:
            local, _, domain = fold(text).rpartition("@")
            domain = _ascii_domain(domain)
        address = f"{local}@{domain}"
        visible = all(unicodedata.category(char)[0] not in "CZ" for char in local)
        if (
            not _LOCAL.fullmatch(local)
            or not visible
            or not _DOMAIN.fullmatch(domain)
            or len(address) > _LONGEST_ADDRESS
        ):
            raise InvalidValue("the value is not an e-mail address of the form name@domain")
        return address

    return rule


def _ascii_domain(domain: str) -> str:
    # The standard library's IDNA is that of 2003, on its own frozen Unicode tables: the same
    # bytes on every Python. Where 2008 differs (sharp s, final sigma) case folding has decided.
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""


def _optional(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError:
        package = "phonenumbers" if module == "phonenumbers" else "python-stdnum"
        raise ConfigurationError(
            f"this normaliser needs the package {package}", hint="pip install 'lacre[search]'"
        ) from None


_RULES: dict[str, tuple[Sensitive | None, Callable[[], Callable[[str], str]]]] = {
    "digits": (None, _digits),
    "cpf": ("government_id", _standard("stdnum.br.cpf", "a CPF")),
    # Public company numbers; alphanumeric since July 2026, so letters stay.
    "cnpj": (None, _standard("stdnum.br.cnpj", "a CNPJ")),
    "in_pan": ("government_id", _standard("stdnum.in_.pan", "an Indian PAN")),
    "aadhaar": ("government_id", _standard("stdnum.in_.aadhaar", "an Aadhaar number")),
    "ifsc": (None, _ifsc),
    "routing_number": (None, _standard("stdnum.us.rtn", "a routing number", "-")),
    "card_pan": ("card", _card),
    "email": (None, _email),
    "phone": (None, lambda: _phone(None)),
    "name": (None, _name),
    "exact": (None, _exact),
}
