# SPDX-License-Identifier: Apache-2.0
"""
Where the dashboard is: the address that it listens at, and the one that browsers know it by.

Behind a reverse proxy these are two. Only what was configured counts: forwarded headers are not
read, so whoever reaches the port cannot say that they came by another way. Listens to nothing.
"""

import ipaddress
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from lacre.errors import ConfigurationError

__all__ = ["Place"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    An address, and the URL that stands for it.

    Args:
        public: as browsers know it, for example ``https://evidence.example.org/lacre``, where a
            reverse proxy stands before it; it terminates TLS there.

    Raises:
        ConfigurationError: *public* is no such URL.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    public: str | None = None

    def __post_init__(self) -> None:
        if self.public is None:
            return
        try:
            parts = urlsplit(self.public)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ConfigurationError(
                "the public URL is not one", hint="--public-url https://evidence.example.org/lacre"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def root(self) -> str:
        """The path before every page's, without a slash at its end."""
        return "" if self.public is None else urlsplit(self.public).path.rstrip("/")

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by HTTPS."""
        return self.public is not None and urlsplit(self.public).scheme == "https"

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at its end."""
        if self.public is not None:
            return self.public.rstrip("/")
        return f"http://{_bracketed(self.host)}:{self.port}"

    @cached_property
    def hosts(self) -> frozenset[str]:
        """
        What a `Host` header may be.

        A page of a stranger whose name was made to resolve to this address (DNS rebinding) sends
        the stranger's name.
        """
        if self.public is not None:
            parts = urlsplit(self.public)
            name = _bracketed(str(parts.hostname))
            standard = 443 if parts.scheme == "https" else 80
            named = {f"{name}:{parts.port or standard}"}
            return frozenset(named | {name} if (parts.port or standard) == standard else named)
        names = {_bracketed(self.host)}
        if self.loopback:
            names |= {"127.0.0.1", "[::1]", "localhost"}
        return frozenset(f"{name}:{self.port}" for name in names)

    @cached_property
    def origin(self) -> frozenset[str]:
        """What an `Origin` header may be."""
        scheme = "https" if self.secure else "http"
        return frozenset(f"{scheme}://{host}" for host in self.hosts)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()
