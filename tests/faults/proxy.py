"""A TCP proxy that breaks: it cuts connections in the middle, or takes them and says nothing more.

async with Proxy("127.0.0.1", 6379) as proxy:
    client = connect(proxy.host, proxy.port)
    proxy.stall()      # what is sent from now on arrives nowhere, and no answer comes back
    proxy.cut()        # every connection is reset; new ones are as before
    proxy.resume()     # what was held back goes on, in order
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""A socket that lingers for zero seconds is closed by a reset."""


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to `target_host:target_port`, until it is told otherwise."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.connections = 0
        """How many were ever opened through it."""
        self.passed = 0
        """How many bytes of the client have been passed on."""
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._moved = asyncio.Condition()
        self._cut_after: int | None = None

    def cut(self) -> None:
        """Reset every connection, at both ends."""
        for writer in list(self._writers):
            _reset(writer)

    def cut_after(self, size: int) -> None:
        """Reset every connection as soon as the client has sent so many more bytes; the last of them arrive in part."""
        self._cut_after = self.passed + size

    def stall(self) -> None:
        """Go on accepting connections and bytes, and pass none on, in either direction."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass on what was held back, and everything that follows."""
        self._flows.set()

    async def until(self, is_so: Callable[[Self], bool]) -> None:
        """Wait until this is true of it; a connection or passed bytes may make it so."""
        async with self._moved:
            await self._moved.wait_for(lambda: is_so(self))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self._writers.add(writer)
        target: asyncio.StreamWriter | None = None
        try:
            await self._tell(connections=1)
            answers, target = await asyncio.open_connection(*self._target)
            self._writers.add(target)
            there = asyncio.create_task(self._pump(reader, target, is_clients=True))
            back = asyncio.create_task(self._pump(answers, writer, is_clients=False))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, target):
                if one is not None:
                    self._writers.discard(one)
                    one.close()
            self._links.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_clients: bool) -> None:
        while data := await reader.read(CHUNK):
            await self._flows.wait()
            is_last = False
            if is_clients and self._cut_after is not None and self.passed + len(data) >= self._cut_after:
                data, is_last = data[: self._cut_after - self.passed], True
                self._cut_after = None
            writer.write(data)
            await writer.drain()
            if is_clients:
                await self._tell(passed=len(data))
            if is_last:
                self.cut()

    async def _tell(self, *, connections: int = 0, passed: int = 0) -> None:
        async with self._moved:
            self.connections += connections
            self.passed += passed
            self._moved.notify_all()


def _reset(writer: asyncio.StreamWriter) -> None:
    connected = writer.get_extra_info("socket")
    if connected is not None and not writer.is_closing():
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
