# SPDX-License-Identifier: Apache-2.0
"""`lacre audit whose`: what the evidence says of a person, while anybody can tell."""

import json
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli.program import app
from tests.jobs.erasing import Shop

PERSON = "maria@example.org"


def asked(home: Path, *more: str) -> tuple[int, str, str]:
    arguments = ["audit", "whose", "--subject", PERSON, "--config", str(home / "lacre.toml")]
    done = CliRunner().invoke(app, [*arguments, *more])
    return done.exit_code, done.stdout, repr(done.exception)


def test_the_events_of_a_person_are_found_until_they_are_shredded(home: Path) -> None:
    """By their pseudonym, which the key store tells and a shred erases: then the same entries are nobody's."""
    shop = Shop.made(home, more="")
    shop.add(PERSON, "somebody else")
    shop.read(PERSON)
    with Lacre.load(shop.config, environ={}) as lacre:
        pseudonym = lacre.pseudonym(PERSON)
    deadline = time.monotonic() + 90
    told: dict[str, Any] = {"events": []}
    while time.monotonic() < deadline and len(told["events"]) < 5:
        code, out, _ = asked(home, "--json")
        assert code == 0
        told = json.loads(out)
    shown = asked(home)[1]
    shop.shred(PERSON)
    code, _, error = asked(home)

    assert told["subject"] == pseudonym
    assert {each["action"] for each in told["events"]} == {"encrypt", "look"}
    assert all(pseudonym in each["subjects"] for each in told["events"])
    assert PERSON not in json.dumps(told)
    assert str(pseudonym) in shown
    assert code != 0
    assert "KeyDestroyed" in error
