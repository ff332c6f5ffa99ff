# SPDX-License-Identifier: Apache-2.0
"""What is minted opens where it was wrapped, in its context, as it is; nothing else opens at all."""

import pickle
from collections.abc import Iterator

import pytest

from lacre.errors import MisuseError, Tampered
from lacre.sensitive import KeyMaterial
from tests.kms.contract.rig import Credential, Rig, context


def _bits(blob: bytes, positions: range) -> Iterator[bytes]:
    """*blob* with one bit changed: bit number *position* of it, the lowest of the first byte first."""
    for position in positions:
        at, bit = divmod(position, 8)
        yield blob[:at] + bytes([blob[at] ^ (1 << bit)]) + blob[at + 1 :]


def _refused(rig: Rig, kms_key: str, blobs: Iterator[bytes] | list[bytes]) -> None:
    service, pairs = rig.open(Credential.RUNS), context(kms_key)
    for blob in blobs:
        with pytest.raises(Tampered) as caught:
            service.unwrap(kms_key, blob, pairs)
        # One face: what was altered cannot be told from how it is refused.
        assert (str(caught.value), caught.value.hint) == (str(Tampered()), Tampered().hint)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_what_is_minted_is_unwrapped(rig: Rig) -> None:
    """A minted key is 32 bytes, opens to the same ones each time, and no two are alike, wrapped or not."""
    kms_key = rig.kms_key()
    pairs, minting = context(kms_key), rig.open(Credential.MINTS)
    first, second = minting.mint(kms_key, pairs), minting.mint(kms_key, pairs)
    running = rig.open(Credential.RUNS)
    one, again = running.unwrap(kms_key, first, pairs), running.unwrap(kms_key, first, pairs)
    other = running.unwrap(kms_key, second, pairs)

    assert type(first) is bytes
    assert first != second
    assert isinstance(one, KeyMaterial)
    assert len(one.reveal()) == 32
    assert one.reveal() == again.reveal()
    assert one.reveal() != other.reveal()
    assert not any(key.reveal() in blob for key in (one, other) for blob in (first, second))


def test_every_pair_of_the_context_is_bound(rig: Rig) -> None:
    """A key opens in the eight pairs it was wrapped in: with one changed, missing or added it does not."""
    kms_key = rig.kms_key()
    pairs = dict(context(kms_key))
    blob = rig.open(Credential.MINTS).mint(kms_key, pairs)
    service = rig.open(Credential.RUNS)
    digest = context(kms_key, key=2)["lacre-row"]
    others = [pairs | {name: "other"} for name in pairs if not name.startswith("lacre-")]
    # Of the last two the digest covers the key's id, so a service may look at the digest only.
    others += [pairs | {"lacre-row": digest}, dict(context(kms_key, key=2))]
    # No wrap context at all: a service may say so, and call it a bug.
    wrong = [{key: value for key, value in pairs.items() if key != name} for name in pairs]
    wrong += [pairs | {"more": "x"}, {}]

    assert len(pairs) == 8
    for other in others:
        with pytest.raises(Tampered):
            service.unwrap(kms_key, blob, other)
    for other in wrong:
        with pytest.raises((Tampered, MisuseError)):
            service.unwrap(kms_key, blob, other)
    assert service.unwrap(kms_key, blob, dict(reversed(pairs.items())))


def test_a_changed_bit_is_refused(rig: Rig) -> None:
    """One bit of any byte of a wrapped key changed, and it does not open."""
    kms_key = rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(kms_key, context(kms_key))

    # One bit of each byte, another in each: 9 = 8 + 1.
    _refused(rig, kms_key, _bits(blob, range(0, 8 * len(blob), 9)))
    assert rig.open(Credential.RUNS).unwrap(kms_key, blob, context(kms_key))


@pytest.mark.long
def test_every_changed_bit_is_refused(rig: Rig) -> None:
    """The same of every bit of every byte."""
    kms_key = rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(kms_key, context(kms_key))

    _refused(rig, kms_key, _bits(blob, range(8 * len(blob))))


def test_a_cut_or_extended_blob_is_refused(rig: Rig) -> None:
    """A wrapped key opens at its length only, cut or extended at either end it does not."""
    kms_key = rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(kms_key, context(kms_key))
    cut = [blob[:size] for size in range(1, len(blob), 7)] + [blob[:-1], blob[1:], blob[8:]]
    extended = [blob + more for more in (b"\0", b"=", b"\n", b" ", b"A", b"AAAA", blob)]

    _refused(rig, kms_key, [*cut, *extended, b"\0" + blob, b" " + blob, b"\n" + blob])


def test_what_cannot_be_a_wrapped_key_is_not_asked_about(rig: Rig) -> None:
    """Nothing, and garbage by the megabyte, are refused here, without a call; other services' wrapped keys with or without."""
    kms_key = rig.kms_key()
    garbage = bytes(range(256)) * 4096 * 4
    others = [
        b"\xc1\x01\x00" + bytes(120),
        b"vault:v1:" + b"A" * 80,
        b"\x01\x02\x02\x00" + bytes(180),
    ]
    family = {"local": 0, "memory": 0, "openbao": 1, "aws": 2}[rig.family]
    before = rig.asked()
    _refused(rig, kms_key, [b"", garbage, b"vault:v1:" + b"A" * (1 << 21)])

    assert rig.asked() == before
    others = [blob for at, blob in enumerate(others) if at != family]
    _refused(rig, kms_key, [b"\0", *others])


def test_a_blob_of_another_kms_key_is_refused(rig: Rig) -> None:
    """What was wrapped under one KMS key opens under no other, though the context is the same."""
    mine, theirs = rig.kms_key(), rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(theirs, context(mine))

    _refused(rig, mine, [blob])
    assert rig.open(Credential.RUNS).unwrap(theirs, blob, context(mine))


def test_a_planted_key_is_refused(rig: Rig) -> None:
    """Whoever may wrap under another KMS key cannot make a known key open under ours."""
    ours, theirs = rig.kms_key(), rig.kms_key()
    known = KeyMaterial(b"known to the attacker, 32 bytes.")
    attacker = rig.open(Credential.MOVES)
    planted = attacker.wrap(theirs, known, context(ours))

    _refused(rig, ours, [planted])
    assert attacker.unwrap(theirs, planted, context(ours)).reveal() == known.reveal()


def test_wrap_and_unwrap_are_inverse(rig: Rig) -> None:
    """A key that comes from elsewhere opens to itself, in its context only; twice wrapped, it looks different."""
    kms_key = rig.kms_key()
    key, pairs = KeyMaterial(bytes(range(32))), context(kms_key)
    moving = rig.open(Credential.MOVES)
    first, second = moving.wrap(kms_key, key, pairs), moving.wrap(kms_key, key, pairs)
    running = rig.open(Credential.RUNS)

    assert first != second
    for blob in (first, second):
        assert key.reveal() not in blob
        assert running.unwrap(kms_key, blob, pairs).reveal() == key.reveal()
        with pytest.raises(Tampered):
            running.unwrap(kms_key, blob, context(kms_key, tenant="other"))


def test_rewrap_keeps_the_key(rig: Rig) -> None:
    """Wrapped anew, under the same KMS key or another, a key is the same, and the context the new one."""
    mine, other = rig.kms_key(), rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(mine, context(mine))
    running, moving = rig.open(Credential.RUNS), rig.open(Credential.MOVES)
    key = running.unwrap(mine, blob, context(mine)).reveal()

    for to in (mine, other):
        fresh = context(to, key=2)
        moved = moving.rewrap(mine, blob, context(mine), to=to, to_context=fresh)
        assert moved != blob
        assert running.unwrap(to, moved, fresh).reveal() == key
        with pytest.raises(Tampered):
            running.unwrap(to, moved, context(mine))
        # And it is no one-way street.
        back = moving.rewrap(to, moved, fresh, to=mine, to_context=context(mine))
        assert running.unwrap(mine, back, context(mine)).reveal() == key
    assert running.unwrap(mine, blob, context(mine)).reveal() == key


def test_rewrap_opens_what_it_wraps_anew(rig: Rig) -> None:
    """What would not unwrap is not wrapped anew either: another context, a changed bit, another KMS key's."""
    mine, other = rig.kms_key(), rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(mine, context(mine))
    moving = rig.open(Credential.MOVES)
    changed = blob[:-1] + bytes([blob[-1] ^ 2])

    for kms_key, wrapped, pairs in (
        (mine, blob, context(mine, tenant="other")),
        (mine, changed, context(mine)),
        (mine, b"", context(mine)),
        (other, blob, context(mine)),
    ):
        with pytest.raises(Tampered):
            moving.rewrap(kms_key, wrapped, pairs, to=other, to_context=context(other))


def test_neither_service_nor_key_pickles(rig: Rig) -> None:
    """A key does not leave the process by pickle, and what would carry a credential neither."""
    kms_key = rig.kms_key()
    blob = rig.open(Credential.MINTS).mint(kms_key, context(kms_key))
    service = rig.open(Credential.RUNS)
    key = service.unwrap(kms_key, blob, context(kms_key))

    assert key.reveal().hex() not in repr(key)
    for each in (key, service):
        with pytest.raises(Exception, match=r"."):
            pickle.dumps(each)
