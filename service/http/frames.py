"""Messages over a socket between two processes of one service: a length, then a pickle. Stands before `turns`.

Pickle, since both ends are the same program and the pair of sockets has no name that anyone else could reach.
"""

from __future__ import annotations

import pickle
from struct import Struct

_LENGTH = Struct("<Q")


def pack(message: object) -> bytes:
    """A message as a frame."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Messages out of bytes that come in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[object]:
        """The messages that are whole with these bytes, in order."""
        self._held += data
        found: list[object] = []
        start = 0
        while (body := start + _LENGTH.size) <= len(self._held):
            end = body + _LENGTH.unpack_from(self._held, start)[0]
            if end > len(self._held):
                break
            found.append(pickle.loads(self._held[body:end]))
            start = end
        del self._held[:start]
        return found
