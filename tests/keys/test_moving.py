"""Keys move between KMS keys and key services, whole, and nothing but their wrap changes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lacre._core.field import decrypt, encrypt
from lacre.audit.recorder import Recorder
from lacre.context import acting_as
from lacre.errors import KeyDisabled, NoPrincipal, Tampered
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.moving import Rewrap, Rewrapped, Why
from lacre.keys.resolver import CacheLimits, Resolver
from lacre.testing import CapturedEvents, MemoryKeyService
from tests.keys.parts import Parts, handle, scope

CONTEXT = b"\x00\x01\x00\x01a\x00\x01b"
AWS_ID = {"fields": "0" * 8, "index": "1" * 8}


def local(where: Scope) -> str:
    return f"local://{where.class_}-{_use(where)}"


def openbao(where: Scope) -> str:
    return f"openbao://transit/{where.class_}-{_use(where)}"


def aws(where: Scope) -> str:
    return (
        f"aws-kms://eu-central-1/123456789012/key/{AWS_ID[_use(where)]}-0000-0000-0000-000000000000"
    )


def _use(where: Scope) -> str:
    return "index" if where.kind is KeyKind.INDEX else "fields"


class Silent:
    """A key service whose wraps do not tell their version, as those of AWS KMS."""

    for_tests_only = True

    def __init__(self, service: MemoryKeyService) -> None:
        self.service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self.service, name)

    def version_of(self, wrapped: bytes) -> None:
        return None


class World:
    """A key store, three key services, and who uses them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.local = parts.service
        self.openbao, self.aws = MemoryKeyService(), MemoryKeyService()
        self.services = {"local": self.local, "openbao": self.openbao, "aws-kms": Silent(self.aws)}
        self.sealed = self.encrypted()

    def encrypted(self) -> list[tuple[bytes, bytes]]:
        """A value under each data key, as a database holds them."""
        made = []
        for row in self.parts.store.versions(scope()):
            if row.state in (KeyState.ACTIVE, KeyState.DECRYPT_ONLY):
                key = self.resolver(local).to_decrypt(handle(), row.key_id)
                value = encrypt(key.material.reveal(), row.key_id, CONTEXT, b"ana", salt=os.urandom(24), padded=False)  # fmt: skip
                made.append((row.key_id, bytes(value)))
        return made

    def resolver(self, *names: Callable[[Scope], str]) -> Resolver:
        """A cold process whose policy names these KMS keys, the present one first."""
        return Resolver(
            store=self.parts.store, services=self.services,
            kms_keys=lambda scope: tuple(name(scope) for name in names),
            limits=CacheLimits(), clock=self.parts.clock,
        )  # fmt: skip

    def reads(self, *names: Callable[[Scope], str]) -> bool:
        """Whether such a process reads every value and encrypts and searches."""
        resolver = self.resolver(*names)
        for key_id, value in self.sealed:
            key = resolver.to_decrypt(handle(), key_id)
            assert decrypt(key.material.reveal(), value, CONTEXT) == b"ana"
        resolver.to_encrypt(handle())
        return bool(resolver.searchable(handle("index")))

    def rewrap(self, to: Callable[[Scope], str], *others: Callable[[Scope], str]) -> Rewrap:
        return Rewrap(
            store=self.parts.store, services=self.services,
            kms_keys=lambda scope: (to(scope), *(other(scope) for other in others)),
            recorder=self.parts.recorder,
        )  # fmt: skip

    def run(self, to: Callable[[Scope], str], *others: Callable[[Scope], str], **more: Any) -> Rewrapped:  # fmt: skip
        with acting_as("mover", purpose="move"):
            return self.rewrap(to, *others).run(**more)

    def rows(self, kind: str = "") -> Sequence[KeyRow]:
        return [row for row in self.parts.store.rows() if kind in ("", str(row.scope.kind))]


@pytest.fixture
def world(keys: Parts) -> World:
    """Keys in every state: active, decrypt-only, disabled, compromised, pending, destroyed."""
    keys.rotate("data")
    # Nothing is searched while an index root is disabled or compromised: branch keys show those.
    for kind, state in (
        ("branch", KeyState.DISABLED),
        ("branch", KeyState.COMPROMISED),
        ("branch", KeyState.DESTROYED),
        ("branch", KeyState.DECRYPT_ONLY),
        ("index", KeyState.DESTROYED),
        ("index", KeyState.DECRYPT_ONLY),
    ):
        old = keys.row(kind)
        keys.rotate(kind)
        if state is not KeyState.DECRYPT_ONLY:
            keys.step(keys.store.row(old.key_id), state)
    keys.service.forbidden = {"unwrap"}
    keys.rotate("branch")
    keys.service.forbidden = set()
    return World(keys)


def without_wraps(rows: Sequence[KeyRow]) -> list[KeyRow]:
    return [
        replace(row, parent="", wrapped=None) if row.scope.kind.under_kms else row for row in rows
    ]


def test_a_key_store_goes_round_three_services(world: World) -> None:
    """Local, OpenBao, AWS, local: keys, ids, states and MACs stay, values stay, each leg reads."""
    before = world.rows()
    under_kms = [row for row in before if row.scope.kind.under_kms and row.wrapped]
    for to, other in ((openbao, local), (aws, openbao), (local, aws)):
        done = world.run(to, other)

        assert (done.moved, done.renewed, done.checked, done.left) == (
            len(under_kms), 0, len(under_kms), [],
        )  # fmt: skip
        rows = world.rows()
        assert without_wraps(rows) == without_wraps(before)
        assert {row.parent for row in rows if row.wrapped and row.scope.kind.under_kms} == {
            to(row.scope) for row in under_kms
        }
        assert world.reads(to)
    assert {str(row.state) for row in under_kms} == {
        "active", "decrypt_only", "disabled", "compromised", "pending",
    }  # fmt: skip


def test_a_process_reads_all_through_a_move(world: World) -> None:
    """With both KMS keys declared every state in between is served; and the old one alone is not after it."""
    seen: list[int] = []
    real = world.parts.store.change

    def change(**rows: Any) -> None:
        real(**rows)
        assert world.reads(openbao, local)
        seen.append(len(rows["replace"]))

    world.parts.store.change = change  # type: ignore[method-assign]
    done = world.run(openbao, local)

    assert sum(seen) == done.moved
    assert len(world.local.unwrapped) > 0


@pytest.mark.parametrize("stops_at", range(3))
def test_an_interrupted_move_is_gone_on_with(
    world: World, stops_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before any transaction, the next run does exactly the rest."""
    monkeypatch.setattr("lacre.keys.moving._BATCH", 2)
    real, calls = world.parts.store.change, iter(range(100))

    def change(**rows: Any) -> None:
        if next(calls) == stops_at:
            raise KeyboardInterrupt
        real(**rows)

    world.parts.store.change = change  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.run(openbao, local)
    world.parts.store.change = real  # type: ignore[method-assign]
    assert world.reads(openbao, local)
    rest = world.run(openbao, local)

    assert rest.current == 2 * stops_at
    assert rest.left == []
    assert world.reads(openbao)
    assert world.run(openbao, local).moved == 0


def test_nothing_is_stored_that_does_not_open_to_the_same_key(world: World) -> None:
    """A key service that wraps something else, or in another context, changes no row."""
    before = world.rows()
    real = world.openbao.wrap

    def another_key(kms_key: str, key: Any, context: Any) -> bytes:
        return real(kms_key, type(key)(os.urandom(32)), context)

    def another_context(kms_key: str, key: Any, context: Any) -> bytes:
        return real(kms_key, key, {**context, "tenant": "other"})

    for wrong in (another_key, another_context):
        world.openbao.wrap = wrong  # type: ignore[method-assign]
        done = world.run(openbao, local)

        assert done.moved == 0
        assert {left.why for left in done.left} == {Why.SEALED}
    assert world.rows() == before


def test_a_renewal_that_changes_the_key_is_not_stored(world: World) -> None:
    """Within one service too, where the key is not seen: the MAC, or the old wrap, tells."""
    world.local.rotate("local://pii-fields")
    before = world.rows()
    real = world.local.rewrap

    def another_key(kms_key: str, *_: Any, to: str, to_context: Any) -> bytes:
        from lacre.sensitive import KeyMaterial

        return world.local._wrapped(to, KeyMaterial(os.urandom(32)), to_context)

    world.local.rewrap = another_key  # type: ignore[method-assign]
    done = world.run(local)
    world.local.rewrap = real  # type: ignore[method-assign]

    assert done.renewed == 0
    assert {left.why for left in done.left} == {Why.SEALED}
    assert world.rows() == before


def test_keys_under_an_older_version_are_renewed(world: World) -> None:
    """Only those of the KMS key that has a newer version; a second run finds nothing."""
    branches = [row for row in world.rows("branch") if row.wrapped]
    world.local.rotate("local://pii-fields")
    done, again = world.run(local), world.run(local)

    assert (done.moved, done.renewed) == (0, len(branches))
    assert again.renewed == 0
    versions = {world.local.version_of(row.wrapped or b"") for row in world.rows("branch") if row.wrapped}  # fmt: skip
    assert len(versions) == 1
    assert {row.wrapped for row in branches}.isdisjoint(row.wrapped for row in world.rows("branch") if row.wrapped)  # fmt: skip
    assert world.reads(local)


def test_a_service_that_tells_no_version_is_renewed_on_request(world: World) -> None:
    """Otherwise every run would wrap everything anew; the plan says how many it does not know of."""
    world.run(aws, local)
    world.aws.rotate(aws(scope("branch")))
    branches = [row for row in world.rows() if row.wrapped and row.scope.kind.under_kms]

    with acting_as("mover", purpose="move"):
        plan = world.rewrap(aws).plan()
    assert (len(plan.todo), plan.current, plan.untold) == (0, len(branches), len(branches))
    assert world.run(aws, anew=True).renewed == len(branches)
    assert world.reads(aws)


def test_a_credential_that_only_rewraps_moves_within_a_service(world: World) -> None:
    """Keys stay inside the key service; what could not be checked is counted."""
    world.local.forbidden = {"unwrap", "mint"}

    def renamed(where: Scope) -> str:
        return local(where) + "-2"

    done = world.run(renamed, local)
    world.local.forbidden = set()

    assert done.moved > 0
    assert done.checked == 0
    assert done.left == []
    assert world.reads(renamed)


def test_a_key_under_a_kms_key_nobody_named_stays(world: World) -> None:
    """The row's own word opens nothing: it is left, and said."""
    before = world.rows()
    done = world.run(openbao, aws)

    assert done.moved == 0
    assert {(left.why, left.detail) for left in done.left} == {
        (Why.STRANGE, "local://pii-fields"),
        (Why.STRANGE, "local://pii-index"),
    }
    assert world.openbao.calls == 0
    assert world.rows() == before


def test_an_edited_row_is_left_and_the_others_go(world: World) -> None:
    """What does not open is not made to open: tampering survives no move as something better."""
    victim = world.parts.row("index")
    world.parts.edit(victim, "created", "2020-01-01T00:00:00Z")
    done = world.run(openbao, local)

    assert [(left.row.key_id, left.why) for left in done.left] == [(victim.key_id, Why.SEALED)]
    assert world.parts.store.row(victim.key_id).parent == local(victim.scope)
    with pytest.raises(Tampered):
        world.resolver(openbao, local).to_encrypt(handle("index"))


def test_a_row_that_names_a_key_it_is_not_under_does_not_open(world: World) -> None:
    """The parent is bound: writing the new KMS key's name into a row moves nothing."""
    world.run(openbao, local)
    index = world.parts.row("index")
    world.parts.edit(index, "parent", openbao(scope("branch")))
    with pytest.raises(Tampered):
        world.resolver(lambda _: openbao(scope("branch"))).to_encrypt(handle("index"))
    world.parts.edit(index, "parent", openbao(index.scope))

    assert world.reads(openbao)


def test_an_invented_state_is_no_better_after_a_move(world: World) -> None:
    """A key that SQL made active again has no right MAC before, and none after."""
    row = world.parts.row("data")
    branch = next(row for row in world.rows("branch") if row.state is KeyState.ACTIVE)
    world.parts.step(branch, KeyState.COMPROMISED)
    world.parts.edit(branch, "state", "active")
    assert world.run(openbao, local).left == []

    with pytest.raises(KeyDisabled, match="not authentic"):
        world.resolver(openbao).to_decrypt(handle(), row.key_id)


@pytest.mark.parametrize("what", ["denied", "unreachable"])
def test_a_service_that_refuses_is_not_asked_for_each_key(world: World, what: str) -> None:
    """What one key of a KMS key was told holds for the rest; the other KMS key's keys go."""
    for number in range(60):
        world.parts.create(tenant=f"t{number}")
    getattr(world.local, what).add("local://pii-index")
    asked = len(world.local.unwrapped)
    done = world.run(openbao, local)

    assert {left.to for left in done.left} == {openbao(scope("index"))}
    assert {str(left.why) for left in done.left} <= {str(Why.DENIED), str(Why.UNREACHABLE)}
    refused = world.local.unwrapped[asked:].count("local://pii-index")
    assert refused < len(done.left)
    assert world.resolver(openbao).to_encrypt(handle("branch", tenant="t3"))


def test_a_state_changed_during_the_move_is_kept(world: World) -> None:
    """Compare-and-swap: the row is read again, and moves in its new state."""
    victim = next(row for row in world.rows("branch") if row.state is KeyState.DECRYPT_ONLY)
    real = world.local.unwrap
    done_once: list[int] = []

    def unwrap(kms_key: str, wrapped: bytes, context: Any) -> Any:
        if not done_once and context["lacre-key"] == victim.key_id.hex():
            done_once.append(1)
            world.parts.store.change(
                replace=[
                    (victim, victim.stepped(KeyState.DISABLED, changed="2026-01-01T00:00:00Z"))
                ]
            )
        return real(kms_key, wrapped, context)

    world.local.unwrap = unwrap  # type: ignore[method-assign]
    done = world.run(openbao, local)

    assert done_once
    assert done.left == []
    moved = world.parts.store.row(victim.key_id)
    assert (moved.state, moved.parent) == (KeyState.DISABLED, openbao(victim.scope))


def test_two_movers_at_once_move_each_key_once(world: World) -> None:
    """Whoever comes second finds it done, and every key opens."""
    from concurrent.futures import ThreadPoolExecutor

    for number in range(20):
        world.parts.create(tenant=f"t{number}")
    total = len([row for row in world.rows() if row.wrapped and row.scope.kind.under_kms])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: world.run(openbao, local), range(2)))

    assert sum(each.moved for each in found) == total
    assert all(each.left == [] for each in found)
    assert world.reads(openbao)


def test_every_move_is_in_the_evidence_before_it_is_made(world: World) -> None:
    """Which key, from where to where, in which state, by whom; and no move where it cannot be recorded."""
    world.parts.sink.events.clear()
    done = world.run(openbao, local)
    events = world.parts.sink.of("rewrap")

    assert len(events) == done.moved
    assert {(e.parent, e.to) for e in events} == {  # type: ignore[attr-defined]
        (local(row.scope), openbao(row.scope)) for row in world.rows() if row.scope.kind.under_kms
    }
    assert {e.principal for e in events} == {"mover"}
    with pytest.raises(NoPrincipal):
        world.rewrap(aws, openbao).run()


def test_other_applications_and_tenants_stay(world: World) -> None:
    """Filters are of tenant and class, and a key store that serves several is left alone."""
    world.parts.create(tenant="acme")
    world.parts.create(class_="banking")
    everything = len([row for row in world.rows() if row.wrapped and row.scope.kind.under_kms])
    with acting_as("mover", purpose="move"):
        rewrap = world.rewrap(openbao, local)
        nobodys = replace(rewrap, serves=lambda scope: scope.app == "another")
        plans = [
            rewrap.plan(), rewrap.plan(tenant="acme"), rewrap.plan(class_="banking"), nobodys.plan()
        ]  # fmt: skip

    assert [len(plan.todo) for plan in plans] == [everything, 2, 2, 0]
    assert plans[0].counted() == sorted(plans[0].counted())


def test_progress_ends_at_the_total(world: World) -> None:
    """What is told on the way adds up."""
    told: list[tuple[int, int]] = []
    done = world.run(openbao, local, progress=lambda n, total: told.append((n, total)))

    assert told[-1] == (done.moved, done.moved)


def test_an_event_sink_that_is_full_stops_the_move(world: World) -> None:
    """No key moves unrecorded."""
    from lacre.errors import EvidenceUnavailable

    before, sink = world.rows(), CapturedEvents()
    sink.failing = OSError("full")
    recorder = Recorder(sink)
    with acting_as("mover", purpose="move"), pytest.raises(EvidenceUnavailable):
        replace(world.rewrap(openbao, local), recorder=recorder).run()
    sink.failing = None
    recorder.close()

    assert world.rows() == before
