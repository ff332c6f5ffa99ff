# SPDX-License-Identifier: Apache-2.0
"""
Canaries: no key, credential or word of a provider is in an error, a repr, a record of a log, a pickle.

Tracebacks are rendered with the locals of every frame. What other packages write to *their* loggers
at DEBUG about lacre's calls is kept from them, and the last test of this file says so.
"""

import base64
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lacre.errors import LacreError, Tampered
from lacre.kms.calling import CallLimits
from lacre.sensitive import KeyMaterial
from tests.components.faults import Alter, Fault, FaultProxy, Reset, Truncate
from tests.kms.contract.rig import Credential, RemoteRig, Rig, context

# Connections that ended in the middle of an answer are closed by the collector of garbage.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <:ResourceWarning")

BRIEF = CallLimits(deadline=1.0, attempt=1.0)  # one attempt
WORDS = "CANARY-of-the-provider arn:aws:iam::999999999999:user/canary"
KEY = b"canary-key-of-exactly-32-bytes!!"
LONGER = KEY + b"and-more"


def _spellings(key: bytes) -> list[str]:
    return [
        key.hex(),
        repr(key),
        repr(key)[2:-1],
        base64.b64encode(key).decode(),
        base64.b64encode(key).decode().rstrip("="),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
    ]


def _rendered(error: BaseException) -> str:
    """Everything that a report of *error* could hold: its frames' locals, its causes, its pickle."""
    found: list[str] = []
    seen: set[int] = set()

    def gather(each: BaseException | None) -> None:
        if each is None or id(each) in seen:
            return
        seen.add(id(each))
        told = traceback.TracebackException.from_exception(each, capture_locals=True)
        found.extend(told.format())
        found.extend([repr(each), str(each), repr(each.args), repr(vars(each))])
        try:
            found.append(repr(pickle.dumps(each)))
        except Exception as refused:
            found.append(repr(refused))
        gather(each.__cause__)
        gather(each.__context__)  # also where it is suppressed: error trackers look at it

    gather(error)
    return "\n".join(found)


def _failure(call: Callable[[], object]) -> BaseException | None:
    # Here, so that no frame of a test with what it knows is in the traceback.
    try:
        call()
    except LacreError as error:
        return error
    return None


@contextmanager
def _listening(names: str = "") -> Iterator[list[str]]:
    """Return every record of a log that comes in a block, formatted, with its arguments."""
    records: list[str] = []

    class _Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(
                f"{record.name}: {record.getMessage()} {record.args!r} {record.__dict__!r}"
            )

    handler, logger = _Keeping(), logging.getLogger(names)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_nothing_secret_is_told(remote: RemoteRig, proxy: FaultProxy) -> None:
    """No credential and no word of the provider is in what any failure of any operation leaves behind."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    # What is no answer is between answers, which close the breaker.
    faults: list[Fault] = [
        remote.error(400, WORDS),
        remote.error(500, WORDS),
        remote.error(403, WORDS),
        remote.later(),
        remote.error(404, WORDS),
        Reset(),
        remote.error(400, WORDS),
        Truncate(keep=5),
    ]
    told: list[str] = []
    with _listening("lacre") as logged:
        for who in (Credential.MINTS, Credential.RUNS, Credential.MOVES, Credential.ADMINISTERS):
            service = remote.open(who, limits=BRIEF, through=proxy)
            told += [repr(service), repr(vars(service))]
            call = {
                Credential.MINTS: lambda: service.mint(kms_key, pairs),  # noqa: B023
                Credential.RUNS: lambda: service.unwrap(kms_key, blob, pairs),  # noqa: B023
                Credential.MOVES: lambda: service.wrap(kms_key, KeyMaterial(KEY), pairs),  # noqa: B023
                Credential.ADMINISTERS: lambda: service.status(kms_key),  # noqa: B023
            }[who]
            for fault in faults:
                with proxy.faulty(fault):
                    failed = _failure(call)
                assert failed is not None
                told.append(_rendered(failed))
    text = "\n".join(told + logged)
    secrets = [*remote.secrets(), *_spellings(KEY), WORDS, "CANARY-of-the-provider"]

    assert len(told) == 4 * (2 + len(faults))
    assert len(remote.secrets()) >= 4
    assert [secret for secret in secrets if secret in text] == []


def test_nothing_of_an_opened_key_is_told(remote: RemoteRig, proxy: FaultProxy) -> None:
    """A key that comes in an answer which is then refused is in no frame, error or record."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    right = remote.open(Credential.RUNS).unwrap(kms_key, blob, pairs).reveal()
    service = remote.open(Credential.RUNS, limits=BRIEF, through=proxy)
    texts: list[str] = []
    last = Alter(change=_named_wrongly)
    with _listening("lacre") as logged:
        for fault in (remote.opened_as(LONGER), remote.opened_as(KEY[:16]), last):
            with proxy.faulty(fault, path=remote.unwrapping):
                failed = _failure(lambda: service.unwrap(kms_key, blob, pairs))
            # OpenBao's answers name no key: there the last one is right.
            assert failed is not None or fault is last
            texts.append(_rendered(failed) if failed else "")
    text = "\n".join(texts + logged)

    assert len(texts) == 3
    for key in (LONGER, KEY[:16], right):
        assert [spelling for spelling in _spellings(key) if spelling in text] == []


def _named_wrongly(answer: dict[str, object]) -> dict[str, object]:
    return {**answer, "KeyId": "arn:aws:kms:us-east-1:999999999999:key/other"}


def test_a_service_shows_no_secret(remote: RemoteRig) -> None:
    """A service that is logged in does not print what it is logged in with, nor pickle, at any depth."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    service = remote.open(Credential.RUNS)
    key = service.unwrap(kms_key, blob, pairs)
    text = repr(service) + "".join(_shown(service))

    assert [secret for secret in remote.secrets() if secret in text] == []
    assert [spelling for spelling in _spellings(key.reveal()) if spelling in text] == []
    with pytest.raises(Exception, match=r"."):
        pickle.dumps(service)


def _shown(item: object, depth: int = 4) -> Iterator[str]:
    """The repr of all that an object of lacre's holds, down to some depth."""
    held = dict(getattr(item, "__dict__", {}))
    for name in getattr(type(item), "__slots__", ()):
        held[name] = getattr(item, name, None)
    for each in held.values():
        yield repr(each)
        if depth and type(each).__module__.startswith("lacre"):
            yield from _shown(each, depth - 1)


def test_an_error_of_tampering_shows_nothing(rig: Rig) -> None:
    """The frames of a refused wrapped key hold neither the root key nor the key that is in it."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    blob = rig.open(Credential.MINTS).mint(kms_key, pairs)
    service = rig.open(Credential.RUNS)
    right = service.unwrap(kms_key, blob, pairs).reveal()
    with _listening("lacre") as logged:
        failed = _failure(lambda: service.unwrap(kms_key, blob, context(kms_key, tenant="other")))
    assert isinstance(failed, Tampered)
    text = _rendered(failed) + "".join(logged)

    assert [spelling for spelling in _spellings(right) if spelling in text] == []


def test_other_packages_log_nothing_secret(remote: RemoteRig) -> None:
    """At DEBUG, too, no logger of any package is told a key or a credential by lacre's calls."""
    kms_key = remote.kms_key()
    pairs = context(kms_key)
    blob = remote.open(Credential.MINTS).mint(kms_key, pairs)
    # Before: the test itself makes credentials, over the SDK and under its log.
    running, moving = remote.open(Credential.RUNS), remote.open(Credential.MOVES)
    with _listening() as logged:
        key = running.unwrap(kms_key, blob, pairs)
        moving.wrap(kms_key, KeyMaterial(KEY), pairs)
    secrets = [*remote.secrets(), *_spellings(key.reveal()), *_spellings(KEY)]

    assert logged
    assert [line for line in logged if any(each in line for each in secrets)] == []
