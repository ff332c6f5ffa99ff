# SPDX-License-Identifier: Apache-2.0
"""
Decisions a second on one core, by a policy with principals, roles, purposes, grants and 40 classes.

    PYTHONPATH=. python benchmarks/decisions.py [--rounds N] [--decisions N]

*new* is a decision for somebody who has just begun to act, for which nothing is kept; *kept* the
same again in the block, as every look after the first is; *granted* one that a grant gives, which
is never kept; *explained* one with its chain of rules. The bar is of *new*. Writes
`results/<date>-decisions.json`; ends with status 1 where it is missed.
"""

import argparse
import sys
from collections.abc import Callable

from measuring import machine, rounds, say, table, timed, verdict, write_results

from lacre.context import Acting
from lacre.policy.decisions import Policy
from lacre.policy.grants.grant import Grant
from lacre.policy.loading import parse_policy
from lacre.policy.model import Right

BAR = 300_000  # decisions a second
CLASSES = 40
PRINCIPALS = 200

HEAD = """
app = "shop"
env = "test"
service = "api"
purposes = ["kyc", "payout", "support", "audit"]
[key_store]
url = "sqlite:///keys.db"
[local]
directory = "keystore"
identity = "app.key"
signers = ["lacre-public-1 operator a b"]
[audit]
path = "audit.jsonl"
[approvers.ana]
identity = "a"
[approvers.rui]
identity = "b"
[roles.support]
purposes = ["support", "kyc"]
[roles.finance]
[roles.compliance]
"""


class Always:
    """A book in which the grant that is asked for stands."""

    grant = Grant(
        id="g", principal="p", class_="c", right="decrypt", purpose="kyc", not_before=0, until=1e12
    )

    def effective(self, acting: Acting, class_: str, right: str) -> Grant:
        return self.grant


def policy() -> Policy:
    """Return the policy of the benchmark."""
    lines = [HEAD]
    for number in range(CLASSES):
        lines += [
            f'[classes.c{number}]\nfields = "local://c{number}"\npurposes = ["kyc", "support"]',
            'rights.finance = ["encrypt", "decrypt"]\nrights.support = ["mask"]',
        ]
        if number % 2:
            lines.append('on_grant.support = ["decrypt"]')
    lines += [
        f'[principals."svc:{number}"]\nroles = ["support", "finance"]'
        for number in range(PRINCIPALS)
    ]
    return Policy(parse_policy("\n".join(lines), {}), grants=Always())


def operations(count: int) -> dict[str, Callable[[], None]]:
    """Return what is measured: *count* decisions each."""
    decided = policy()
    roles = frozenset({"finance", "support"})
    support = frozenset({"support"})
    people = [Acting(f"svc:{n % PRINCIPALS}", roles, "kyc", "t") for n in range(count)]
    few = [Acting(f"svc:{n}", roles, "kyc", "t") for n in range(PRINCIPALS)]
    asked = [f"c{2 * (n % (CLASSES // 2))}" for n in range(count)]
    granted = [f"c{2 * (n % (CLASSES // 2)) + 1}" for n in range(count)]
    helpers = [Acting(f"svc:{n}", support, "support", "t") for n in range(PRINCIPALS)]

    def new() -> None:
        for acting, class_ in zip(people, asked, strict=True):
            decided.decide(acting, class_, Right.DECRYPT)
            acting.decisions.clear()

    def kept() -> None:
        for number, class_ in enumerate(asked):
            decided.decide(few[number % PRINCIPALS], class_, Right.DECRYPT)

    def by_grant() -> None:
        for number, class_ in enumerate(granted):
            decided.decide(helpers[number % PRINCIPALS], class_, Right.DECRYPT)

    def explained() -> None:
        for acting, class_ in zip(people, asked, strict=True):
            decided.explain(acting, class_, Right.DECRYPT)

    return {"new": new, "kept": kept, "granted": by_grant, "explained": explained}


def main() -> int:
    arguments = argparse.ArgumentParser(description="decisions a second")
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--decisions", type=int, default=100_000, help="of a round")
    given = arguments.parse_args()
    say(f"{given.rounds} rounds of {given.decisions:,} decisions each")
    measured = {
        name: (lambda operation=operation: timed(operation, given.decisions))
        for name, operation in operations(given.decisions).items()
    }
    figures = rounds(measured, given.rounds)
    speeds = {name: round(1 / timings.median) for name, timings in figures.items()}
    met = speeds["new"] >= BAR
    print(
        table(
            ("decisions a second, one core", "measured", "bar", ""),
            [
                (name, f"{speed:,}", f"{BAR:,}" if name == "new" else "", verdict(met if name == "new" else None))
                for name, speed in speeds.items()
            ],
        )
    )  # fmt: skip
    path = write_results(
        "decisions",
        {
            "machine": machine(("pydantic",)),
            "classes": CLASSES,
            "principals": PRINCIPALS,
            "decisions": given.decisions,
            "a_second": speeds,
            "bar": BAR,
            "met": met,
        },
    )
    say(f"written: {path.name}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
