# SPDX-License-Identifier: Apache-2.0
"""The evidence says by which policy a process works, where that is new to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.audit.governing import PolicyChanged
from lacre.evidence import policy_met, sequence_once, stamp_of
from lacre.policy.digests import digest_of
from lacre.policy.giving import gained, given_by
from lacre.policy.loading import parse_policy
from lacre.sinks.jsonl import JsonLinesSink
from lacre.stores.log.opening import open_log
from lacre.stores.log.sink import LogSink


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


CLERK = "classes.pii.rights.clerk: decrypt"


def test_a_policy_says_what_it_gives_that_the_one_before_did_not(home: Path) -> None:
    """A role's new right is said; taking it away, a change that gives nothing, and the first policy say none."""
    text = (home / "lacre.toml").read_text("utf-8")
    clerk = text.replace("[classes.pii]\n", '[classes.pii]\nrights.clerk = ["decrypt"]\n')
    purposeful = text.replace("env =", 'purposes = ["test"]\nenv =')
    for changed in (text, clerk, text, purposeful, text):
        (home / "lacre.toml").write_text(changed, encoding="utf-8")
        look(home)
    told = [each["widened"] for each in policies(home)][-5:]

    assert told == [[], [CLERK], [], [], ["purposes: any"]]
    assert CLERK in policies(home)[-4]["gives"]


def test_a_policy_is_compared_with_that_of_the_same_service(home: Path) -> None:
    """Services that share a log, or a file, do not take turns in widening each other's policy."""
    text = (home / "lacre.toml").read_text("utf-8")
    clerk = text.replace("[classes.pii]\n", '[classes.pii]\nrights.clerk = ["decrypt"]\n')
    told: list[list[tuple[str, ...]]] = []
    for kept in ("file", "log"):
        told.append([])
        for service, policy in (("one", clerk), ("two", text), ("one", clerk), ("two", clerk)):
            settings = parse_policy(policy, {"LACRE_SERVICE": service})
            log, stamp = open_log(settings, home), stamp_of(settings)
            sink: Any = JsonLinesSink(home / "x", stamp) if kept == "file" else LogSink(log, stamp)
            met = policy_met(sink, settings)
            sink.append(met)
            sink.close()
            sequence_once(settings, home, log, stamp)
            told[-1] += [each.widened for each in met if isinstance(each, PolicyChanged)]

    assert told == [[(), (), (CLERK,)]] * 2


_BEFORE = ("classes.a.columns: t.x", "classes.a.purposes: any", "principals.svc:x: app", "roles.app.purposes: kyc", "classes.a.rights.app: decrypt", "classes.b.rights.app: decrypt", "classes.b.rights.dba: decrypt", "columns.main.t.x: a", "columns.main.t.y: b", "purposes: kyc")  # fmt: skip


@pytest.mark.parametrize(
    ("removed", "added", "widened"),
    [
        ((), ("classes.a.rights.dba: mask",), True),
        ((), ("classes.c.rights.app: search",), True),
        ((), ("purposes: sale",), True),
        (("purposes: kyc",), ("purposes: any",), True),
        (("columns.main.t.x: a",), ("columns.main.t.x: b",), True),  # which dba reads
        (("columns.main.t.y: b",), ("columns.main.t.y: a",), False),
        ((), ("columns.main.t.z: a",), False),
        ((), ("classes.a.mask: email",), True),
        (("classes.b.rights.dba: decrypt", "purposes: kyc"), (), False),
        ((), ("principals.svc:x: dba",), True),
        ((), ("principals.svc:y: app",), True),
        (("principals.svc:x: app",), ("principals: any",), True),
        ((), ("classes.a.columns: t.y",), True),
        ((), ("classes.b.on_grant.app: search",), True),
        ((), ("classes.a.break_glass: decrypt",), True),
        (("roles.app.purposes: kyc",), ("roles.app.purposes: any",), True),
        (("roles.app.purposes: kyc",), ("roles.app.purposes: none",), False),
        (("classes.a.purposes: any",), ("classes.a.purposes: kyc",), False),
        (("classes.a.rights.app: decrypt",), ("classes.a.on_grant.app: decrypt",), False),
        (("classes.a.rights.app: decrypt",), ("classes.a.rights.app: mask",), False),
        ((), ("roles.new.purposes: kyc",), False),
        (("columns.main.t.x: a",), (), False),
    ],
)  # fmt: skip
def test_what_widens(removed: tuple[str, ...], added: tuple[str, ...], widened: bool) -> None:
    """What somebody gains by a change, and not what anybody loses, or what is said in other words."""
    now = tuple(sorted({*_BEFORE, *added} - {*removed}))

    assert gained(_BEFORE, now) == (added if widened else ())
    assert gained(["principals: any"], ["principals.svc:x: app"]) == ()


def test_what_a_policy_gives_is_said_whole(home: Path) -> None:
    """Roles of principals, rights, what takes a grant, purposes, columns: each is one sentence."""
    text = (home / "lacre.toml").read_text("utf-8")
    given = given_by(parse_policy(text, {}))
    more = text.replace("[classes.pii]\n", '[classes.pii]\ncolumns = ["customers.cpf"]\npurposes = ["kyc"]\nrights.clerk = ["mask"]\n')  # fmt: skip
    more += '\n[principals."svc:kyc"]\nroles = ["app"]\n[columns."customers.cpf"]\nclass = "pii"\n'
    changed = set(given_by(parse_policy(more, {})))

    assert {"principals: any", "purposes: any", "classes.pii.purposes: any", "roles.app.purposes: any", "classes.pii.rights.app: decrypt"} <= set(given)  # fmt: skip
    assert changed - set(given) == {
        "classes.pii.columns: customers.cpf",
        "classes.pii.purposes: kyc",
        "classes.pii.rights.clerk: mask",
        "columns.main.customers.cpf: pii",
        "principals.svc:kyc: app",
        "roles.clerk.purposes: any",
    }
    assert gained(given, sorted(changed)) == ("classes.pii.rights.clerk: mask",)
