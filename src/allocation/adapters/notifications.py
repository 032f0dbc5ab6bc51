"""Mail by SMTP."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from ssl import create_default_context
from urllib.parse import unquote, urlsplit

from allocation.service_layer.errors import Rejected, Unavailable
from allocation.service_layer.ports import Notifications

TIMEOUT_SECONDS = 10


class SmtpNotifications(Notifications):
    """`url` is smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://...; a connection lasts for one message."""

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "localhost", parts.port or (465 if self._secure else 25)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender = sender

    def send(self, destination: str, subject: str, body: str, message_id: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, destination, subject
        mail["Message-ID"] = f"<{message_id}@{self._sender.rpartition('@')[2]}>"
        mail.set_content(body)
        try:
            with self._connected() as server:
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
            if _for_now(refused):
                raise Unavailable(f"The mail server asks to try again later: {refused}") from refused
            raise Rejected(f"The mail server refused the mail: {refused}") from refused
        except (OSError, smtplib.SMTPException) as away:
            raise Unavailable(f"The mail server does not answer: {away}") from away

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        if self._secure:
            # smtplib's own context accepts any certificate, and so any man in the middle.
            context = create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            yield server
            with suppress(OSError, smtplib.SMTPException):  # the mail is accepted: what follows must not send it again
                server.quit()
        finally:
            server.close()


def _for_now(refused: smtplib.SMTPException) -> bool:
    """Whether a refusal is temporary: codes 400 to 499 (RFC 5321, section 4.2.1)."""
    if isinstance(refused, smtplib.SMTPRecipientsRefused):
        return all(400 <= code < 500 for code, _ in refused.recipients.values())
    return isinstance(refused, smtplib.SMTPResponseException) and 400 <= refused.smtp_code < 500
