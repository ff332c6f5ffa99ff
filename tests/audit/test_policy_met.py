# SPDX-License-Identifier: Apache-2.0
"""The evidence says by which policy a process works, where that is new to it."""

import json
from pathlib import Path
from typing import Any

from lacre import Lacre
from lacre.policy.digests import digest_of
from lacre.policy.loading import parse_policy


def policies(home: Path) -> list[dict[str, Any]]:
    found = map(json.loads, (home / "lacre" / "audit.jsonl").read_text("utf-8").splitlines())
    return [each for each in found if each["action"] == "policy"]


def look(home: Path) -> str:
    """A process that looks at a value; the digest of its policy."""
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("pii", table="people", column="cpf", type=str)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            box.decrypt(box.encrypt("x", row=1), row=1)
        return digest_of(lacre.policy.file)


def test_a_policy_is_told_of_once(home: Path) -> None:
    """The first process that works by it, and no other; a change, and a change back, names the one before."""
    first = look(home)
    look(home)
    text = (home / "lacre.toml").read_text("utf-8")
    widened = text.replace("[classes.pii]\n", '[classes.pii]\nrights.clerk = ["decrypt"]\n')
    (home / "lacre.toml").write_text(widened, encoding="utf-8")
    second = look(home)
    (home / "lacre.toml").write_text(text, encoding="utf-8")
    look(home)
    told = [(each["policy"], each["before"]) for each in policies(home)][-3:]

    assert told == [(first, ""), (second, first), (first, second)]


def test_a_policy_is_told_of_before_what_is_done_by_it(home: Path) -> None:
    """Its event precedes the looks that it allowed."""
    text = (home / "lacre.toml").read_text("utf-8")
    changed = text.replace("[classes.pii]\n", '[classes.pii]\nrights.clerk = ["decrypt"]\n')
    (home / "lacre.toml").write_text(changed, encoding="utf-8")
    look(home)
    lines = (home / "lacre" / "audit.jsonl").read_text("utf-8").splitlines()
    actions = [json.loads(line)["action"] for line in lines]

    last = {action: number for number, action in enumerate(actions)}
    assert last["policy"] < last["look"]


def test_a_digest_is_of_rules_and_of_no_password(home: Path) -> None:
    """Where evidence and keys are kept is not in it, so nobody guesses a password from it; what is allowed is."""
    text = (home / "lacre.toml").read_text("utf-8")
    given = digest_of(parse_policy(text, {}))
    moved = parse_policy(text, {"LACRE_KEY_STORE__URL": "postgresql+psycopg://a:b@c/d"})
    widened = text.replace("[classes.pii]\n", '[classes.pii]\nrights.clerk = ["decrypt"]\n')

    assert digest_of(moved) == given
    assert digest_of(parse_policy(widened, {})) != given
