# SPDX-License-Identifier: Apache-2.0
"""
Values that look like somebody's and are nobody's, for rows that are planted.

Addresses of e-mail are at domains that RFC 2606 reserves, telephone numbers in the range that Ofcom
keeps for drama, card numbers of a test range: nothing is sent to a person, or charged. Check digits
are right. **A CPF or CNPJ has no reserved range: a valid one that is drawn may be somebody's.**
Draws with the randomness that it is given. Knows no model (`lacre.sqlalchemy.planting`).
"""

import datetime as dt
import enum
import random
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

__all__ = ["kind_of", "plausible"]

_FIRST = ["Ana", "Bruno", "Carla", "Diego", "Elena", "Fábio", "Gabriela", "Hugo", "Inês", "João", "Karina", "Lucas", "Marina", "Nuno", "Olívia", "Paulo", "Rafaela", "Sérgio", "Teresa", "Vítor"]  # fmt: skip
_LAST = ["Almeida", "Barbosa", "Cardoso", "Duarte", "Esteves", "Ferreira", "Gonçalves", "Lima", "Martins", "Nogueira", "Oliveira", "Pereira", "Ramos", "Santos", "Teixeira", "Vieira"]  # fmt: skip
_STREETS = ["Rua das Flores", "Avenida Central", "Rua do Comércio", "Rua da Matriz", "Travessa do Porto", "Avenida dos Ipês"]  # fmt: skip
_CITIES = ["Recife", "Olinda", "Curitiba", "Santos", "Campinas", "Belém", "Natal", "Goiânia"]
_DOMAINS = ("example.com", "example.net", "example.org")

# Words of column names, for columns that no index or mask tells about.
_WORDS = {
    "mail": "email",
    "email": "email",
    "cpf": "cpf",
    "cnpj": "cnpj",
    "phone": "phone",
    "mobile": "phone",
    "telefone": "phone",
    "card": "card_pan",
    "pan": "card_pan",
    "name": "name",
    "nome": "name",
    "address": "address",
    "street": "address",
    "endereco": "address",
    "city": "city",
    "cidade": "city",
    "account": "account",
    "conta": "account",
}
_MASKS = {"cpf": "cpf", "card": "card_pan", "email": "email", "phone": "phone", "name": "name"}


def kind_of(column: str, *, normalisers: tuple[str, ...] = (), mask: str | None = None) -> str | None:  # fmt: skip
    """Return what kind of text a column holds: by its index, its mask, or the words of its name; None for unknown."""
    for name in (*normalisers, _MASKS.get(mask or "")):
        if name in _TEXTS:
            return name
    for word in reversed(re.findall(r"[a-z]+", column.lower())):
        if word in _WORDS:
            return _WORDS[word]
    return None


def plausible(python_type: Any, kind: str | None, drawn: random.Random) -> Any:
    """Return a value of *python_type*, of that kind where it is text; None where nobody can guess one."""
    if python_type is str:
        make = _TEXTS.get(kind or "")
        return None if make is None else make(drawn)
    if isinstance(python_type, type) and issubclass(python_type, enum.Enum):
        return drawn.choice(list(python_type))
    made = _TYPES.get(python_type)
    return None if made is None else made(drawn)


def _digits(drawn: random.Random, count: int) -> list[int]:
    return [drawn.randrange(10) for _ in range(count)]


def _text(digits: list[int]) -> str:
    return "".join(map(str, digits))


def _cpf(drawn: random.Random) -> str:
    digits = _digits(drawn, 9)
    if len(set(digits)) == 1:
        return _cpf(drawn)  # the eleven that are valid and nobody's
    for length in (9, 10):
        total = sum((length + 1 - place) * digit for place, digit in enumerate(digits))
        digits.append(total * 10 % 11 % 10)
    made = _text(digits)
    return f"{made[:3]}.{made[3:6]}.{made[6:9]}-{made[9:]}"


def _cnpj(drawn: random.Random) -> str:
    digits = [*_digits(drawn, 8), 0, 0, 0, 1]
    for weights in ((5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)):
        left = sum(map(int.__mul__, weights, digits)) % 11
        digits.append(0 if left < 2 else 11 - left)
    made = _text(digits)
    return f"{made[:2]}.{made[2:5]}.{made[5:8]}/{made[8:12]}-{made[12:]}"


def _card(drawn: random.Random) -> str:
    # 4000 00: a test range of payment services, which no bank issues.
    digits = [4, 0, 0, 0, 0, 0, *_digits(drawn, 9)]
    doubled = [digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)]  # fmt: skip
    return _text([*digits, -sum(doubled) % 10])


def _name(drawn: random.Random) -> str:
    return " ".join((drawn.choice(_FIRST), *drawn.sample(_LAST, drawn.choice((1, 2)))))


def _email(drawn: random.Random) -> str:
    plain = unicodedata.normalize("NFD", _name(drawn)).encode("ascii", "ignore").decode()
    first, *_, last = plain.lower().split()
    number = drawn.choice(("", str(drawn.randrange(1950, 2008)), str(drawn.randrange(1, 100))))
    return f"{first}.{last}{number}@{drawn.choice(_DOMAINS)}"


def _address(drawn: random.Random) -> str:
    return f"{drawn.choice(_STREETS)}, {drawn.randrange(3, 2400)}"


_TEXTS: dict[str, Callable[[random.Random], str]] = {
    "cpf": _cpf,
    "cnpj": _cnpj,
    "card_pan": _card,
    "email": _email,
    "phone": lambda drawn: f"+447700900{drawn.randrange(1000):03}",
    "name": _name,
    "address": _address,
    "city": lambda drawn: drawn.choice(_CITIES),
    "account": lambda drawn: f"{drawn.randrange(10_000, 1_000_000)}-{drawn.randrange(10)}",
    "digits": lambda drawn: _text([drawn.randrange(1, 10), *_digits(drawn, 8)]),
}


def _moment(drawn: random.Random) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=drawn.randrange(60, 90 * 86_400))


_TYPES: dict[Any, Callable[[random.Random], Any]] = {
    int: lambda drawn: drawn.randrange(1000, 100_000),
    Decimal: lambda drawn: Decimal(drawn.randrange(10_000, 2_000_000)) / 100,
    dt.date: lambda drawn: dt.date(drawn.randrange(1950, 2006), 1, 1) + dt.timedelta(days=drawn.randrange(365)),
    dt.datetime: _moment,
    bool: lambda drawn: drawn.random() < 0.5,
    UUID: lambda drawn: UUID(int=drawn.getrandbits(128), version=4),
}  # fmt: skip
