# SPDX-License-Identifier: Apache-2.0
"""Each lint finds what it is for, says where, and leaves a sound policy alone."""

import datetime as dt
import re
from pathlib import Path

import pytest
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.errors import ConfigurationError
from lacre.policy import lints
from lacre.policy.lints.finding import Level
from lacre.policy.lints.lint import Linted, lint
from lacre.policy.loading import load_policy, other_environments, parse_policy
from lacre.policy.places import Places
from lacre.sqlalchemy import encrypted
from lacre.sqlalchemy.classified import unencrypted
from tests.policy.test_governance import BEGIN

TODAY = dt.date(2026, 11, 23)

CHANGES = [
    ("no-principals", "warning", "principals", None, None),
    ("unreadable-class", "warning", "classes.banking", 'rights.finance = ["encrypt", "decrypt"]\nrights.support = ["mask"]\non_grant.support = ["decrypt"]', 'rights.finance = ["encrypt", "search"]\nrights.support = ["mask"]'),
    ("unused-purpose", "warning", "purposes", "break_glass = true\nrights.compliance", 'break_glass = true\npurposes = ["payout", "support"]\nrights.compliance'),
    ("administrator-uses", "error", "principals.svc:billing", 'administrators = ["role:devops"]', 'administrators = ["role:devops", "svc:billing"]'),
    ("administrator-uses", "error", "principals.svc:kyc", "role/kyc", "role/devops"),
    ("administrator-uses", "error", "principals.role:devops", 'producers = ["svc:kyc"]', 'producers = ["role:devops"]'),
    ("duties-apart", "error", "principals.role:devops", 'duties = ["administer"]', 'duties = ["administer", "provision"]'),
    ("duties-apart", "error", "principals.svc:kyc", 'roles = ["compliance"]', 'roles = ["compliance"]\nduties = ["provision"]'),
    ("shared-credential", "warning", "principals.svc:kyc", "role/kyc", "role/billing"),
    ("disjoint-roles", "warning", "principals.svc:billing", 'roles = ["finance"]', 'roles = ["finance", "compliance"]'),
    ("wildcard", "error", "principals.agent:*", '[principals."agent:*"]', '[principals."agent:*"]\nopenbao = "agents"'),
    ("wildcard", "error", "principals.a*", '[principals."agent:*"]', '[principals."a*"]\nroles = ["support"]\n[principals."agent:*"]'),
    ("deletion-window", "warning", "classes.pii.fields", 'deletion_window = "30 days"\n', ""),
    ("deletion-window", "warning", "keys.storage", 'purpose = "data"', 'purpose = "data"\ndeletion_window = "7 days"'),
    ("rotation-off", "warning", "keys.storage", 'purpose = "data"', 'purpose = "data"\nrotation = "never"'),
    ("rotation-off", "warning", "departments.finance", 'deletion_window = "30 days"', 'deletion_window = "30 days"\nrotation = "never"'),
    ("rotation-off", "warning", "classes.pii", "break_glass = true\nrights", 'break_glass = true\nrotate_after = "never"\nrights'),
    ("short-retention", "warning", "audit.retention", "[audit]", '[audit]\nretention = "2555 days"'),
    ("key-of-two-environments", "error", "keys.storage", 'kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}"', 'kms_key = "aws-kms://ap-south-1/123456789012/key/11111111-1111-4111-8111-111111111111"'),
    ("key-of-two-purposes", "warning", "departments.finance", "chandlery-{env}-finance", "chandlery-{env}"),
    ("key-region", "error", "classes.pii", "[classes.pii]", '[stores.main]\nregion = "eu-west-1"\n[classes.pii]'),
]  # fmt: skip


def linted(text: str) -> Linted:
    file = parse_policy(text, {})
    return lint(file, today=TODAY, others=other_environments(file, text, {}))


def changed(old: str | None, new: str | None) -> str:
    if old is None or new is None:  # nobody declared, nobody named
        text = BEGIN[: BEGIN.index("[principals")] + BEGIN[BEGIN.index("[approvers") : BEGIN.index("[keys.")]  # fmt: skip
        return text.replace('administrators = ["role:devops"]\nauditors = ["role:security"]\n', "")
    assert BEGIN.count(old) >= 1, old
    text = BEGIN.replace(old, new, 1)
    if "eu-west-1" in new:
        text = text.replace('[residency]\nregions = ["ap-south-1"]', '[residency]\nregions = ["ap-south-1", "eu-west-1"]')  # fmt: skip
    if "123456789012/key" in new:  # both environments in one account
        text = text.replace('account = "210987654321"', 'account = "123456789012"')
    return text


def test_a_sound_policy_has_no_finding() -> None:
    """Nothing is said of a file that is as it should be."""
    assert linted(BEGIN) == Linted(found=(), accepted=())


@pytest.mark.parametrize(("rule", "level", "where", "old", "new"), CHANGES)
def test_a_lint_finds_what_it_is_for(
    rule: str, level: str, where: str, old: str | None, new: str | None
) -> None:
    """One change, one kind of finding, at its place."""
    text = changed(old, new)
    found = [each for each in linted(text).found if each.rule == rule]

    assert (level, where) in {(str(each.level), each.where) for each in found}
    assert all(each.sentence and each.hint for each in found)


def test_every_lint_is_tried() -> None:
    """No lint is without a change that fires it."""
    folder = Path(lints.__file__).parent
    named = {
        rule
        for path in folder.glob("*.py")
        for rule in re.findall(r'rule="([a-z-]+)"', path.read_text("utf-8"))
    }

    assert named == {rule for rule, *_ in CHANGES}


@pytest.mark.parametrize(
    ("rule", "where", "old", "new"),
    [(rule, where, old, new) for rule, level, where, old, new in CHANGES if level == "error"],
)
def test_an_error_stops_the_whole_file(
    tmp_path: Path, rule: str, where: str, old: str, new: str
) -> None:
    """A file with an error is not loaded, and one in which it is waived is."""
    path = tmp_path / "lacre.toml"
    path.write_text(changed(old, new))
    with pytest.raises(ConfigurationError) as refused:
        load_policy(path, {})
    waiver = f'[[waivers]]\nof = "{{}}"\nfinding = "{rule}"\nreason = "reviewed in SEC-17 by two people"\n'
    places = {each.where for each in linted(changed(old, new)).errors}
    path.write_text(changed(old, new) + "".join(waiver.format(each) for each in places))

    assert "lacre policy check" in (refused.value.hint or "")
    assert where in places
    assert load_policy(path, {}).app == "chandlery"


def test_a_waiver_ends_and_says_why() -> None:
    """What is accepted is told with its reason, and counts again after its day."""
    waiver = '[[waivers]]\nof = "keys.storage"\nfinding = "rotation-off"\nreason = "imported material, until 2027"\nuntil = 2026-11-22\n'
    text = changed('purpose = "data"', 'purpose = "data"\nrotation = "never"')
    over, held = linted(text + waiver), linted(text + waiver.replace("2026-11-22", "2026-11-23"))

    assert [each.rule for each in over.found] == ["rotation-off"]
    assert [(each.rule, why) for each, why in held.accepted] == [("rotation-off", "imported material, until 2027")]  # fmt: skip
    assert held.found == ()


def test_an_operator_with_a_local_keystore_does_everything() -> None:
    """Duties are apart where a key service keeps them apart: not in an embedded keystore."""
    text = changed('duties = ["administer"]\naws = ["arn:aws:iam::123456789012:role/devops"]', 'duties = ["administer", "provision", "seal"]')  # fmt: skip

    assert linted(text).found == ()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    pan_number: Mapped[str] = encrypted("banking")


class Supplier(Base):
    __tablename__ = "suppliers"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_number: Mapped[str] = mapped_column(String)
    ifsc_code: Mapped[str] = mapped_column(String)


def test_a_column_of_a_class_that_is_not_encrypted() -> None:
    """A column that lacre.toml puts into a class is an error where the model holds it in clear, or not at all."""
    file = parse_policy(BEGIN, {})
    found = unencrypted(file, Base)
    text = BEGIN.replace('"suppliers.ifsc_code"', '"suppliers.ifsc"')

    assert {(each.rule, each.where, each.level) for each in found} == {
        ("unencrypted-column", "suppliers.account_number", Level.ERROR),
        ("unencrypted-column", "suppliers.ifsc_code", Level.ERROR),
        ("another-class", "classes.pii.columns", Level.ERROR),
    }
    assert ("unknown-column", "classes.banking.columns") in {
        (each.rule, each.where) for each in unencrypted(parse_policy(text, {}), Base)
    }


PLACED = '''app = "x"
# a comment
[classes."a.b"]
rights = { app = [
  "decrypt",
] }
about = """
[not.a.table]
app = 1
"""
[[waivers]]
of = "1"
[[waivers]]
of = "2"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("app",), 1),
        (("classes",), 3),
        (("classes", "a.b"), 3),
        (("classes", "a.b", "rights"), 4),
        (("classes", "a.b", "rights", "app", 0), 4),
        (("classes", "a.b", "about"), 7),
        (("waivers", 1, "of"), 14),
        (("waivers", 0, "until"), 11),
        (("app", "more"), 1),
        (("nothing",), None),
    ],
)
def test_lines_of_settings(path: tuple[str | int, ...], line: int | None) -> None:
    """A setting's line, or that of the nearest thing around it that is written."""
    assert Places(PLACED).line(path) == line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('service = "app"', "service = 7", "lacre.toml:4: service: "),
        ("rights.finance =", "rigths.finance =", ": classes.banking.rigths: there is no such setting"),
        ('users = ["svc:billing"]', 'users = ["x"]', ": keys.storage: there is no principal 'x'"),
    ],
)  # fmt: skip
def test_errors_point_at_a_line(old: str, new: str, said: str) -> None:
    """What is wrong is said with the file and the line on which it stands."""
    text = BEGIN.replace(old, new)
    with pytest.raises(ConfigurationError) as refused:
        parse_policy(text, {})
    at = str(refused.value).split(":")[1]

    assert said in str(refused.value)
    assert int(at) == (1 + text[: text.index(new)].count("\n") if "keys" not in said else 1 + text[: text.index("[keys.storage]")].count("\n"))  # fmt: skip


def test_errors_of_the_environment_name_the_variable() -> None:
    """What a variable says is not looked for in the file."""
    with pytest.raises(
        ConfigurationError, match="the environment variable LACRE_CACHE__AGE: cache"
    ):
        parse_policy(BEGIN, {"LACRE_CACHE__AGE": "soon"})
