"""A web server that takes webhooks, and answers them as it is told."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self


class Post(NamedTuple):
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is answered: a status, further headers and a body; `silence` says nothing at all."""

    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""
    silence: bool = False


TAKEN = Answer()


class Receiver:
    """Listens on 127.0.0.1. `posts` are those that it took, `refused` all others."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.refused: list[Post] = []
        self.answer: Callable[[Post], Answer] = lambda post: TAKEN
        self.url = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()

    @classmethod
    async def start(cls) -> Self:
        receiver = cls()
        receiver._server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)
        host, port = receiver._server.sockets[0].getsockname()
        receiver.url = f"http://{host}:{port}/events"
        return receiver

    async def until(self, is_so: Callable[[Self], bool]) -> None:
        """Wait until this is true of it; a request may make it so."""
        async with self._news:
            await self._news.wait_for(lambda: is_so(self))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        post = Post(first.split(" ")[1], headers, body)
        answer = self.answer(post)
        async with self._news:
            (self.posts if 200 <= answer.status < 300 and not answer.silence else self.refused).append(post)
            self._news.notify_all()
        if answer.silence:
            await reader.read()
            return False
        further = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        length = f"content-length: {len(answer.body)}\r\n" if answer.status != 204 else ""
        writer.write(f"HTTP/1.1 {answer.status} -\r\n{length}{further}\r\n".encode() + answer.body)
        await writer.drain()
        return True
