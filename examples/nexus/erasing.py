# SPDX-License-Identifier: Apache-2.0
"""
An operator's work on requests for erasure: who asked, and closing a request once `lacre shred` ran.

::

    python -m nexus erasures                        # who asked, and when
    lacre shred USER_ID --models nexus.models:User --database ... --reason "asked for it"
    python -m nexus erased USER_ID CERTIFICATE      # checks, and closes the request

A certificate names a pseudonym that nobody can lead back to a person any more. So what closes the
request is twofold: an operator's signature on the certificate, and a look at the person that fails.
Erases nothing itself: the service has no right to.
"""

import datetime as dt
import hashlib
from uuid import UUID

from sqlalchemy import select

from lacre import LacreError
from lacre.errors import ConfigurationError, KeyDestroyed, Tampered
from lacre.jobs.certificates import read_certificate
from nexus.models import ErasureRequest, User
from nexus.service import Service

__all__ = ["NotErased", "asked", "close"]


class NotErased(Exception):
    """The request stays open, and why."""


async def asked(service: Service) -> list[tuple[UUID, dt.datetime]]:
    """Return who asked and is not erased yet, the first to ask first."""
    open_ = select(ErasureRequest).where(ErasureRequest.done.is_(None))
    async with service.sessions() as session:
        found = await session.scalars(open_.order_by(ErasureRequest.asked))
        return [(each.user_id, each.asked) for each in found]


async def close(service: Service, person: UUID, certificate: bytes) -> str:
    """
    Close the request of *person*, who was erased as *certificate* says; return the certificate's id.

    Raises:
        NotErased: nobody asked, the certificate is not one of an erasure, or their data still opens.
    """
    found, body = hashlib.sha256(certificate).hexdigest(), _of_subject(service, certificate)
    async with service.sessions.begin() as session:
        request = await session.get(ErasureRequest, person, with_for_update=True)
        if request is None:
            raise NotErased("nobody asked for that")
        if request.done is not None:
            raise NotErased(f"it is closed, by certificate {request.certificate}")
        if await session.scalar(select(ErasureRequest).filter_by(certificate=found)) is not None:
            raise NotErased("that certificate closed another request")
        user = await session.get(User, person)
        if user is not None and await _opens(service, user):
            raise NotErased("their data still opens: it is another person's certificate")
        request.done = dt.datetime.fromisoformat(body["shredded_at"])
        request.certificate = found
    return found


def _of_subject(service: Service, data: bytes) -> dict[str, str]:
    policy = service.lacre.policy.file
    try:
        body = read_certificate(data, signers=service.lacre.signers)
    except (ConfigurationError, Tampered):
        raise NotErased("the certificate is signed by no operator of this service") from None
    here = (policy.app, policy.env, policy.service, policy.default_tenant, "subject")
    if tuple(body.get(name) for name in ("app", "env", "service", "tenant", "kind")) != here:
        raise NotErased("the certificate is of another service, or of no person")
    if body["verification"]["opened"]:
        raise NotErased("the certificate says that values still open")
    return body


async def _opens(service: Service, user: User) -> bool:
    # As whoever could read it, were there anything to read. The look is in the evidence.
    with service.lacre.acting_as("svc:nexus", roles={"admin"}, purpose="erasure"):
        try:
            await service.lacre.prepare(user)
            found = user.name
        except KeyDestroyed:
            return False
        except LacreError as error:
            raise NotErased(f"whether it opens cannot be told now: {error}") from None
        return found is not None
