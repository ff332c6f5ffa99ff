# SPDX-License-Identifier: Apache-2.0
"""
One POST to a URL that is a secret: over TLS that is verified, without following anywhere.

A redirect is a refusal: its target is not what the operator named, and would get the message, its
signature or the next look at an inner network. Proxies are those of the environment. Of the answer
only the status and ``Retry-After`` are read; neither URL nor answer is in any error.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message as Headers
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from lacre.errors import AlertNotDelivered, ConfigurationError

__all__ = ["TIMEOUT", "check_url", "context_of", "post"]

TIMEOUT = 10.0  # seconds for each step: connecting, sending, the answer
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Headers,
        newurl: str,
    ) -> None:
        return None  # which makes of it an HTTPError


def check_url(url: str, where: str) -> str:
    """
    Return *url*, if messages may go there.

    Raises:
        ConfigurationError: it is not https, or http on this machine. Names *where* it is from, not the URL.
    """
    try:
        parts = urlsplit(url)
        plain = url.isascii() and url.isprintable() and " " not in url
        right = plain and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    else:
        local = parts.scheme == "http" and parts.hostname in _LOOPBACK
        right = right and (parts.scheme == "https" or local) and parts.username is None
    if not right:
        raise ConfigurationError(
            f"{where} holds no URL that alerts may go to",
            hint="https://HOST/PATH, without a user; http:// only on this machine itself",
        )
    return url


def context_of(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificates and names: against *ca_file*, or the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "the ca_file of a channel cannot be read", hint="it holds certificates in PEM"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, context: ssl.SSLContext, what: str
) -> None:
    """
    Send *body* to *url*. Returning means an answer of 2xx.

    Raises:
        AlertNotDelivered: anything else; *what* is the name it has in the error.
    """
    request = urllib.request.Request(  # noqa: S310 - `check_url` and the opener take https only
        url,
        data=body,
        headers={"Content-Type": "application/json", "User-Agent": "lacre", **headers},
        method="POST",
    )
    opener = _opener(context)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        status = error.code
        after = _seconds(error.headers.get("Retry-After") if error.headers else None)
        error.close()
        if 300 <= status < 400:
            raise AlertNotDelivered(
                f"{what} answered with a redirect, which is not followed",
                hint="name the URL it leads to, if that is the receiver",
            ) from None
        # 408, 425 and 429 ask for patience; any other 4xx does not want this message.
        refused = 400 <= status < 500 and status not in (401, 403, 404, 408, 410, 425, 429)
        raise AlertNotDelivered(f"{what} answered {status}", refused=refused, after=after) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AlertNotDelivered(f"{what} {_why(error)}") from None
    if not 200 <= status < 300:
        raise AlertNotDelivered(f"{what} answered {status}")


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    # Not `build_opener`, which reads files and FTP as well.
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        _Stay(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        made.add_handler(handler)
    return made


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "shows a certificate that is not trusted"
    if isinstance(reason, ssl.SSLError):
        return "did not agree on TLS"
    if isinstance(reason, TimeoutError):
        return "did not answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "takes no connections"
    return "cannot be reached"


def _seconds(text: str | None) -> float:
    # A date would do too; who sends one is asked again after the usual pause.
    return min(float(text), 3600.0) if text is not None and text.isdecimal() and len(text) < 9 else 0.0  # fmt: skip
