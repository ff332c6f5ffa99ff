# SPDX-License-Identifier: Apache-2.0
"""`lacre policy explain` and `matrix`: the chain of rules, and the table that the same engine fills."""

import json
from pathlib import Path

import pytest

from lacre.policy.access import matrix
from lacre.policy.decisions import Policy
from lacre.policy.loading import parse_policy
from tests.cli.conftest import Run
from tests.policy.test_governance import BEGIN


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "lacre.toml").write_text(BEGIN)
    return tmp_path


def test_a_chain_of_rules_is_told(cli: Run) -> None:
    """Every link, in order, and the sentence that it comes to."""
    told = cli("policy", "explain", "--who", "svc:billing", "--field", "suppliers.ifsc_code", "--purpose", "payout")  # fmt: skip

    assert told.stdout.split("\n")[1:6] == [
        line.ljust(len(told.stdout.split("\n")[1]))
        for line in (
            "principal  yes  principals: 'svc:billing'",
            "purpose    yes  purposes: 'payout'",
            "purpose    yes  classes.banking.purposes: 'payout'",
            "role       yes  roles: 'finance'",
            "right      yes  classes.banking.rights.finance: decrypt",
        )
    ]
    assert told.stderr == "svc:billing may decrypt suppliers.ifsc_code for payout\n"


@pytest.mark.parametrize(
    ("who", "purpose", "more", "said"),
    [
        ("agent:bia", "support", (), "agent:bia sees masks of suppliers.ifsc_code for support\n"),
        ("agent:bia", "kyc", (), "agent:bia may not decrypt suppliers.ifsc_code for kyc\n"),
        ("stranger", "payout", (), "stranger may not decrypt suppliers.ifsc_code for payout\n"),
        ("svc:billing", "payout", ("--right", "search"), "svc:billing may not search suppliers.ifsc_code for payout\n"),
        ("svc:billing", "payout", ("--role", "compliance"), "svc:billing may not decrypt suppliers.ifsc_code for payout\n"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_it_comes_to(
    cli: Run, who: str, purpose: str, more: tuple[str, ...], said: str
) -> None:
    """May, may not, or sees masks."""
    assert cli("policy", "explain", "--who", who, "--field", "suppliers.ifsc_code", "--purpose", purpose, *more).stderr == said  # fmt: skip


def test_a_program_reads_the_chain(cli: Run) -> None:
    """The same links as data, with the outcome and the rule that evidence would hold."""
    told = json.loads(cli("policy", "explain", "--who", "nobody", "--class", "pii", "--purpose", "kyc", "--json").stdout)  # fmt: skip

    assert (told["outcome"], told["rule"]) == ("denied", "principals: nobody is called 'nobody'")
    assert told["chain"] == [{"asked": "principal", "rule": told["rule"], "passed": False}]


def test_a_field_of_no_class_is_refused(cli: Run) -> None:
    """What lacre.toml does not name is asked for."""
    unknown = cli("policy", "explain", "--who", "x", "--field", "a.b", "--purpose", "kyc")
    neither = cli("policy", "explain", "--who", "x", "--purpose", "kyc")

    assert "does not say of which class a.b is" in unknown.stderr
    assert unknown.returncode != 0 != neither.returncode


def test_the_matrix_is_what_is_decided(cli: Run) -> None:
    """A row for each principal with a role, a column for each class, a table for each purpose."""
    told = json.loads(cli("policy", "matrix", "--json").stdout)
    support = {row["who"]: row["classes"] for row in told if row["purpose"] == "support"}

    assert {row["purpose"] for row in told} == {"kyc", "payout", "support"}
    assert set(support) == {"svc:billing", "svc:kyc", "agent:*"}
    assert support["agent:*"]["banking"] == {
        "rights": {},
        "masked": "classes.banking.rights.support: mask",
        "by_grant": ["decrypt"],
        "denied": None,
    }
    assert support["svc:kyc"]["pii"]["rights"]["search"] == "classes.pii.rights.compliance: search"
    shown = cli("policy", "matrix", "--purpose", "support").stdout
    assert "agent:*      masks, decrypt by grant  -" in shown


def test_without_principals_roles_are_the_rows(cli: Run, home: Path) -> None:
    """A policy that declares nobody says so, and shows what each role may do."""
    text = BEGIN[: BEGIN.index("[governance]")] + BEGIN[BEGIN.index("[approvers") : BEGIN.index("[keys.")]  # fmt: skip
    (home / "lacre.toml").write_text(text)
    rows = matrix(Policy(parse_policy(text, {})), "payout")
    told = cli("policy", "matrix", "--purpose", "payout")

    assert [row.who for row in rows] == ["compliance", "finance", "support"]
    assert "declares no principals" in told.stderr


def test_a_check_names_lines_and_what_to_do(cli: Run, home: Path) -> None:
    """An error exits with 3 and stops other commands; a warning with 10, where that is asked for."""
    sound = cli("policy", "check", "--strict")
    text = BEGIN.replace('purpose = "data"', 'purpose = "data"\nrotation = "never"')
    (home / "lacre.toml").write_text(text)
    warned, strict = cli("policy", "check"), cli("policy", "check", "--strict")
    (home / "lacre.toml").write_text(text.replace('administrators = ["role:devops"]', 'administrators = ["svc:billing"]'))  # fmt: skip
    wrong, found = cli("policy", "check"), json.loads(cli("policy", "check", "--json").stdout)
    other = cli("policy", "matrix")

    assert (sound.returncode, sound.stderr) == (0, "nothing found\n")
    assert (warned.returncode, strict.returncode, wrong.returncode) == (0, 10, 3)
    line = 1 + text[: text.index("[keys.storage]")].count("\n")
    assert str(line) in warned.stdout.split("\n")[1]
    assert "rotation-off" in warned.stdout
    assert {each["rule"] for each in found["found"]} >= {"administrator-uses", "rotation-off"}
    assert other.returncode == 3
    assert "it administers KMS keys and reads or writes banking" in other.stderr
