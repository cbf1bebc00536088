"""A proxy before a PostgreSQL server that loses answers: what was asked is done, and nobody is told."""

import asyncio
import struct
from types import TracebackType
from typing import Self

READY = b"Z"
"""The message that ends every answer (https://www.postgresql.org/docs/current/protocol-message-formats.html)."""
OF_STATEMENTS = b"1tTnRSKNA"
"""What is said of a statement before it is executed, of the connection, and without having been asked for."""


class Losing:
    """Passes everything on, but for the answer that it is told to lose: then it breaks that connection.

    To be used without TLS (`sslmode=disable`), for it reads what the server says.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.answers = 0
        """How many answers have come from the server."""
        self.lost = 0
        self._target = port
        self._left = 0
        self._links: set[asyncio.Task[None]] = set()

    def lose(self, number: int) -> None:
        """The answer that is the `number`-th from now on does not arrive."""
        self._left = number

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [asyncio.create_task(_copy(reader, to_server)), asyncio.create_task(self._answer(server, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.close()
            writer.close()
            self._links.discard(task)

    async def _answer(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the server says, but for the outcome that is to be lost, which is read to its end."""
        while True:
            kind = await server.readexactly(1)
            size = await server.readexactly(4)
            message = kind + size + await server.readexactly(struct.unpack("!i", size)[0] - 4)
            if self._left != 1 or kind in OF_STATEMENTS:
                writer.write(message)
                await writer.drain()
            if kind == READY:
                self.answers += 1
                if self._left == 1:
                    self._left, self.lost = 0, self.lost + 1
                    return
                self._left = max(0, self._left - 1)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
