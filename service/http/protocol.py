"""One connection: bounds on what is not yet a request, and the door before what is. Stands after `door`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service.http.door import START, Door, Refused

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = AutoHTTPProtocol

DOOR = "door"
"""Where the state of the app, which uvicorn hands to every connection, has its door; it may have none."""
MOST_HEAD = 64 << 10
"""Bytes of a request before its body. (uvicorn bounds them with h11; with httptools this does.)"""
MOST_HELD = 64 << 10
"""Bytes that are gathered before they are written."""
_STATUS = b"HTTP/1.1 503 Service Unavailable\r\n"
_CLOSE = b"connection: close\r\n\r\n"


class GatheringTransport:
    """A transport that writes at once what is written in one pass of the event loop: uvicorn writes the head of an
    answer and then its body, and each would cost a call of the system here and wake the reader there."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] = []
        self._n_bytes = 0
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        if not self._held:
            self._call_soon(self._flush)
        self._held.append(data)
        self._n_bytes += len(data)
        if self._n_bytes > MOST_HELD:  # so that who writes more than is read is told to wait
            self._flush()

    def write_now(self, data: bytes) -> None:
        """Write what is whole by itself."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._n_bytes = 0
            if not self._transport.is_closing():  # as by a reader that reset the line
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class PatientProtocol(_Protocol):
    """Patient for so long with a request whose headers are not all there, and for so many bytes; then it closes."""

    _in_head, _n_heads, _head_bytes, _was_heard = False, 0, 0, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheringTransport(transport))  # type: ignore[arg-type]
        asyncio.get_running_loop().call_later(self.timeout_keep_alive, self._close_if_silent, transport)

    def _close_if_silent(self, transport: asyncio.Transport) -> None:
        if not self._was_heard and getattr(self, "cycle", None) is None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._wait_for_head(len(data))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._n_heads += 1

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False

    def _wait_for_head(self, n: int) -> None:
        if not self._head_bytes:
            asyncio.get_running_loop().call_later(self.timeout_keep_alive, self._close_if_in_head, self._n_heads)
        self._head_bytes += n
        if self._head_bytes > MOST_HEAD:
            self.transport.close()

    def _close_if_in_head(self, number: int) -> None:
        if self._in_head and self._n_heads == number:
            self.transport.close()


class GuardedProtocol(PatientProtocol):
    """Asks the door about each request that comes whole and alone; what that lets in is parsed.

    With h11 all is parsed: it says less of where in a request it is.
    """

    _is_between = hasattr(AutoHTTPProtocol, "on_message_complete")  # two requests, or before the first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._door: Door | None = self.app_state.get(DOOR)

    def data_received(self, data: bytes) -> None:
        refused = self._door.refuse(data) if self._door is not None and self._may_refuse(data) else None
        if refused is None:
            super().data_received(data)
        else:
            self._answer(refused)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_between = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_between = True

    def _may_refuse(self, data: bytes) -> bool:
        """Whether data begins what may be a prompt, nothing before it is unanswered, and uvicorn would not refuse."""
        most = self.limit_concurrency
        return (
            data.startswith(START)
            and self._is_between
            and (self.cycle is None or self.cycle.response_complete)
            and not self.transport.is_closing()
            and not self.flow.write_paused
            and (most is None or max(len(self.connections), len(self.tasks)) < most)
        )

    def _answer(self, refused: Refused) -> None:
        self._was_heard = True
        lines = [b"%b: %b\r\n" % field for field in self.server_state.default_headers]
        end = b"\r\n" if refused.stays else _CLOSE
        self.transport.write_now(b"".join([_STATUS, *lines, refused.answer.lines, end, refused.answer.body]))  # type: ignore[attr-defined]
        if not refused.stays:
            self.transport.close()
        self.on_response_complete()
