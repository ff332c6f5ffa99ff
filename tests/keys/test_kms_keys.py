# SPDX-License-Identifier: Apache-2.0
"""The names of KMS keys: what is one, what is a label, what a label was pinned to."""

import pytest

from lacre.errors import ConfigurationError
from lacre.keys.kms_keys import check_kms_key, expanded, is_alias, pinned, scheme_of

KEY = "aws-kms://eu-central-1/111122223333/key/0a1b2c3d-0000-4000-8000-0123456789ab"
ALIAS = "aws-kms://eu-central-1/alias/lacre/pii-fields"


@pytest.mark.parametrize(
    "uri",
    [
        "local://pii-fields",
        "openbao://transit/pii-fields",
        "openbao://kms/eu/transit/pii-fields",
        KEY,
        KEY[:-36] + "mrk-" + "0" * 32,
        ALIAS,
        "aws-kms://us-gov-west-1/alias/x",
    ],
)
def test_a_name_is_taken_as_it_is(uri: str) -> None:
    """Every form of the specification is a KMS key's URI."""
    assert check_kms_key(uri) == uri
    assert scheme_of(uri) == uri.split(":")[0]


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pii-fields",
        "local://../x",
        "local://a\n",
        "openbao://transit",
        "openbao://transit/../sys/seal",
        "openbao://transit//x",
        "openbao://transit/x?y",
        "openbao://transit/./x",
        "aws-kms://x",
        "aws-kms://eu-central-1/alias/",
        "aws-kms://eu-central-1/1234/key/0a1b2c3d-0000-4000-8000-0123456789ab",
        "aws-kms://arn:aws:kms:eu-central-1:111122223333:alias/x",
        KEY + "/x",
        "local://" + "a" * 600,
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    """What could be read as another path, or as two things, is no name."""
    with pytest.raises(ValueError, match="named by its URI"):
        check_kms_key(uri)


def test_only_an_alias_is_a_label() -> None:
    """Of all forms only an alias can be moved to another key, so only it has to be pinned."""
    assert is_alias(ALIAS)
    assert not is_alias(KEY)
    assert not is_alias("openbao://alias/x")


def test_a_label_stands_for_what_it_was_pinned_to() -> None:
    """An alias is replaced by its pin, without one it is refused; a key needs none."""
    assert pinned(ALIAS, {ALIAS: KEY}) == KEY
    assert pinned(KEY, {}) == KEY
    with pytest.raises(ConfigurationError, match=r"lacre\.lock") as caught:
        pinned(ALIAS, {})
    assert "keys pin" in caught.value.hint


def test_a_template_names_the_keys_of_every_class() -> None:
    """Class and use are put in their places."""
    made = expanded("openbao://transit/{class}-{use}", class_="pii", use="index")

    assert made == "openbao://transit/pii-index"
