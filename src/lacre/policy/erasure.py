# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` says of erasure: sealing, how long backups are kept, retention.

Named in `lacre.policy.model`, which composes the file. Enforces nothing.
"""

import datetime as dt
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from lacre.keys.kms_keys import check_kms_key, is_alias, scheme_of
from lacre.policy.values import Name, Period, Table

__all__ = ["ErasureSettings", "RetentionSettings", "SealingSettings"]


def _an_epoch_key(text: str) -> str:
    check_kms_key(text)
    if (scheme_of(text) == "aws-kms") != is_alias(text):
        raise ValueError(
            "AWS has a KMS key for each epoch: name the alias they get, aws-kms://REGION/alias/NAME"
        )
    if text.startswith("local://") and len(text) > 50:
        raise ValueError("the name is too long: the number of the epoch follows it")
    return text


def _waiting(period: dt.timedelta | None) -> dt.timedelta | None:
    if period is None or not 7 <= period.days <= 30:
        raise ValueError("AWS deletes a KMS key 7 to 30 days after it is asked to")
    return period


class SealingSettings(Table):
    """
    `[sealing]`: subject keys of *classes* are wrapped once more, under keys that end with an epoch.

    *kms_key* is where epoch KMS keys are: a Transit key of its own, whose versions they are; the
    name that local ones begin with; the alias that AWS' begin with. *every* is the cadence that
    `lacre seal --due` keeps. *snapshots_kept* is how long snapshots of OpenBao (and copies of the
    local keystore) are kept, which hold a destroyed key that long; *waiting* is AWS' period before
    a KMS key is deleted. *dumps* is where the dump of each sealing goes.
    """

    kms_key: Annotated[str, AfterValidator(_an_epoch_key)]
    classes: frozenset[Name] = Field(min_length=1)
    every: Period = dt.timedelta(days=30)
    snapshots_kept: Period = None
    waiting: Annotated[Period, AfterValidator(_waiting)] = dt.timedelta(days=7)
    dumps: str = "lacre/dumps"

    def ends(self, uri: str) -> bool:
        """Whether the KMS key *uri* is, or will be, an epoch's: what is wrapped under it ends with that."""
        between = {"aws-kms": "-", "local": ".epoch-"}.get(scheme_of(uri))
        name, _, number = (uri, "", "") if between is None else uri.rpartition(between)
        return name == self.kms_key and (between is None or number.isdecimal())


class ErasureSettings(Table):
    """
    `[erasure]`: for how long backups are kept, so that a certificate can say until when.

    *data_backups_kept* of the data, whose index values remain in them; *key_store_backups_kept* of
    the key store, dumps included. Left out, nobody knows. *certificates* is where they go.
    """

    data_backups_kept: Period = None
    key_store_backups_kept: Period = None
    certificates: str = "lacre/certificates"


class RetentionSettings(Table):
    """
    `[retention.NAME]`: subjects whose *column* of *table* is older than *after* are due to be shredded.

    A subject is due once every row of it in *table* is: *column* holds a date or a moment.
    """

    table: str = Field(min_length=1, max_length=255)
    column: str = Field(min_length=1, max_length=255)
    after: Period

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.after is None:
            raise ValueError('after is a number of days, for example "1825 days"')
        return self
