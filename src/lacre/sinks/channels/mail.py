# SPDX-License-Identifier: Apache-2.0
"""
Mail, over TLS that is verified before a password or an address is sent.

Plain text, one part. Headers are made by the standard library, which refuses a line break in one;
what is quoted has none anyway. The `Message-ID` is the same for each try, so that mail that came
twice is one in most programs.
"""

import contextlib
import email.policy
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage

from lacre.audit.alerts import Message
from lacre.errors import AlertNotDelivered
from lacre.sinks.channels.http import TIMEOUT

__all__ = ["Mail"]

# Internationalised headers are encoded words: not every server takes SMTPUTF8.
_POLICY = email.policy.SMTP.clone(utf8=False, cte_type="7bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail server, and who writes to whom. *tls* is `starttls`, `implicit`, or `none` on this machine."""

    host: str
    port: int
    tls: str
    sender: str
    recipients: Sequence[str]
    context: ssl.SSLContext
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def send(self, message: Message) -> None:
        """Deliver *message*: to all recipients, or not at all."""
        mail = EmailMessage(policy=_POLICY)
        mail["Subject"] = message.title
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Message-ID"] = f"<{message.id}@{self.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Lacre-Severity"] = str(message.severity)
        mail.set_content("\n\n".join(message.lines) + "\n", cte="quoted-printable")
        try:
            with self._connected() as server:
                refused = server.send_message(mail, self.sender, list(self.recipients))
        except smtplib.SMTPResponseException as error:
            # A 5xx to what was said is about this mail; to a login or a sender it is about all of them.
            about = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
            raise AlertNotDelivered(
                f"the mail server answered {error.smtp_code}", refused=about
            ) from None
        except ssl.SSLCertVerificationError:
            raise AlertNotDelivered(
                "the mail server shows a certificate that is not trusted"
            ) from None
        except TimeoutError:
            raise AlertNotDelivered("the mail server did not answer in time") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise AlertNotDelivered(
                f"the mail server did not take it ({type(error).__name__})"
            ) from None
        if refused:
            # Some got it. Those who did get it again, with the same Message-ID.
            raise AlertNotDelivered(
                f"the mail server refused {len(refused)} of {len(self.recipients)} recipients"
            )

    def _connected(self) -> smtplib.SMTP:
        if self.tls == "implicit":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT, context=self.context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT)
        try:
            if self.tls == "starttls":
                # Raises where the server offers none, or whoever sits between took the offer out.
                server.starttls(context=self.context)
            if self.user is not None:
                server.login(self.user, self.password or "")
        except BaseException:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.close()
            raise
        return server
