"""What is written in one pass of the event loop goes out at once, in order, and never waits beyond a bound."""

from __future__ import annotations

import asyncio

from service.http.protocol import MOST_HELD, GatheringTransport


class Line(asyncio.Transport):
    """Notes what is written, and when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.written


def test_what_is_written_in_one_pass_goes_out_at_once() -> None:
    async def write() -> Line:
        line = Line()
        gathering = GatheringTransport(line)
        gathering.write(b"head ")
        gathering.write(b"body")
        assert line.written == []
        await asyncio.sleep(0)
        gathering.write(b"next")
        await asyncio.sleep(0)
        return line

    assert asyncio.run(write()).written == [b"head body", b"next"]


def test_nothing_overtakes_what_is_held() -> None:
    async def write() -> Line:
        line = Line()
        gathering = GatheringTransport(line)
        gathering.write(b"first")
        gathering.write_now(b"second")
        gathering.write(b"third")
        gathering.close()
        await asyncio.sleep(0)
        assert gathering.is_closing()
        return line

    assert asyncio.run(write()).written == [b"first", b"second", b"third", b"closed"]


def test_no_more_is_held_than_the_bound() -> None:
    async def write() -> list[int]:
        line = Line()
        gathering = GatheringTransport(line)
        for _ in range(3):
            gathering.write(bytes(MOST_HELD // 2 + 1))
        return [len(one) for one in line.written]

    assert asyncio.run(write()) == [MOST_HELD + 2]
