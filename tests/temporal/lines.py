"""A line to the server that can be cut: what is sent meanwhile waits, as in a real network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Line:
    """Passes everything on, but not while it is cut."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.partition(":")
        self._whole = asyncio.Event()
        self._whole.set()
        self._pumps: list[asyncio.Task[None]] = []
        self.address = ""

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        """Connections from before are gone; what was on its way on them is lost."""
        for pump in self._pumps:
            pump.cancel()
        self._pumps.clear()
        self._whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        back_reader, back_writer = await asyncio.open_connection(self._host, int(self._port))
        ways = ((reader, back_writer), (back_reader, writer))
        self._pumps += [asyncio.create_task(self._pump(*way)) for way in ways]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    await self._whole.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def line_to(address: str) -> AsyncIterator[Line]:
    """A line to the server at that address."""
    line = Line(address)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        line.mend()
        server.close()
