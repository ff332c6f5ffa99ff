# SPDX-License-Identifier: Apache-2.0
"""
A legacy customer database for the demonstration: plaintext personal data, as such data is found.

Makes one SQLite file, the same for the same seed. Knows nothing of lacre's formats and encrypts
nothing. All people are invented; a CPF, card or telephone number drawn at random may still be
somebody's, so none of it is for use outside the demonstration.
"""

import datetime as dt
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lacre.errors import ConfigurationError

__all__ = ["DEPARTED_NAME", "KNOWN_CPF", "KNOWN_EMAIL", "KNOWN_NAME", "build"]

# The customer with id 1, for look-ups, and one of those who were deleted long ago.
KNOWN_NAME: Final = "Ana Souza"
KNOWN_EMAIL: Final = "ana@example.org"
KNOWN_CPF: Final = "529.982.247-25"
DEPARTED_NAME: Final = "Zacarias Figueirôa Esquecido"

_SCHEMA = """
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    cpf TEXT UNIQUE,
    phone TEXT,
    address TEXT,
    card TEXT,
    born DATE,
    notes TEXT,
    city TEXT,
    created_at TEXT NOT NULL
);
CREATE INDEX customers_by_city ON customers (city);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    placed_at TEXT NOT NULL,
    status TEXT NOT NULL,
    cents INTEGER NOT NULL
);
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE TABLE arrivals (day TEXT PRIMARY KEY, customers INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW sales_by_city AS
    SELECT c.city, count(*) AS orders, sum(o.cents) AS cents
    FROM customers AS c JOIN orders AS o ON o.customer_id = c.id
    GROUP BY c.city;
CREATE TRIGGER customers_arrive AFTER INSERT ON customers BEGIN
    INSERT INTO arrivals VALUES (substr(NEW.created_at, 1, 10), 1)
    ON CONFLICT (day) DO UPDATE SET customers = customers + 1;
END;
"""

_TODAY = dt.date(2026, 1, 31)  # not the clock's: the same seed makes the same file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locale:
    """People of one place. Each name is (as written, in ASCII); a `#` in a pattern is a digit."""

    weight: int
    given: tuple[tuple[str, str], ...]
    family: tuple[tuple[str, str], ...]
    cities: tuple[str, ...]
    streets: tuple[str, ...]
    phone: str
    national: str
    family_first: bool = False
    cpf: bool = False


def _names(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (name.partition("=") for name in text.split())
    return tuple((written, ascii_form or written) for written, _, ascii_form in pairs)


_LOCALES = (
    _Locale(
        weight=45,
        cpf=True,
        given=_names(
            "Ana João=Joao José=Jose Antônio=Antonio Conceição=Conceicao Luíza=Luiza Vinícius=Vinicius Beatriz Caio Débora=Debora Érica=Erica Flávio=Flavio Íris=Iris Lúcia=Lucia Márcio=Marcio Otávio=Otavio Raí=Rai Simone Thaís=Thais Zoé=Zoe"
        ),
        family=_names(
            "Souza Silva Araújo=Araujo Gonçalves=Goncalves Conceição=Conceicao Magalhães=Magalhaes Simões=Simoes Nóbrega=Nobrega Ferrão=Ferrao Brandão=Brandao Sá=Sa Quintão=Quintao Barros Moura Assunção=Assuncao"
        ),
        cities=("São Paulo", "Belém", "Florianópolis", "Brasília", "Maceió", "Niterói"),
        streets=("Rua das Acácias, {}", "Av. São João, {} ap. 12", "Travessa da Conceição, {}"),
        phone="+55 11 9####-####",
        national="(11) 9####-####",
    ),
    _Locale(
        weight=10,
        given=_names("Inês=Ines Tomás=Tomas Afonso Matilde Gonçalo=Goncalo Leonor Simão=Simao"),
        family=_names("Guimarães=Guimaraes Patrício=Patricio Marçal=Marcal Falcão=Falcao Lopes"),
        cities=("Lisboa", "Évora", "Guimarães"),
        streets=("Rua do Século {}", "Praça da República {}, 2.º Esq."),
        phone="+351 91# ### ###",
        national="91# ### ###",
    ),
    _Locale(
        weight=10,
        given=_names(
            "Jürgen=Juergen Käthe=Kaethe Sören=Soeren Anneliese Björn=Bjoern Ute Günther=Guenther"
        ),
        family=_names(
            "Müller=Mueller Groß=Gross Weiß=Weiss Schröder=Schroeder Jäger=Jaeger Köhler=Koehler"
        ),
        cities=("München", "Köln", "Düsseldorf", "Görlitz"),
        streets=("Königstraße {}", "Am Weißen Stein {}"),
        phone="+49 151 ########",
        national="0151 ########",
    ),
    _Locale(
        weight=10,
        given=_names("प्रिया=priya राहुल=rahul अनीता=anita Lakshmi Arjun Meenakshi विक्रम=vikram"),
        family=_names("शर्मा=sharma Iyer पटेल=patel Banerjee गुप्ता=gupta Nair"),
        cities=("मुंबई", "Chennai", "Bengaluru"),
        streets=("{}, MG Road", "फ्लैट {}, गांधी नगर"),
        phone="+91 98### #####",
        national="098### #####",
    ),
    _Locale(
        weight=9,
        family_first=True,
        # 𠮷 and 𩸽 are written with four bytes in UTF-8 and two units in UTF-16.
        given=_names("花子=hanako 太郎=taro 美咲=misaki 翔=sho さくら=sakura ケンジ=kenji"),
        family=_names("𠮷田=yoshida 佐藤=sato 鈴木=suzuki 渡邉=watanabe 髙橋=takahashi 𩸽=hokke"),
        cities=("東京", "大阪", "札幌"),
        streets=("中央区銀座{}丁目", "北区梅田{}番地"),
        phone="+81 90-####-####",
        national="090-####-####",
    ),
    _Locale(
        weight=8,
        given=_names("Mary Siobhán=Siobhan DeShawn Renée=Renee Chloë=Chloe Robert"),
        family=_names("O'Neill=ONeill Smith-Jones=SmithJones García=Garcia Nguyễn=Nguyen Johnson"),
        cities=("Springfield", "San José", "Coeur d'Alene"),
        streets=("{} Main St", "{} Oak Ave, Apt #4"),
        phone="+1 212-555-01##",
        national="(212) 555-01##",
    ),
    _Locale(
        weight=8,
        given=_names(
            "Łukasz=Lukasz Zofia Wójciech=Wojciech Małgorzata=Malgorzata Świętosław=Swietoslaw"
        ),
        family=_names(
            "Żółć=Zolc Wiśniewska=Wisniewska Kowalczyk Dąbrowski=Dabrowski Błaszczyk=Blaszczyk"
        ),
        cities=("Łódź", "Kraków", "Gdańsk"),
        streets=("ul. Świętojańska {}", "al. Jerozolimskie {} m. 5"),
        phone="+48 601 ### ###",
        national="601 ### ###",
    ),
)

# Domains nobody can register (RFC 2606), one of them not in ASCII.
_DOMAINS = (
    "example.com",
    "example.com",
    "example.org",
    "example.net",
    "mail.example",
    "bücher.example",
)
_NOTES = (
    "prefers e-mail 📧",
    "VIP 🥇 – call before 18h ☎️",
    "moved in 2019; asked for a copy of the contract",
    "reclamação em aberto, não ligar",
    "👩‍👩‍👧‍👦 family plan 🏳️‍🌈",
    "line one\nline two\ttabbed",
    "100% 'quoted' \"text\"; -- not SQL",
)
_CARDS = (("400000", 16), ("555555", 16), ("222300", 16), ("378282", 15), ("601111", 16))

_Row = tuple[
    str,
    str,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str | None,
    str,
]


def build(path: Path, people: int = 5000, seed: int = 20260131) -> None:
    """
    Create the database at *path*, with *people* customers left in it.

    Raises:
        ConfigurationError: the file exists, or there would be nobody in it.
    """
    if people < 1:
        raise ConfigurationError("the demonstration needs at least one person")
    if path.exists():
        raise ConfigurationError(f"{path} exists already", hint="remove it, or name another file")
    draw = random.Random(seed)  # noqa: S311 - invented data has to be the same each time, not secret
    rows = _people(draw)
    departed = max(40, people // 12)
    with closing(sqlite3.connect(path)) as database:
        # The usual defaults, set here because some builds of SQLite have others: deleting
        # marks space as free and leaves what was in it.
        database.execute("PRAGMA secure_delete = OFF")
        database.execute("PRAGMA auto_vacuum = NONE")
        database.execute("PRAGMA foreign_keys = ON")
        database.executescript(_SCHEMA)
        with database:
            _insert(database, [next(rows) for _ in range(people + departed)], departed=departed)
            orders = (_order(draw, people + departed) for _ in range(2 * people))
            database.executemany(
                "INSERT INTO orders (customer_id, placed_at, status, cents) VALUES (?, ?, ?, ?)",
                orders,
            )
        with database:
            # Some in the middle leave free blocks inside pages still in use and gaps between
            # the ids; the last ones leave whole pages on the free list. Either way their
            # plaintext stays in the file until it is vacuumed.
            middle = range(3, people, max(2, people // (departed // 4)))[: departed // 4]
            database.executemany("DELETE FROM customers WHERE id = ?", [(id_,) for id_ in middle])
            database.execute("DELETE FROM customers WHERE id > ?", (people + len(middle),))


def _insert(database: sqlite3.Connection, rows: list[_Row], *, departed: int) -> None:
    rows[0] = (
        KNOWN_NAME,
        KNOWN_EMAIL,
        KNOWN_CPF,
        "+5511987654321",
        "Rua das Acácias, 42",
        "4111111111111111",
        "1984-05-12",
        "prefers e-mail 📧",
        "São Paulo",
        "2016-03-01T09:30:00Z",
    )
    # Among the last, so that the page it was on is free afterwards.
    gone = len(rows) - departed // 3
    rows[gone] = (DEPARTED_NAME, *rows[gone][1:])
    statement = "INSERT INTO customers (name, email, cpf, phone, address, card, born, notes, city, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    database.executemany(statement, rows)


def _people(draw: random.Random) -> Iterator[_Row]:
    places = [locale for locale in _LOCALES for _ in range(locale.weight)]
    # As digits: a CPF written in two ways is one CPF.
    used = {"".join(filter(str.isdigit, KNOWN_CPF))}
    number = 0
    while True:
        number += 1
        place = draw.choice(places)
        given, family = draw.choice(place.given), draw.choice(place.family)
        born = dt.date(1930, 1, 1) + dt.timedelta(days=draw.randrange(28000))
        created = _TODAY - dt.timedelta(days=draw.randrange(4000))
        yield (
            f"{family[0]} {given[0]}" if place.family_first else f"{given[0]} {family[0]}",
            _email(draw, given[1], family[1], number),
            _sometimes(draw, _spelt_cpf(draw, used)) if place.cpf else None,
            _sometimes(draw, _phone(draw, place), empty=0.03),
            _sometimes(
                draw, draw.choice(place.streets).format(draw.randrange(1, 3000)), empty=0.02
            ),
            _sometimes(draw, _card(draw), null=0.4, empty=0.01),
            _sometimes(draw, born.isoformat()),
            _sometimes(draw, draw.choice(_NOTES), null=0.5, empty=0.1),
            _sometimes(draw, draw.choice(place.cities), null=0.02, empty=0.02),
            f"{created.isoformat()}T{draw.randrange(24):02}:{draw.randrange(60):02}:00Z",
        )


def _sometimes(
    draw: random.Random, value: str, *, null: float = 0.05, empty: float = 0.0
) -> str | None:
    chance = draw.random()
    if chance < null:
        return None
    return "" if chance < null + empty else value


def _email(draw: random.Random, given: str, family: str, number: int) -> str:
    # The number keeps addresses apart however they are spelt.
    address = f"{given}.{family}{number}@{draw.choice(_DOMAINS)}"
    style = draw.random()
    if style < 0.05:
        return address.upper().replace("BÜCHER", "bücher")
    if style < 0.1:
        return address.replace("@", "+shop@")
    return address if style < 0.25 else address.lower()


def _spelt_cpf(draw: random.Random, used: set[str]) -> str:
    while (cpf := _cpf(draw)) in used:
        pass
    used.add(cpf)
    style = draw.random()
    if style < 0.6:
        return f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"
    if style < 0.9:
        return cpf
    return f"{cpf[:3]} {cpf[3:6]} {cpf[6:9]} {cpf[9:]}" if style < 0.95 else f"{cpf[:9]}-{cpf[9:]}"


def _cpf(draw: random.Random) -> str:
    digits = [draw.randrange(10) for _ in range(9)]
    digits[0] = digits[0] or 1  # never all zeros
    for _ in range(2):
        weighted = sum(
            digit * weight for digit, weight in zip(reversed(digits), range(2, 12), strict=False)
        )
        digits.append(weighted * 10 % 11 % 10)
    return "".join(map(str, digits))


def _card(draw: random.Random) -> str:
    prefix, length = draw.choice(_CARDS)
    digits = [int(digit) for digit in prefix] + [
        draw.randrange(10) for _ in range(length - len(prefix) - 1)
    ]
    doubled = [
        divmod(2 * digit, 10) if place % 2 == 0 else (0, digit)
        for place, digit in enumerate(reversed(digits))
    ]
    number = "".join(map(str, digits)) + str(-sum(map(sum, doubled)) % 10)
    return (
        " ".join(number[i : i + 4] for i in range(0, length, 4)) if draw.random() < 0.3 else number
    )


def _phone(draw: random.Random, place: _Locale) -> str:
    pattern = place.national if draw.random() < 0.1 else place.phone
    number = "".join(str(draw.randrange(10)) if char == "#" else char for char in pattern)
    if pattern is place.phone and draw.random() < 0.8:
        return "".join(char for char in number if char == "+" or char.isdigit())
    return number


def _order(draw: random.Random, customers: int) -> tuple[int, str, str, int]:
    placed = _TODAY - dt.timedelta(days=draw.randrange(2000))
    return (
        draw.randrange(1, customers + 1),
        placed.isoformat(),
        draw.choice(("paid", "sent", "returned")),
        draw.randrange(199, 250_000),
    )
