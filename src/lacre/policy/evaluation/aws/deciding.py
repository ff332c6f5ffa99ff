# SPDX-License-Identifier: Apache-2.0
"""
Whether a call is allowed, and which statement decides it.

In the order of the pages "Policy evaluation logic" of IAM and "Key policies in AWS KMS". Holds no document: it is
given all that apply.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lacre.errors import MisuseError, PolicyNotUnderstood
from lacre.policy.evaluation.aws.calls import Call, Request, request_of
from lacre.policy.evaluation.aws.grants import Grant
from lacre.policy.evaluation.aws.known import ACROSS_ACCOUNTS
from lacre.policy.evaluation.aws.principals import Named
from lacre.policy.evaluation.aws.statements import Document, Statement

__all__ = ["Documents", "Verdict", "decide"]

Policy = Mapping[str, Any] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """
    Everything that decides about one principal's calls on one resource.

    *resource_policy* is the key policy of a KMS key, a bucket's policy, a role's trust policy; *identity_policies* and
    *boundary* are the caller's; *scps* are levels of the organisation, each of which has to allow; *grants* may be of
    any key.
    """

    resource_policy: Document | None = None
    identity_policies: tuple[Document, ...] = ()
    boundary: Document | None = None
    scps: tuple[tuple[Document, ...], ...] = ()
    grants: tuple[Grant, ...] = ()

    @classmethod
    def read(
        cls,
        *,
        key_policy: Policy | None = None,
        resource_policy: Policy | None = None,
        identity_policies: Mapping[str, Policy] | Sequence[Policy] = (),
        boundary: Policy | None = None,
        scps: Sequence[Policy | Sequence[Policy]] = (),
        grants: Iterable[Grant] = (),
    ) -> "Documents":
        """
        Read policies in JSON, or what JSON was read into.

        Args:
            key_policy: of a KMS key; *resource_policy* is of anything else.
            identity_policies: by their names, where they have any.
            scps: one for each level of the organisation, or several of one level in a list.

        Raises:
            PolicyNotUnderstood: one holds something that the evaluator does not know.
        """
        if key_policy is not None and resource_policy is not None:
            raise MisuseError("a key policy and a policy of another resource")
        attached = None
        if key_policy is not None:
            attached = Document.read(key_policy, name="key policy", of_resource=True)
        elif resource_policy is not None:
            attached = Document.read(resource_policy, name="resource policy", of_resource=True)
        named = (
            identity_policies.items()
            if isinstance(identity_policies, Mapping)
            else [(f"identity policy {number}", each) for number, each in enumerate(identity_policies, 1)]
        )  # fmt: skip
        levels = [[each] if isinstance(each, str | Mapping) else each for each in scps]
        return cls(
            resource_policy=attached,
            identity_policies=tuple(Document.read(each, name=name) for name, each in named),
            boundary=None if boundary is None else Document.read(boundary, name="boundary"),
            scps=tuple(
                tuple(
                    Document.read(each, name=f"service control policy {level}.{number}")
                    for number, each in enumerate(policies, 1)
                )
                for level, policies in enumerate(levels, 1)
            ),
            grants=tuple(grants),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    The answer. *because* is a sentence.

    *statement* is the one that decided, ``"key policy/Decrypt"``: what allows, or what denies; None where a call is
    denied because nothing allows it.
    """

    allowed: bool
    because: str
    statement: str | None = None

    def __bool__(self) -> bool:
        return self.allowed


def decide(call: Call, documents: Documents) -> Verdict:
    """
    Say whether AWS allows *call* under *documents*, which are all there are.

    Raises:
        PolicyNotUnderstood: it depends on something that the evaluator does not know.
        MisuseError: the call contradicts itself, or the documents are not its own.
    """
    request = request_of(call)
    _check(request, documents)
    bounded = documents.boundary is not None
    for statement in _everything(request, documents):
        # Who is asked about last: what a denial does not speak of need not be understood.
        if not statement.allows and statement.applies(request) and statement.named(request, bounded=bounded) is not Named.NOT:  # fmt: skip
            return _no(f"{statement.name} denies {call.action}", statement)
    if request.account is not None:
        for number, level in enumerate(documents.scps, 1):
            if _first(level, request) is None:
                return _no(f"no service control policy of level {number} allows {call.action}")
    sides = _Sides(request, documents)
    if request.account is None or request.owner in (None, request.account):
        return sides.same_account()
    return sides.across_accounts()


class _Sides:
    """What each kind of document says to a request that nothing denies."""

    def __init__(self, request: Request, documents: Documents) -> None:
        self.request = request
        self.action = request.action
        self.by: dict[Named, Statement] = {}
        attached = documents.resource_policy
        for statement in attached.statements if attached else ():
            if statement.allows and statement.applies(request):
                self.by.setdefault(statement.named(request), statement)
        self.identity = _first(documents.identity_policies, request)
        self.bounded = (
            documents.boundary is not None and _first([documents.boundary], request) is None
        )
        self.grant = next((each for each in documents.grants if each.allows(request)), None)
        # "An IAM role trust policy and a KMS key policy are exceptions": they have to allow.
        self.must_allow = _must_allow(request)

    def same_account(self) -> Verdict:
        """An account's own resource, or a service's call."""
        request, direct, everybody = (
            self.request,
            self.by.get(Named.ITSELF),
            self.by.get(Named.EVERYBODY),
        )
        if direct is not None and not (request.is_role and self.bounded):
            # "not limited by an implicit deny in an identity-based policy or permissions boundary": a user's ARN.
            return _yes(direct)
        if request.account is None:
            return _yes(everybody) if everybody else self._granted() or self._nobody()
        if self.bounded:
            if everybody is not None or (self.grant is not None and direct is None):
                raise PolicyNotUnderstood("the boundary does not allow it: whether a grant, or who allows everybody, does all the same")  # fmt: skip
            return _no(f"the boundary does not allow {self.action}")
        if everybody is not None:
            return _yes(everybody)
        account = self.by.get(Named.ACCOUNT)
        if request.is_root and not self.must_allow:
            return Verdict(
                allowed=True, because="it is the account's own root, whom nothing denies"
            )
        if self.identity is not None and (account is not None or not self.must_allow):
            return _yes(self.identity, account)
        return self._granted() or self._nobody()

    def across_accounts(self) -> Verdict:
        """A resource of another account: both have to allow."""
        request = self.request
        if request.service == "kms" and self.action not in ACROSS_ACCOUNTS:
            return _no(f"{self.action} is for the account of the key only")
        theirs = (
            self.by.get(Named.ITSELF) or self.by.get(Named.ACCOUNT) or self.by.get(Named.EVERYBODY)
        )
        ours = request.is_root or (self.identity is not None and not self.bounded)
        if theirs is not None and ours:
            return _yes(theirs, self.identity)
        if self.grant is not None and ours:
            return Verdict(
                allowed=True,
                because=f"{self.grant.name} allows {self.action}",
                statement=self.grant.name,
            )
        if self.grant is not None:
            raise PolicyNotUnderstood(
                f"{self.grant.name}, to another account: whether an identity policy has to allow too"
            )
        if theirs is None:
            return _no(f"nothing in the account of the resource allows {self.action}")
        return _no(f"{theirs.name} allows {self.action}, and nothing in the caller's account does")

    def _granted(self) -> Verdict | None:
        if self.grant is None:
            return None
        return Verdict(
            allowed=True,
            because=f"{self.grant.name} allows {self.action}",
            statement=self.grant.name,
        )

    def _nobody(self) -> Verdict:
        if self.must_allow and self.identity is not None:
            return _no(f"{self.identity.name} allows {self.action}, and the resource's policy neither allows it nor leaves it to identity policies")  # fmt: skip
        if (account := self.by.get(Named.ACCOUNT)) is not None:
            return _no(
                f"{account.name} leaves {self.action} to identity policies, and none allows it"
            )
        return _no(f"nothing allows {self.action}")


def _must_allow(request: Request) -> bool:
    resource = request.call.resource
    return _is_key(resource) or (request.service == "sts" and ":role/" in resource)


def _is_key(resource: str) -> bool:
    return (
        resource.startswith("arn:") and resource.split(":", 5)[2] == "kms" and ":key/" in resource
    )


def _check(request: Request, documents: Documents) -> None:
    resource, attached = request.call.resource, documents.resource_policy
    if _must_allow(request) and attached is None:
        raise MisuseError(f"{resource} has a policy of its own, and it is not among the documents")
    if attached is not None and (resource == "*" or ":alias/" in resource):
        raise MisuseError(f"{resource} has no policy, and one is among the documents")
    for statement in attached.statements if attached else ():
        if statement.resources is None and not (request.service == "sts" and ":role/" in resource):
            raise PolicyNotUnderstood(f"{statement.name} names no resource")
    if (request.account is None or request.is_root) and (
        documents.identity_policies or documents.boundary
    ):
        raise MisuseError(f"{request.call.principal} has no identity policies and no boundary")


def _everything(request: Request, documents: Documents) -> Iterator[Statement]:
    levels: list[Document] = []
    if request.account is not None:  # service control policies are for principals of accounts
        levels = [each for level in documents.scps for each in level]
    rest = [documents.resource_policy, *documents.identity_policies, documents.boundary]
    for document in [*levels, *(each for each in rest if each is not None)]:
        yield from document.statements


def _first(documents: Iterable[Document], request: Request) -> Statement | None:
    return next(
        (
            statement
            for document in documents
            for statement in document.statements
            if statement.allows and statement.applies(request)
        ),
        None,
    )


def _yes(statement: Statement, other: Statement | None = None) -> Verdict:
    more = f", and so does {other.name}" if other is not None else ""
    return Verdict(
        allowed=True, because=f"{statement.name} allows it{more}", statement=statement.name
    )


def _no(because: str, statement: Statement | None = None) -> Verdict:
    return Verdict(
        allowed=False, because=because, statement=None if statement is None else statement.name
    )
