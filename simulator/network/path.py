"""One direction of the network: bytes travel as its condition says, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from simulator.network.conditions import CLEAR, Condition, Reach

SEGMENT_BYTES: Final = 1_460
"""What TCP puts into a packet of Ethernet's size."""

_CHUNK_BYTES: Final = 16_384
_IN_THE_AIR: Final = 256
"""Segments; more would be a buffer that no network has."""

_Travelling = asyncio.Queue[tuple[float, bytes] | None]


class Path:
    """Shared by all connections that go this way: the rate is theirs together."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._condition = CLEAR
        self._turn = asyncio.Lock()
        self._moving = asyncio.Event()
        self._moving.set()

    def become(self, condition: Condition) -> None:
        """From now on; what is on its way keeps the delay it has."""
        self._condition = condition
        if condition.reach is Reach.STALL:
            self._moving.clear()
        else:
            self._moving.set()

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter | None,
        deliver: Callable[[bytes], bool],
    ) -> None:
        """Until ``reader`` ends and all is delivered.

        ``deliver`` is told of each piece before it is written; ``False`` lets it vanish.

        Raises:
            OSError: either side went away.
        """
        travelling: _Travelling = asyncio.Queue(_IN_THE_AIR)
        arriving = asyncio.ensure_future(self._arrive(travelling, writer, deliver))
        leaving = asyncio.ensure_future(self._leave(reader, travelling))
        try:
            await asyncio.wait((arriving, leaving), return_when=asyncio.FIRST_EXCEPTION)
            for end in (leaving, arriving):
                if end.done():
                    end.result()
        finally:
            for end in (leaving, arriving):
                end.cancel()
            await asyncio.gather(leaving, arriving, return_exceptions=True)

    async def _leave(self, reader: asyncio.StreamReader, travelling: _Travelling) -> None:
        due_s = 0.0
        now_s = asyncio.get_running_loop().time
        while data := await reader.read(SEGMENT_BYTES if self._condition.shaped else _CHUNK_BYTES):
            # in order: what is behind a late segment waits for it
            due_s = max(due_s, now_s() + self._condition.transit_s(self._random))
            await travelling.put((due_s, data))
        await travelling.put(None)

    async def _arrive(
        self,
        travelling: _Travelling,
        writer: asyncio.StreamWriter | None,
        deliver: Callable[[bytes], bool],
    ) -> None:
        now_s = asyncio.get_running_loop().time
        while (piece := await travelling.get()) is not None:
            due_s, data = piece
            if (left_s := due_s - now_s()) > 0:
                await asyncio.sleep(left_s)
            await self._moving.wait()
            rate = self._condition.rate_bytes_per_s
            if rate is not None:
                async with self._turn:
                    await asyncio.sleep(len(data) / rate)
            if deliver(data) and writer is not None:
                writer.write(data)
                await writer.drain()
