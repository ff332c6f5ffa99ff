# SPDX-License-Identifier: Apache-2.0
"""The schema of lacre.toml: what loads is valid, what is mistyped is not, and one text says what a setting means."""

import json
import tomllib
from pathlib import Path

import jsonschema_rs
import pytest

from lacre.cli.initialise import initialise
from lacre.policy.loading import OVERLAY
from lacre.policy.schema import reference, schema, settings
from tests.markdown import blocks
from tests.policy.test_governance import BEGIN

DOCS = Path(__file__).parents[2] / "docs"
VALID = jsonschema_rs.validator_for(schema())
(EXAMPLE,) = [
    block.text
    for block in blocks((DOCS / "reference/lacre-toml.md").read_text("utf-8"))
    if block.language == "toml"
]


def test_the_published_schema_is_the_models() -> None:
    """What editors get, and the reference's table, are made anew by scripts/write-policy-reference."""
    assert json.loads((DOCS / "reference/lacre.schema.json").read_text("utf-8")) == schema()
    assert reference() in (DOCS / "reference/lacre-toml.md").read_text("utf-8")


def test_every_variable_is_a_settings() -> None:
    """Each variable of the environment stands in the row of one setting."""
    assert {each.variable for each in settings() if each.variable} == set(OVERLAY)


@pytest.mark.parametrize("text", [BEGIN, EXAMPLE])
def test_what_loads_is_valid(text: str) -> None:
    """The example of the page, and a policy with every table of governance."""
    VALID.validate(tomllib.loads(text))


def test_what_is_made_is_valid(tmp_path: Path) -> None:
    """What `lacre init` writes."""
    initialise(tmp_path)

    VALID.validate(tomllib.loads((tmp_path / "lacre.toml").read_text("utf-8")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('service = "app"', "service = 7"),
        ("rights.finance =", "rigths.finance ="),
        ('purpose = "data"', 'purpose = "date"'),
        ('services = ["rds", "s3"]', 'services = ["rds", "s4"]'),
        ('duties = ["administer"]', 'duties = ["rule"]'),
        ("[grants.break_glass]", "[grants.break_glass]\nlongest = 3600"),
        ('deletion_window = "30 days"', 'deletion_window = "30d"'),
        ('kms_key = "aws-kms://ap-south-1/alias/chandlery-{env}"\n', ""),
    ],
)
def test_what_is_mistyped_is_not_valid(old: str, new: str) -> None:
    """An editor marks what the loader would refuse."""
    assert old in BEGIN

    assert not VALID.is_valid(tomllib.loads(BEGIN.replace(old, new, 1)))


def test_every_setting_has_its_words() -> None:
    """Each property that a person can write is described, by the words of the reference."""
    bare = [
        (table, name)
        for table, described in [("", schema()), *schema()["$defs"].items()]
        for name, setting in described.get("properties", {}).items()
        if "description" not in setting and not {"$ref", "additionalProperties"} & setting.keys()
    ]

    # Tables that the row of the setting which holds them describes.
    whole = {"WaiverSettings", "FileAnchorSettings", "DatabaseAnchorSettings", "S3AnchorSettings"}
    assert {table for table, _ in bare} <= whole
    assert all(each.means and each.takes for each in settings())
