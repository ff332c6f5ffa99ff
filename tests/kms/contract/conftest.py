# SPDX-License-Identifier: Apache-2.0
"""Gives each test of this folder the rigs that can tell its fact. Servers are started where they are needed."""

import gc
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from tests.components.faults import FaultProxy
from tests.kms.contract.doubles import LocalRig, MemoryRig
from tests.kms.contract.matrix import rigs_for
from tests.kms.contract.on_aws import MinistackRig, MotoRig
from tests.kms.contract.on_openbao import OpenBaoRig
from tests.kms.contract.rig import RemoteRig, Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture in {"rig", "remote"} & set(metafunc.fixturenames):
        rigs = rigs_for(metafunc.function.__name__, remote=fixture == "remote")
        metafunc.parametrize(fixture, rigs, indirect=True)


@pytest.fixture(scope="session", autouse=True)
def _descriptions_are_read_once() -> Iterator[None]:
    """Keep the files in which botocore describes services: each opening of one would read them anew."""
    read = JSONFileLoader.load_file

    @cache
    def kept(path: str) -> Any:
        return read(JSONFileLoader(), path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda loader, path: kept(path))
        yield


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """A key service under test, with keys and credentials of its own."""
    match request.param:
        case "memory":
            return MemoryRig()
        case "local":
            return LocalRig(tmp_path / "keystore")
        case name:
            return _remote(name, request, tmp_path)


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteRig:
    """The same, of those on a network."""
    return _remote(request.param, request, tmp_path)


@pytest.fixture
def proxy(remote: RemoteRig) -> Iterator[FaultProxy]:
    """A proxy before the service of `remote`."""
    with remote.proxy() as proxy:
        yield proxy
    with warnings.catch_warnings():
        # Here, and not in the middle of a test that knows nothing of it.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def transit(request: pytest.FixtureRequest, tmp_path: Path) -> OpenBaoRig:
    """OpenBao, for facts that other services do not have."""
    return OpenBaoRig(request.getfixturevalue("openbao"), tmp_path)


def _remote(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> RemoteRig:
    environment = request.getfixturevalue("monkeypatch")
    match name:
        case "openbao":
            return OpenBaoRig(request.getfixturevalue("openbao"), tmp_path)
        case "moto":
            return MotoRig(request.getfixturevalue("moto"), tmp_path, environment)
        case "ministack":
            return MinistackRig(request.getfixturevalue("ministack"), tmp_path, environment)
    raise AssertionError(name)
