# SPDX-License-Identifier: Apache-2.0
"""
Which rig cannot tell which fact, and why: the one place where the suite is told to leave something out.

`UNTRUE` is about rigs: an emulator, or a double, that would answer otherwise than what it stands for.
Every fact must be told by another rig of that family. `ABSENT` is about families: the service has no
such thing, so there is no fact. `test_matrix.py` checks both: an entry for a test that is not there,
one without a reason, and a fact that no rig of a family tells.
"""

from collections.abc import Mapping

__all__ = ["ABSENT", "FAMILIES", "REMOTE", "RIGS", "UNTRUE", "left_out", "rigs_for"]

# The family of each rig. A double is in none: nobody's data is under it.
RIGS: Mapping[str, str | None] = {
    "memory": None,
    "local": "local",
    "openbao": "openbao",
    "moto": "aws",
    "ministack": "aws",
}
FAMILIES = ("local", "openbao", "aws")
REMOTE = ("openbao", "aws")  # those on a network: the tests that take `remote`

_DOUBLE = "tests say how the double behaves: its keys have no states, its callers no credentials"
_MADE_BY_USE = "a KMS key of the double is made by its first use"
_FAKE = "its cipher is a fake: changed blobs and those of other keys open, into garbage"
_NO_RE_ENCRYPT = "it has no ReEncrypt"
_NO_STATES = "it decrypts under disabled keys and under those that wait for deletion"
_NO_ON_DEMAND = "it has no RotateKeyOnDemand"
_SAME_CLIENT = "moto tells it: what is tested is the client, before and after the service"

_NETWORK = (
    "test_throttled_once",
    "test_throttled_for_ever",
    "test_failing_once",
    "test_failing_for_ever",
    "test_a_slow_answer_is_not_waited_for",
    "test_an_answer_in_drops_is_not_waited_for",
    "test_a_reset_connection_is_tried_again",
    "test_a_refused_connection",
    "test_a_black_hole",
    "test_a_network_that_comes_and_goes",
    "test_a_network_that_comes_and_goes_for_long",
    "test_minting_is_tried_again_too",
    "test_the_breaker_opens_and_closes",
    "test_an_answer_that_makes_no_sense_opens_nothing",
    "test_a_key_of_another_length_is_refused",
    "test_a_redirect_is_not_followed",
    "test_an_answer_cut_short_opens_nothing",
    "test_an_answer_that_names_another_key",
    "test_a_clock_that_is_wrong",
    "test_a_session_that_ended",
    "test_nothing_secret_is_told",
    "test_nothing_of_an_opened_key_is_told",
    "test_a_service_shows_no_secret",
)

# test -> rig -> why
UNTRUE: Mapping[str, Mapping[str, str]] = {
    "test_what_cannot_be_a_wrapped_key_is_not_asked_about": {
        "memory": "it is the service and its client at once, so all of it is asked"
    },
    "test_a_key_that_is_not_there": {
        "memory": _MADE_BY_USE,
        "ministack": "it takes the KMS key from the blob, and does not look for the one that is named",
    },
    "test_moving_and_administering_a_key_that_is_not_there": {
        "memory": _MADE_BY_USE,
        "ministack": _NO_RE_ENCRYPT,
    },
    "test_a_retired_version_opens_nothing": {"memory": _DOUBLE},
    "test_a_disabled_key_does_nothing": {"memory": _DOUBLE, "moto": _NO_STATES},
    "test_a_disabled_key_says_nothing_of_what_it_was_given": {
        "memory": _DOUBLE,
        "moto": _NO_STATES,
    },
    "test_a_destroyed_key_opens_nothing": {"memory": _DOUBLE},
    "test_the_status_tells_the_state": {"memory": _DOUBLE},
    "test_the_status_tells_a_destroyed_key": {"memory": _DOUBLE},
    "test_each_credential_does_its_part_and_no_other": {
        "memory": _DOUBLE,
        "ministack": _NO_RE_ENCRYPT,
    },
    "test_a_denial_is_asked_for_once": {"memory": _DOUBLE},
    "test_denials_do_not_open_the_breaker": {"memory": _DOUBLE},
    "test_a_changed_bit_is_refused": {"ministack": _FAKE},
    "test_every_changed_bit_is_refused": {"ministack": _FAKE},
    "test_a_cut_or_extended_blob_is_refused": {"ministack": _FAKE},
    "test_a_blob_of_another_kms_key_is_refused": {"ministack": _FAKE},
    "test_a_planted_key_is_refused": {"ministack": _FAKE},
    "test_rewrap_keeps_the_key": {"ministack": _NO_RE_ENCRYPT},
    "test_rewrap_opens_what_it_wraps_anew": {"ministack": _NO_RE_ENCRYPT},
    "test_rotation_keeps_what_was_wrapped": {"ministack": _NO_ON_DEMAND},
    "test_only_the_administrator_rotates": {"ministack": _NO_ON_DEMAND},
    "test_a_key_that_waits_for_its_deletion": {"moto": _NO_STATES},
    "test_credentials_that_were_withdrawn_are_denied": {
        "ministack": "it takes an access key that it does not know for the account's root"
    },
    **{test: {"ministack": _SAME_CLIENT} for test in _NETWORK},
}

_NO_RETIRING = "material that was rotated away stays: AWS KMS opens what it ever wrapped"
_NO_DESTRUCTION = (
    "a key that was deleted is one that is not there; until then it waits, and counts as disabled"
)

# test -> family -> why
ABSENT: Mapping[str, Mapping[str, str]] = {
    "test_a_retired_version_opens_nothing": {"aws": _NO_RETIRING},
    "test_a_destroyed_key_opens_nothing": {"aws": _NO_DESTRUCTION},
    "test_the_status_tells_a_destroyed_key": {"aws": _NO_DESTRUCTION},
    "test_a_sealed_server": {"aws": "nobody seals AWS KMS"},
    "test_a_log_in_that_ended_is_made_anew": {
        "aws": "there is no log-in: the SDK refreshes what its provider gives"
    },
    "test_a_clock_that_is_wrong": {"openbao": "its requests carry no time"},
    "test_a_session_that_ended": {"openbao": "an ended token is told by the test of log-ins"},
    "test_a_key_that_waits_for_its_deletion": {"openbao": "a deletion there is done at once"},
    "test_an_answer_that_names_another_key": {"openbao": "its answers name no key"},
}


def left_out(test: str, rig: str) -> str | None:
    """Return why *rig* does not run *test*; None where it does."""
    family = RIGS[rig]
    reason = UNTRUE.get(test, {}).get(rig)
    return reason or (ABSENT.get(test, {}).get(family) if family else None)


def rigs_for(test: str, *, remote: bool) -> list[str]:
    """Return the rigs that run *test*; those on a network only, where it takes `remote`."""
    return [
        rig
        for rig, family in RIGS.items()
        if left_out(test, rig) is None and (family in REMOTE or not remote)
    ]
