# SPDX-License-Identifier: Apache-2.0
"""Who does something about a grant, with what they do it: their identity, the key store, the rules, the time."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from lacre.application import Lacre
from lacre.audit.event import who
from lacre.audit.governing import GrantChanged
from lacre.cli.operator import (
    key_store,
    keystore_directory,
    load_operator,
    passphrase_of,
)
from lacre.context import acting_as, current
from lacre.errors import AccessDenied, MisuseError
from lacre.evidence import keep_key_evidence
from lacre.granting import logged_revocations, rules_of
from lacre.keys.recording import recorded
from lacre.kms.local import Identity, KeystoreAdministration
from lacre.policy.grants import steps
from lacre.policy.grants.judging import Judged, Rules, judge
from lacre.policy.grants.request import GrantAct, GrantRecord, GrantRequest
from lacre.policy.model import PolicyFile
from lacre.stores.sql import SQLKeyStore

__all__ = ["IdentityFile", "Kept", "Person", "as_person", "keeping"]

IdentityFile = typer.Option(
    None, "--identity", help="your identity; by default the operator's, [local] operator"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The grants of a key store, and what they are judged by at *now*; *revoked* are those the evidence says so of."""

    store: SQLKeyStore
    rules: Rules
    now: float
    revoked: frozenset[str]

    def records(self) -> Sequence[GrantRecord]:
        return self.store.grant_records()

    def one(self, beginning: str) -> GrantRecord:
        """
        Return the grant whose id begins so.

        Raises:
            MisuseError: there is none, or there are several.
        """
        found = self.store.grant_records(beginning=beginning)
        if len(found) != 1:
            raise MisuseError(
                f"{'several grants begin' if found else 'no grant begins'} with {beginning!r}",
                hint="`lacre grant list` shows them",
            )
        return found[0]

    def judge(self, record: GrantRecord) -> Judged:
        return judge(record, self.rules, now=self.now, revoked=record.request.id in self.revoked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who does something about a grant."""

    identity: Identity
    lacre: Lacre
    base: Path
    kept: Kept

    def keystore(self) -> KeystoreAdministration:
        """Return the administration of the local keystore, signed by this person."""
        return KeystoreAdministration(
            keystore_directory(self.lacre.policy.file, self.base),
            keystore_id=self.kept.store.keystore_id,
            signer=self.identity,
            signers=self.lacre.signers,
            memory=self.kept.store,
        )

    def ask(self, request: GrantRequest) -> None:
        """Keep a request, and evidence of it."""
        with self._recorded(request, ["requested"]):
            self.kept.store.add_grant(request)

    def do(self, record: GrantRecord, acts: Sequence[GrantAct], steps: Sequence[str]) -> None:
        """Keep what was done about a grant, and evidence of it, in one transaction."""
        with self._recorded(record.request, steps):
            self.kept.store.add_grant_acts(acts)

    @contextmanager
    def _recorded(self, request: GrantRequest, steps: Sequence[str]) -> Iterator[None]:
        events = [
            GrantChanged(
                **who(current(), time=time.time(), tenant=request.tenant),
                step=step,
                grant=request.id,
                beneficiary=request.beneficiary,
                class_=request.class_,
                right=request.right,
                until=request.until,
                breakglass=request.break_glass,
            )
            for step in steps
        ]
        with recorded(self.lacre.recorder.write, self.kept.store, events):
            yield


@contextmanager
def as_person(
    config: Path, identity: Path | None, passphrase_file: Path | None
) -> Iterator[Person]:
    """
    Open the application as whoever has *identity*, and act as they are called in lacre.toml.

    Raises:
        AccessDenied: lacre.toml does not know them, or this machine's clock was set back.
    """
    store, policy = key_store(config)
    base = config.resolve().parent
    try:
        if identity is None:
            own = load_operator(policy, base, passphrase_file)
        else:
            own = Identity.load(identity, passphrase_of(identity, passphrase_file))
        with keeping(store, policy, base) as kept:
            name = kept.rules.people.called(own.fingerprint)
            if name is None:
                raise AccessDenied(
                    "lacre.toml does not know this identity",
                    hint='it is named by [approvers."NAME"], [principals."NAME"] local or [local] signers',
                )
            people = kept.rules.people
            roles = {"approver"} if name in people.approvers else {"operator"} if name in people.operators else ()  # fmt: skip
            with Lacre.load(config, identity=own) as lacre:
                keep_key_evidence(store, policy, lacre.stamp)
                # Across the yield: the block is the command's, which runs in this generator's consumer.
                with acting_as(name, roles=roles, purpose="grant", across_yield=True):
                    yield Person(identity=own, lacre=lacre, base=base, kept=kept)
    finally:
        store.close()


@contextmanager
def keeping(store: SQLKeyStore, policy: PolicyFile, base: Path) -> Iterator[Kept]:
    """Read what grants are judged by; refused where the clock was set back."""
    evidence = logged_revocations(policy, base)
    try:
        times = [store.newest(), None if evidence is None else evidence.newest()]
        latest = max((each for each in times if each is not None), default=None)
        yield Kept(
            store=store,
            rules=rules_of(policy, store.keystore_id),
            now=steps.present(time.time(), latest),
            revoked=frozenset() if evidence is None else frozenset(evidence.revoked()),
        )
    finally:
        if evidence is not None:
            evidence.close()
