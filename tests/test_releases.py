"""What any release wrote, this one opens: key stores, dumps, and values of every codec."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre import BlindIndex, Lacre
from lacre.context import acting_as
from lacre.errors import KeyDestroyed, KeyDisabled
from lacre.fields.codecs import _CODECS
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.kms.local import PublicIdentity
from lacre.recovery.dump import read_dump
from lacre.recovery.restore import undone_by
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.components.postgresql import Database
from tests.fixtures.releases.make import TYPES, VALUES

RELEASES = sorted(
    path for path in (Path(__file__).parent / "fixtures" / "releases").iterdir() if (path / "lacre.toml").exists()
)  # fmt: skip
each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(
    release: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Lacre, Path]]:
    """The release's application, its key store upgraded to this release's schema."""
    directory = tmp_path / "released"
    shutil.copytree(release, directory)
    # Version control keeps no modes, and private files are read only where they are private.
    for path in (directory / "lacre" / "identities").iterdir():
        path.chmod(0o600)
    (directory / "lacre" / "identities").chmod(0o700)
    environ = {}
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("database")
        with database.connect() as connection:
            connection.execute((release / "keys.sql").read_text("utf-8"))  # type: ignore[call-overload]
        environ["LACRE_KEY_STORE__URL"] = database.text_url()
    url = environ.get("LACRE_KEY_STORE__URL", f"sqlite:///{directory}/lacre/keys.db")
    store = SQLKeyStore(url)
    store.upgrade()
    assert store.version() == VERSION
    store.close()
    with Lacre.load(directory / "lacre.toml", environ=environ) as lacre:
        yield lacre, directory


def test_the_fixtures_are_there() -> None:
    """The first release with a fixture, and every codec that this one knows."""
    assert "0.1.0.dev0" in {path.name for path in RELEASES}
    assert set(TYPES.values()) >= set(_CODECS)


@each_release
def test_every_value_opens(release: Path, opened: tuple[Lacre, Path]) -> None:
    """Each codec, in its binary, text and JSON form, under keys before and after a rotation."""
    lacre, directory = opened
    written = json.loads((directory / "values.json").read_text("ascii"))
    count = 0
    with lacre.acting_as("t", roles={"app"}, purpose="p"):
        for item in written:
            if "row" not in item:
                continue
            expected = VALUES[item["column"]][item["value"]]
            box = lacre.field(
                "pii", table="everything", column=item["column"], type=TYPES[item["column"]]
            )
            for sealed in (bytes.fromhex(item["binary"]), item["text"], item["json"]):
                value = box.decrypt(sealed, row=item["row"])
                assert (type(value), value) == (type(expected), expected)
                count += 1
        email = lacre.field("pii", table="everything", column="email", index=BlindIndex("email"))
        tokens = {token.hex() for token in email.search_tokens("ana@example.org")}

    assert count == 2 * 3 * sum(len(values) for values in VALUES.values())
    assert {item["token"] for item in written if "token" in item} <= tokens


@each_release
def test_states_are_kept(release: Path, opened: tuple[Lacre, Path]) -> None:
    """Disabled stays disabled, destroyed destroyed, announced pending; columns are as they were."""
    lacre, _ = opened
    rows = lacre.store.versions(lacre.scope("default", "pii", KeyKind.INDEX))

    assert [row.state for row in rows] == [KeyState.PENDING, KeyState.ACTIVE]
    with lacre.acting_as("t", roles={"app"}, purpose="p"):
        for class_, error in (("banking", KeyDisabled), ("credentials", KeyDestroyed)):
            with pytest.raises(error):
                lacre.field(class_, table="t", column="c").encrypt("x", row="1")
    for column, state in (("email", "encrypted"), ("cpf", "dual")):
        scheme = Scheme(class_="pii", store="main", table="people", column=column, python_type=str)
        assert str(lacre.column_state(scheme)) == state


@each_release
def test_its_dump_is_the_store(release: Path, opened: tuple[Lacre, Path]) -> None:
    """The release's dump is read, and is what its key store holds."""
    lacre, directory = opened
    signers = [PublicIdentity.from_text(line) for line in lacre.policy.file.local.signers]
    dump = read_dump((directory / "keys.dump").read_bytes(), signers=signers)
    contents = lacre.store.contents()  # type: ignore[attr-defined]

    assert set(dump.contents.keys) == set(contents.keys)
    assert set(dump.contents.columns) == set(contents.columns)
    assert list(undone_by(dump.contents, contents)) == []
    for name, file in dump.manifests.items():
        assert (directory / "lacre" / "keystore" / f"{name}.json").read_bytes() == file


@each_release
def test_it_goes_on(release: Path, opened: tuple[Lacre, Path]) -> None:
    """New values are written, and an operator rotates."""
    lacre, directory = opened
    with lacre.acting_as("t", roles={"app"}, purpose="p"):
        box = lacre.field("pii", table="everything", column="str")
        assert box.decrypt(box.encrypt("x", row="1"), row="1") == "x"
    environ = {"LACRE_KEY_STORE__URL": lacre.policy.file.key_store.url}
    with (
        Lacre.load(
            directory / "lacre.toml", environ=environ, identity="lacre/identities/operator.key"
        ) as operator,
        acting_as("operator", roles={"operator"}, purpose="test"),
    ):
        for kind in (KeyKind.DATA, KeyKind.BRANCH):
            assert operator.provisioner.rotate(operator.scope("acme", "pii", kind)).version == 2
