# SPDX-License-Identifier: Apache-2.0
import copy
import hashlib
import json
import os
import pickle
import traceback
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.kms.local import Identity, PublicIdentity
from lacre.kms.local import text as canonical_text
from tests.kms.local.keystore import APP, OPERATOR, STRANGER

PRIVATE = bytes(range(64))
SPELLINGS = (
    PRIVATE.hex(),
    PRIVATE[:32].hex(),
    PRIVATE[32:].hex(),
    canonical_text.to_base64url(PRIVATE),
    repr(PRIVATE[:32]),
    repr(PRIVATE[32:]),
    repr(PRIVATE),
)


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an identity file with a passphrase; scrypt at full cost, so made once."""
    path = tmp_path_factory.mktemp("protected") / "operator.id"
    OPERATOR.save(path, "Caf\u00e9 com a\u00e7\u00facar")
    return path.read_bytes()


def put(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "operator.id"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def everything_in(error: BaseException) -> str:
    """The error, its chain and the locals of the library's frames: what an error reporter sends."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None:
        frames = link.__traceback__
        if link is error and frames is not None:
            frames = frames.tb_next  # the test's own frame holds what it looks for
        parts.append(repr(link))
        parts += traceback.StackSummary.extract(
            traceback.walk_tb(frames), capture_locals=True
        ).format()
        link = link.__cause__ or link.__context__
    return "".join(parts)


def test_the_fingerprint_is_of_both_keys() -> None:
    """The fingerprint is the first half of a labelled SHA-256 over both public keys."""
    public = OPERATOR.public
    expected = hashlib.sha256(b"lacre/1/identity" + public.x25519 + public.ed25519).hexdigest()[:32]

    assert public.fingerprint == OPERATOR.fingerprint == expected
    mixed = PublicIdentity(name="operator", x25519=public.x25519, ed25519=APP.public.ed25519)
    assert mixed.fingerprint != expected


def test_sealing_reaches_one_identity_for_one_use() -> None:
    """What is sealed opens for that identity and that info only, and not altered."""
    sealed = APP.public.seal(b"secret", b"info")

    assert APP.open(sealed, b"info") == b"secret"
    for identity, box, info in (
        (STRANGER, sealed, b"info"),
        (APP, sealed, b"other"),
        (APP, sealed[:-1], b"info"),
        (APP, b"", b"info"),
        (APP, bytes(32) + sealed[32:], b"info"),
    ):
        with pytest.raises(Tampered):
            identity.open(box, info)


def test_signatures_verify_or_raise() -> None:
    """A signature is the signer's, over that message; anything else raises."""
    signature = OPERATOR.sign(b"message")

    OPERATOR.public.verify(b"message", signature)
    for identity, message, given in (
        (APP, b"message", signature),
        (OPERATOR, b"massage", signature),
        (OPERATOR, b"message", signature[:-1]),
        (OPERATOR, b"message", b""),
    ):
        with pytest.raises(Tampered):
            identity.public.verify(message, given)


def test_a_public_key_of_small_order_is_refused() -> None:
    """Sealing to a point that shares no secret raises, and the error does not hold the secret."""
    nobody = PublicIdentity(name="nobody", x25519=bytes(32), ed25519=bytes(32))

    with pytest.raises(ConfigurationError) as caught:
        nobody.seal(PRIVATE, b"info")
    assert not any(spelling in everything_in(caught.value) for spelling in SPELLINGS)


def test_the_text_form_comes_back() -> None:
    """The text form is one line that says all there is to say."""
    line = APP.public.to_text()

    assert "\n" not in line
    assert len(line) < 200
    assert PublicIdentity.from_text(line) == APP.public
    assert PublicIdentity.from_text(f"\n{line}\n") == APP.public


def test_every_slip_in_the_text_form_is_seen() -> None:
    """No character of keys, fingerprint or format can be changed, dropped or added."""
    line = APP.public.to_text()
    name = range(line.index(APP.name), line.index(APP.name) + len(APP.name))
    slips = [
        line[:at] + ("A" if line[at] != "A" else "B") + line[at + 1 :]
        for at in range(len(line))
        if at not in name
    ]
    slips += [
        "",
        "lacre-public-1",
        line + " x",
        line[:-1],
        line + "A",
        line.replace(" ", "  ", 1),
        line.replace(APP.name, "açaí"),
    ]

    for slip in slips:
        with pytest.raises(ConfigurationError):
            PublicIdentity.from_text(slip)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", "ação", "a" * 65, "a/b", 'a"b'])
def test_names_fit_everywhere(name: str) -> None:
    """A name that would not fit a line, a file or a log is refused."""
    with pytest.raises(ConfigurationError):
        Identity(name, PRIVATE)


def test_two_creations_are_two_identities() -> None:
    """Keys are drawn anew each time, and both private keys are."""
    first, second = Identity.create("a"), Identity.create("a")

    assert first.public.x25519 != second.public.x25519
    assert first.public.ed25519 != second.public.ed25519


def test_the_private_keys_do_not_leave() -> None:
    """An identity does not print, pickle, copy or list its private keys."""
    shown = (
        repr(OPERATOR)
        + str(OPERATOR)
        + f"{OPERATOR!r}"
        + repr(OPERATOR.public)
        + OPERATOR.public.to_text()
    )

    assert not any(spelling in shown for spelling in SPELLINGS)
    assert not hasattr(OPERATOR, "__dict__")
    assert not any(isinstance(getattr(OPERATOR, name), bytes) for name in dir(OPERATOR))
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(MisuseError):
            leave(OPERATOR)


def test_saved_without_a_passphrase(tmp_path: Path) -> None:
    """An identity comes back from its file, which only its owner can read."""
    path = tmp_path / "new" / "operator.id"
    OPERATOR.save(path)
    loaded = Identity.load(path)

    assert loaded.public == OPERATOR.public
    assert loaded.open(OPERATOR.public.seal(b"x", b"i"), b"i") == b"x"
    assert loaded.sign(b"m") == OPERATOR.sign(b"m")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not Identity.is_protected(path)
    assert list(path.parent.iterdir()) == [path]


def test_saved_with_a_passphrase(protected: bytes, tmp_path: Path) -> None:
    """A protected identity opens with its passphrase, however its accents are composed."""
    path = put(tmp_path, protected)

    assert Identity.is_protected(path)
    assert Identity.load(path, "Cafe\u0301 com ac\u0327u\u0301car").public == OPERATOR.public
    assert json.loads(protected)["protection"] | {"salt": ""} == {
        "kdf": "scrypt",
        "n": 131072,
        "r": 8,
        "p": 1,
        "salt": "",
    }
    assert not any(spelling.encode() in protected for spelling in SPELLINGS)


def test_a_wrong_passphrase_says_one_thing(protected: bytes, tmp_path: Path) -> None:
    """A wrong passphrase is one clear error, which quotes neither it nor a key."""
    path = put(tmp_path, protected)

    with pytest.raises(ConfigurationError, match="passphrase is not the one of") as caught:
        Identity.load(path, "not-this-" + "one")
    assert "not-this-one" not in everything_in(caught.value)
    assert not any(spelling in everything_in(caught.value) for spelling in SPELLINGS)


def test_the_header_of_a_protected_file_is_bound(protected: bytes, tmp_path: Path) -> None:
    """A protected file under another name does not open: its header is authenticated."""
    path = put(tmp_path, protected.replace(b'"name":"operator"', b'"name":"operatox"'))

    with pytest.raises(ConfigurationError, match="altered"):
        Identity.load(path, "Caf\u00e9 com a\u00e7\u00facar")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n":131072', b'"n":1024'),
        (b'"n":131072', b'"n":2147483648'),
        (b'"n":131072', b'"n":131073'),
        (b'"n":131072', b'"n":131072.0'),
        (b'"p":1', b'"p":16'),
        (b'"p":1', b'"p":true'),
        (b'"r":8', b'"r":1024'),
        (b'"kdf":"scrypt"', b'"kdf":"pbkdf2"'),
        (b'"kdf":"scrypt",', b""),
        (b'"format":"lacre-identity-1"', b'"format":"lacre-identity-2"'),
        (b'{"ed25519"', b'{"a":1,"ed25519"'),
        (b'"name":"operator"', b'"name":"two words"'),
        (b'"name":"operator"', b'"name":7'),
        (b"}\n", b"}"),
        (b"}\n", b"}\n\n"),
    ],
)
def test_parameters_are_bounded_before_any_work(
    protected: bytes, tmp_path: Path, old: bytes, new: bytes
) -> None:
    """A file that asks for weaker or hungrier scrypt, or is spelt otherwise, is refused unopened."""
    assert old in protected
    path = put(tmp_path, protected.replace(old, new))

    with pytest.raises(ConfigurationError, match="not an identity file"):
        Identity.load(path, "any")


def test_passphrases_are_given_where_they_belong(protected: bytes, tmp_path: Path) -> None:
    """A missing, needless, empty or impossible passphrase is a configuration error without it."""
    path = put(tmp_path, protected)
    plain = tmp_path / "plain.id"
    OPERATOR.save(plain)

    for file, passphrase in ((path, None), (path, ""), (plain, "needless"), (path, "half \ud800")):
        with pytest.raises(ConfigurationError) as caught:
            Identity.load(file, passphrase)
        assert not any(spelling in everything_in(caught.value) for spelling in SPELLINGS)
        assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError):
        OPERATOR.save(tmp_path / "empty.id", "")
    assert not (tmp_path / "empty.id").exists()


def test_no_environment_variable_carries_a_passphrase(
    protected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the environment is read."""
    path = put(tmp_path, protected)
    for name in ("LACRE_PASSPHRASE", "LACRE_IDENTITY_PASSPHRASE", "PASSPHRASE"):
        monkeypatch.setenv(name, "Caf\u00e9 com a\u00e7\u00facar")

    with pytest.raises(ConfigurationError, match="needs its passphrase"):
        Identity.load(path)


def test_a_private_key_that_is_another_ones_is_refused(tmp_path: Path) -> None:
    """A file whose public keys are not those of its private keys is no identity."""
    path = tmp_path / "operator.id"
    OPERATOR.save(path)
    other = canonical_text.to_base64url(APP.public.x25519).encode()
    path.write_bytes(
        path.read_bytes().replace(
            canonical_text.to_base64url(OPERATOR.public.x25519).encode(), other
        )
    )

    with pytest.raises(ConfigurationError) as caught:
        Identity.load(path)
    assert not any(spelling in everything_in(caught.value) for spelling in SPELLINGS)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    """Any bit for group or others is one too many."""
    path = tmp_path / "operator.id"
    OPERATOR.save(path)
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match="open to other users") as caught:
        Identity.load(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_directory_that_others_can_open_is_refused(tmp_path: Path) -> None:
    """Neither reading nor writing trusts a directory in which others could act."""
    folder = tmp_path / "open"
    path = folder / "operator.id"
    OPERATOR.save(path)
    folder.chmod(0o755)

    with pytest.raises(ConfigurationError, match="open to other users"):
        Identity.load(path)
    with pytest.raises(ConfigurationError, match="open to other users"):
        APP.save(folder / "app.id")
    assert list(folder.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", ["file", "directory"])
def test_a_file_of_another_user_is_refused(tmp_path: Path, whose: str) -> None:
    """The owner of the file, and of its directory, is who runs."""
    path = tmp_path / "mine" / "operator.id"
    OPERATOR.save(path)
    os.chown(path if whose == "file" else path.parent, 12345, -1)

    with pytest.raises(ConfigurationError, match="another user"):
        Identity.load(path)


def test_links_and_other_things_are_refused(tmp_path: Path) -> None:
    """A symbolic link, a directory, a FIFO and a missing file each say what is wrong."""
    path = tmp_path / "operator.id"
    OPERATOR.save(path)
    (tmp_path / "link.id").symlink_to(path)
    (tmp_path / "folder.id").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "fifo.id", 0o600)
    linked = tmp_path.parent / f"{tmp_path.name}-link"
    linked.symlink_to(tmp_path)

    for name, says in (
        ("link.id", "symbolic link"),
        ("folder.id", "regular"),
        ("fifo.id", "regular"),
        ("none.id", "no file"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            Identity.load(tmp_path / name)
    with pytest.raises(ConfigurationError):
        Identity.load(linked / "operator.id")


def test_an_identity_is_not_lost_by_writing_over_it(tmp_path: Path) -> None:
    """Saving over a file has to be asked for, and the refusal holds no private key."""
    path = tmp_path / "operator.id"
    APP.save(path)

    with pytest.raises(MisuseError, match="exists already") as caught:
        OPERATOR.save(path)
    assert Identity.load(path).public == APP.public
    assert not any(spelling in everything_in(caught.value) for spelling in SPELLINGS)
    OPERATOR.save(path, replace=True)
    assert Identity.load(path).public == OPERATOR.public
    assert list(tmp_path.iterdir()) == [path]


def test_every_flipped_byte_of_a_file_is_refused_or_harmless(tmp_path: Path) -> None:
    """A damaged file never loads as another identity; only its label, the name, may differ."""
    path = tmp_path / "operator.id"
    OPERATOR.save(path)
    good = path.read_bytes()

    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        try:
            loaded = Identity.load(path)
        except ConfigurationError:
            continue
        assert loaded.fingerprint == OPERATOR.fingerprint
        assert loaded.name != OPERATOR.name
