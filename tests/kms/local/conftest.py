# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from tests.kms.local.keystore import Keystore


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keys")
