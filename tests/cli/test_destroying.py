# SPDX-License-Identifier: Apache-2.0
"""`lacre keys destroy` destroys what nothing is under any more, and refuses the rest."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.cli.keys.destroying import destroy
from lacre.context import acting_as
from lacre.errors import ConfigurationError, LacreError, MisuseError
from lacre.fields.column_state import ColumnState, ColumnStateRow
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.provisioning import Provisioner
from tests.jobs.sealed_models import Patient, Person
from tests.jobs.sweeping import Shop

MODELS = ["tests.jobs.sealed_models:Base"]
AN_HOUR_AGO = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def shop(operator: Lacre, home: Path) -> Iterator[Shop]:
    """One person whose data and tokens are under the class's first keys."""
    path = f"sqlite:///{home / 'shop.db'}"
    made = Shop(operator, sa.make_url(path), path)
    with acting_as("operator", roles={"operator", "app"}, purpose="t", across_yield=True):
        with made.sessions() as session:
            session.add(Person(id=UUID(int=1), email="ana@example.org"))
            session.commit()
        yield made
    made.engine.dispose()


@pytest.fixture
def destroying(shop: Shop, home: Path) -> Callable[..., KeyState]:
    """Destroy the first version of a kind of key, and return what became of it."""

    def run(kind: KeyKind, *, looked: bool = True, **options: object) -> KeyState:
        row = shop.lacre.store.versions(shop.lacre.scope("default", "pii", kind))[-1]
        given = {
            "models": MODELS if looked else [], "database": [shop.job_url] if looked else [],
            "with_what_it_protects": False, "yes": True,
            "config": home / "lacre.toml", "passphrase_file": None,
        }  # fmt: skip
        destroy(row.key_id.hex(), **(given | options))  # type: ignore[arg-type]
        return shop.lacre.store.versions(row.scope)[-1].state

    return run


def past(shop: Shop) -> Provisioner:
    """What changes keys an hour ago, so that every process has let go of what it knew before."""
    return replace(shop.lacre.provisioner, now=lambda: AN_HOUR_AGO, settle=0.0)


def rotated(shop: Shop, kind: KeyKind) -> KeyRow:
    made = past(shop).rotate(shop.lacre.scope("default", "pii", kind))
    shop.lacre.resolver.forget()
    return made


def refused(destroying: Callable[..., KeyState], kind: KeyKind, **how: object) -> LacreError:
    with pytest.raises(LacreError) as caught:
        destroying(kind, **how)
    assert "--with-what-it-protects" in (caught.value.hint or "")
    return caught.value


@pytest.mark.parametrize("kind", [KeyKind.BRANCH, KeyKind.DATA, KeyKind.INDEX])
def test_a_key_in_use_stays(destroying: Callable[..., KeyState], kind: KeyKind) -> None:
    """The active version of any kind is refused, looked at or not."""
    said = str(refused(destroying, kind))

    assert "keys under it" in said if kind is KeyKind.BRANCH else "is the one in use" in said
    assert "nothing was destroyed" in said


def test_a_data_key_waits_for_its_values(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """Not unseen, not while a value is under it; once `reencrypt` has moved them it is destroyed."""
    rotated(shop, KeyKind.DATA)
    unseen = refused(destroying, KeyKind.DATA, looked=False)
    held = refused(destroying, KeyKind.DATA)
    shop.reencrypt()
    state = destroying(KeyKind.DATA)

    assert "may have values or tokens under it" in str(unseen)
    assert "has 1 values of people.email under it" in str(held)
    assert state is KeyState.DESTROYED
    with shop.sessions() as session:
        assert session.scalars(sa.select(Person)).one().email == "ana@example.org"


def test_an_index_root_waits_for_its_tokens(
    destroying: Callable[..., KeyState], shop: Shop
) -> None:
    """Not while a row needs its tokens; once all have those of the next one it is destroyed, and look-ups find."""
    rotated(shop, KeyKind.INDEX)
    unseen = refused(destroying, KeyKind.INDEX, looked=False)
    held = refused(destroying, KeyKind.INDEX)
    shop.sweeper().reindex(shop.tables()["people"])
    state = destroying(KeyKind.INDEX)
    shop.lacre.resolver.forget()

    assert "may have values or tokens under it" in str(unseen)
    assert "is needed by 1 rows of people" in str(held)
    assert state is KeyState.DESTROYED
    with shop.sessions() as session:
        assert session.scalars(sa.select(Person).where(Person.email == "ana@example.org")).one()


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.COMPROMISED])
def test_a_root_that_was_stopped_says_the_way_out(
    destroying: Callable[..., KeyState], shop: Shop, state: KeyState
) -> None:
    """Beside such a root no tokens are made, so it is not said to be free; destroyed, `reencrypt --indexes` makes them."""
    rotated(shop, KeyKind.INDEX)
    past(shop).step(shop.lacre.store.versions(shop.lacre.scope("default", "pii", KeyKind.INDEX))[-1].key_id, state)  # fmt: skip
    shop.lacre.resolver.forget()
    said = refused(destroying, KeyKind.INDEX)
    gone = destroying(KeyKind.INDEX, looked=False, with_what_it_protects=True)
    shop.lacre.resolver.forget()
    done = shop.sweeper().reindex(shop.tables()["people"])

    assert f"is {state}: no tokens are made beside it; nothing was destroyed" in str(said)
    assert "lacre reencrypt --indexes" in (said.hint or "")
    assert gone is KeyState.DESTROYED
    assert (done.rows, done.stale, done.failures) == (1, 0, ())
    with shop.sessions() as session:
        assert session.scalars(sa.select(Person).where(Person.email == "ana@example.org")).one()


def test_an_announced_root_may_go(shop: Shop) -> None:
    """Every token under a root that is not active yet is under the active one too."""
    row = shop.rotate(kind=KeyKind.INDEX)
    destroy(
        row.key_id.hex(), models=[], database=[], with_what_it_protects=False, yes=True,
        config=shop.lacre.base / "lacre.toml", passphrase_file=None,
    )  # fmt: skip

    assert shop.lacre.store.versions(row.scope)[0].state is KeyState.DESTROYED


def test_a_branch_key_waits_for_its_keys(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """Of a branch key the key store knows what is under it: subject keys too."""
    with shop.sessions() as session:
        session.add(Patient(diagnosis="flu"))
        session.commit()
    rotated(shop, KeyKind.BRANCH)
    with_subjects = refused(destroying, KeyKind.BRANCH, looked=False)
    row = shop.lacre.store.versions(shop.lacre.scope("default", "pii", KeyKind.BRANCH))[-1]

    assert "has 1 keys under it" in str(with_subjects)
    assert row.state is KeyState.DECRYPT_ONLY


def test_a_branch_key_without_keys_goes(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """After a rotation, which moves every key, nothing has to be named."""
    rotated(shop, KeyKind.BRANCH)

    assert destroying(KeyKind.BRANCH, looked=False) is KeyState.DESTROYED


def test_processes_are_waited_for(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """For one cache age after a rotation a process may write under the key before: it stays that long."""
    shop.rotate()
    shop.reencrypt()

    with pytest.raises(MisuseError, match="may be used by running processes until"):
        destroying(KeyKind.DATA)


def test_what_was_not_counted_is_named(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """A column that the key store knows, and no model that was named, is in the way; so is a store that is not there."""
    rotated(shop, KeyKind.DATA)
    shop.reencrypt()
    row = ColumnStateRow(store="main", table="leads", column="phone", class_="pii", state=ColumnState.ENCRYPTED, revision=1, changed=AN_HOUR_AGO, keystore=shop.lacre.store.keystore_id, signer="x", signature=bytes(64))  # fmt: skip
    shop.lacre.store.put(row)
    unnamed = refused(destroying, KeyKind.DATA)
    only_members = refused(destroying, KeyKind.DATA, models=["tests.jobs.sealed_models:Member"])
    with pytest.raises(ConfigurationError, match="no store 'archive'"):
        destroying(KeyKind.DATA, database=[f"archive={shop.job_url}", shop.job_url])

    assert "leads.phone of store main, which was not counted" in str(unnamed)
    assert "leads.phone" in str(only_members)


def test_loss_that_is_meant_is_said(destroying: Callable[..., KeyState], shop: Shop) -> None:
    """`--with-what-it-protects` looks at nothing; the value is lost then."""
    assert destroying(KeyKind.DATA, looked=False, with_what_it_protects=True) is KeyState.DESTROYED
