"""A local HTTP server that speaks the wire formats of model providers, to test against without a network or a key.

    async with WireServer() as server:
        server.answers(Reply(text="Four are left."), Answer(status=529, content_type=JSON, chunks=(b"{…}",)))
        provider = OpenAI(base_url=f"{server.url}/v1")

A `Reply` is streamed in the dialect of the path that was asked; an `Answer` says byte by byte what is sent. Once these
are used up, `otherwise` answers, if it was set.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

import msgspec

from ostler.domain.model import Reply
from ostler.testing.wire_anthropic import ANTHROPIC
from ostler.testing.wire_dialect import Asked, Dialect
from ostler.testing.wire_google import GEMINI
from ostler.testing.wire_openai import OPENAI_CHAT
from ostler.testing.wire_responses import RESPONSES

__all__ = ["DIALECTS", "EVENT_STREAM", "JSON", "Answer", "Asked", "WireServer", "stream"]

DIALECTS: tuple[Dialect, ...] = (ANTHROPIC, OPENAI_CHAT, RESPONSES, GEMINI)
"""The wire formats that the server speaks; the first that knows the path of a request answers it."""
CONNECTIONS_WAITING_MAX = 4096
EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


class Answer(msgspec.Struct, frozen=True):
    """What is sent in answer to one request, chunk by chunk, and what follows the last one.

    `cut` closes the connection in the middle of the body, `silence` keeps it open and says nothing more.
    """

    chunks: tuple[bytes, ...] = ()
    status: int = 200
    content_type: str = EVENT_STREAM
    headers: Mapping[str, str] = {}
    then: Literal["end", "cut", "silence"] = "end"


class WireServer:
    """Answers requests in the order in which answers were given, and keeps what was asked. Listens on 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.otherwise: Callable[[Asked], Answer] = lambda asked: _NOTHING_LEFT
        self._answers: list[Answer | Reply] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        assert self._server is not None, "the server has an address only within `async with`"
        return "http://{}:{}".format(*self._server.sockets[0].getsockname())

    def answers(self, *answers: Answer | Reply) -> None:
        """Add to what will be answered."""
        self._answers.extend(answers)

    async def request(self, number: int = 1) -> Asked:
        """The request of this number, as soon as it has come."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.asked) >= number)
        return self.asked[number - 1]

    async def idle(self) -> None:
        """Wait until nobody is connected any more."""
        async with self._news:
            await self._news.wait_for(lambda: not self._open)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=CONNECTIONS_WAITING_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await self.idle()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.connections += 1
        try:
            while asked := await _read(reader):
                async with self._news:
                    self.asked.append(asked)
                    self._news.notify_all()
                if not await self._answer(asked, reader, writer):
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._open.discard(writer)
            async with self._news:
                self._news.notify_all()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Whether the connection can be used for another."""
        answer = self._answers.pop(0) if self._answers else self.otherwise(asked)
        if isinstance(answer, Reply):
            answer = Answer(chunks=stream(answer, asked))
        headers = {"content-type": answer.content_type, "transfer-encoding": "chunked", **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} -\r\n{head}\r\n".encode())
        for chunk in answer.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        if answer.then == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif answer.then == "silence":
            await reader.read()
        return answer.then == "end"


_NOTHING_LEFT = Answer(
    status=500, content_type=JSON, chunks=(b'{"error":{"message":"The test gave no answer for this request."}}',)
)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, body)


def stream(reply: Reply, asked: Asked) -> tuple[bytes, ...]:
    """The chunks in which a provider would stream `reply` to this request."""
    for dialect in DIALECTS:
        if dialect.speaks(asked.path):
            return dialect.stream(reply, asked)
    raise LookupError(f"no dialect of {__name__}.DIALECTS is spoken at {asked.path}")
