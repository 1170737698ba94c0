"""A message to the receiver: signed as standardwebhooks.com has it, sent once. Stands before `worker`.

No redirect is followed, no body of an answer is read, and the whole takes no longer than the receiver's seconds.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

SECRET = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_MOST_RETRY_AFTER = 3_600
GONE = 410


@dataclass(frozen=True)
class Receiver:
    """Where alerts go. Neither address, which may hold a token, nor secrets are shown."""

    url: str = field(repr=False)
    secrets: Sequence[bytes] = field(repr=False)
    seconds: float

    @property
    def host(self) -> str:
        """What may be shown of the address."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True)
class Sent:
    """What came of sending: `problem` in words, None if the receiver took it; `retry_after` in seconds, if it said."""

    problem: str | None
    status: int | None = None
    retry_after: int | None = None


def parse_url(given: SecretStr) -> str:
    """The address of a receiver. Raises ValueError, without showing it."""
    parts = urlsplit(given.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("expected https://HOST/PATH (or http://), without a user name")
    _ = parts.port  # ValueError if it is none
    return parts.geturl()


def parse_secrets(given: SecretStr) -> list[bytes]:
    """Secrets, one or several with spaces between; each signs. Raises ValueError, without showing them."""
    found = [_secret(one) for one in given.get_secret_value().split()]
    if not found:
        raise ValueError(f"is empty, expected {SECRET} and {_SHORTEST} to {_LONGEST} bytes in base64")
    return found


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature`: HMAC-SHA256 of id, timestamp and body by each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(one, signed, 'sha256')).decode()}" for one in secrets)


def post(receiver: Receiver, message_id: str, timestamp: int, body: bytes) -> Sent:
    """Send a message once; `timestamp`: of this try, in seconds."""
    headers = {
        "content-type": "application/json",
        "user-agent": "probewatch",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(receiver.secrets, message_id, timestamp, body),
        "connection": "close",
    }
    connection, late = _connection(receiver), threading.Event()
    timer = threading.Timer(receiver.seconds, _cut, [connection, late])
    timer.daemon = True
    timer.start()
    slow = Sent(f"it did not answer within {receiver.seconds:g} s")
    try:
        parts = urlsplit(receiver.url)
        target = (parts.path if parts.path else "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        return slow if late.is_set() else _outcome(answer)  # what is cut looks like its end
    except ssl.SSLCertVerificationError as error:
        return Sent(f"its certificate is refused ({error.verify_message})")
    except (OSError, http.client.HTTPException, ValueError) as error:
        is_slow = late.is_set() or isinstance(error, TimeoutError)
        return slow if is_slow else Sent(f"it cannot be reached ({type(error).__name__})")
    finally:
        timer.cancel()
        connection.close()


def _secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix(SECRET), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(SECRET) or not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError(
            f"expected {SECRET} and {_SHORTEST} to {_LONGEST} bytes in base64: `probewatch alerts secret` makes one"
        )
    return secret


def _connection(receiver: Receiver) -> http.client.HTTPConnection:
    parts = urlsplit(receiver.url)
    assert parts.hostname is not None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=receiver.seconds, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=receiver.seconds)


def _cut(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    """End an exchange that trickles on."""
    late.set()
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _outcome(answer: http.client.HTTPResponse) -> Sent:
    status = answer.status
    if 200 <= status < 300:
        return Sent(None, status)
    why = {GONE: "410: it wants no more"}.get(status, str(status))
    why += ": redirects are not followed" if 300 <= status < 400 else ""
    later = answer.headers.get("retry-after", "")
    seconds = min(int(later), _MOST_RETRY_AFTER) if later.isascii() and later.isdigit() else None
    return Sent(f"it answered {why}", status, seconds)
