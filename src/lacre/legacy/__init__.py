# SPDX-License-Identifier: Apache-2.0
"""
Legacy readers: decrypt what another library wrote, so that it can be moved in.

Off unless `[legacy.NAME]` in lacre.toml, or the caller, names one; each use is recorded; nothing here encrypts. Keys and data keys are
given by the caller. No reader takes an algorithm, a key or the length of a tag from stored bytes.
"""

from lacre.legacy.chandlery import ChandleryReader
from lacre.legacy.data_keys import Unwrap, of_client
from lacre.legacy.django_fernet import DjangoFernetReader
from lacre.legacy.fernet import FernetReader
from lacre.legacy.nexus import NexusReader
from lacre.legacy.rails import RailsReader
from lacre.legacy.reader import Found, LegacyReader
from lacre.legacy.reading import Reading
from lacre.legacy.sqlalchemy_utils import SqlalchemyUtilsReader

__all__ = [
    "ChandleryReader",
    "DjangoFernetReader",
    "FernetReader",
    "Found",
    "LegacyReader",
    "NexusReader",
    "RailsReader",
    "Reading",
    "SqlalchemyUtilsReader",
    "Unwrap",
    "of_client",
]
