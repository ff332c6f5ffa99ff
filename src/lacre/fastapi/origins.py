# SPDX-License-Identifier: Apache-2.0
"""
Where a request comes from, for the evidence: the caller's address, its user agent, an id that all
records of the request share, and the ticket that it is for.

The address is the connection's. What a header says of it is believed only from proxies that were
named, and then the rightmost address that is no such proxy's: everything left of it is the caller's
own text. The correlation id is `X-Correlation-ID`, else the trace of `traceparent` (W3C), else drawn;
`install` sends it back. None of it is proved and nothing is decided on it.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from fastapi.requests import HTTPConnection

from lacre.context import Origin
from lacre.errors import ConfigurationError, InvalidValue

__all__ = ["CORRELATION_HEADER", "REASON_HEADER", "Origins", "correlation_of"]

CORRELATION_HEADER = "X-Correlation-ID"
REASON_HEADER = "X-Reason"
_TRACE = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_KEPT = "lacre.correlation"  # in the ASGI scope of a request

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Origins:
    """
    Reads the origin of requests.

    Args:
        proxies: addresses and networks whose `X-Forwarded-For` is believed.

    Raises:
        ConfigurationError: one of them is no address or network.
    """

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        if isinstance(proxies, str):
            raise ConfigurationError("proxies is a list of networks", hint=f'proxies=["{proxies}"]')
        try:
            self._proxies = [ipaddress.ip_network(each) for each in proxies]
        except ValueError:
            raise ConfigurationError(
                "a proxy is an address or a network", hint='for example proxies=["10.0.0.0/8"]'
            ) from None

    def of(self, connection: HTTPConnection) -> Origin:
        """
        Return where *connection* comes from.

        Raises:
            InvalidValue: its `X-Reason` is no ticket or single word.
        """
        address = self._address(connection)
        said = {
            "correlation": correlation_of(connection.scope),
            "ip": "" if address is None else str(address),
            "agent": connection.headers.get("user-agent", ""),
        }
        reason = connection.headers.get(REASON_HEADER, "")
        try:
            return Origin(reason=reason, **said)
        except ConfigurationError:
            raise InvalidValue(
                f"{REASON_HEADER} is no reason", hint="one word or ticket, without spaces"
            ) from None

    def _address(self, connection: HTTPConnection) -> _Address | None:
        client = connection.client
        address = None if client is None else _read(client.host)
        if address is None or not self._believed(address):
            return address
        chain = ",".join(connection.headers.getlist("x-forwarded-for"))
        for hop in reversed([each.strip() for each in chain.split(",") if each.strip()]):
            found = _read(hop)
            if found is None:
                break  # a proxy that says no address: who was before it is not known
            address = found
            if not self._believed(found):
                break
        return address

    def _believed(self, address: _Address) -> bool:
        return any(address in network for network in self._proxies)


def correlation_of(scope: Any) -> str:
    """Return the correlation id of a request, which is made where it brings none. *scope* is ASGI's."""
    found: str | None = scope.get(_KEPT)
    if found is None:
        found = scope[_KEPT] = _brought(scope) or uuid4().hex
    return found


def _brought(scope: Any) -> str | None:
    given: list[tuple[bytes, bytes]] = scope.get("headers", [])
    headers = {name: value.decode("latin-1") for name, value in given}
    said = headers.get(CORRELATION_HEADER.lower().encode(), "")
    try:
        if Origin(correlation=said).correlation:
            return said
    except ConfigurationError:
        pass  # it is not one: the trace, or a new one
    trace = _TRACE.fullmatch(headers.get(b"traceparent", "").strip())
    return None if trace is None else trace[1]


def _read(text: str) -> _Address | None:
    # Some proxies add the port, to IPv6 in brackets.
    bare = re.sub(r"^\[(.+)\](:\d+)?$|^([^:]+):\d+$", r"\1\3", text)
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return found if mapped is None else mapped
