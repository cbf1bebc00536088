"""A local HTTP server that speaks the wire formats of model providers, to test against without a network or a key.

    async with WireServer() as server:
        server.answers(Reply(text="Four are left."), Answer(status=529, content_type=JSON, chunks=(b"{…}",)))
        provider = OpenAI(base_url=f"{server.url}/v1")

A `Reply` is streamed in the dialect of the path that was asked; an `Answer` says byte by byte what is sent.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from ostler.domain.model import AskedCall, Reply

DELTA_CHARACTERS = 12
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


class Asked:
    """One request as it came."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body: Any = msgspec.json.decode(body) if body else None


class WireServer:
    """Answers requests in the order in which answers were given, and keeps what was asked. Listens on 127.0.0.1."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
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
        answer = self._answers.pop(0) if self._answers else _NOTHING_LEFT
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
    offered = asked.body.get("tools") or []
    wire = {_letters(name): name for name in (tool.get("name") or tool["function"]["name"] for tool in offered)}
    calls = [
        AskedCall(id=call.id, name=wire.get(_letters(call.name), call.name), arguments=call.arguments)
        for call in reply.calls
    ]
    model = reply.model or asked.body["model"]
    if asked.path.endswith("/messages"):
        return _anthropic(reply, calls, model)
    return _openai(reply, calls, model)


def _letters(name: str) -> str:
    """What is left of a tool's name however it was made fit for the wire."""
    return re.sub(r"[^a-zA-Z0-9]", "", name)


def _anthropic(reply: Reply, calls: list[AskedCall], model: str) -> tuple[bytes, ...]:
    usage = {
        "input_tokens": reply.usage.input_tokens,
        "cache_creation_input_tokens": reply.usage.cache_write_tokens,
        "cache_read_input_tokens": reply.usage.cache_read_tokens,
        "output_tokens": 1,
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "model": model, "usage": usage}},
        {"type": "ping"},
    ]
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if reply.text:
        deltas = [{"type": "text_delta", "text": part} for part in _parts(reply.text)]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for call in calls:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *_parts(call.arguments)]]
        blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas))
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    stop = {"end": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}.get(reply.stop, reply.stop)
    output = {"output_tokens": reply.usage.output_tokens}
    events.append({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": output})
    events.append({"type": "message_stop"})
    return tuple(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _json(event)) for event in events)


def _openai(reply: Reply, calls: list[AskedCall], model: str) -> tuple[bytes, ...]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas.extend({"content": part} for part in _parts(reply.text))
    for index, call in enumerate(calls):
        function = {"name": call.name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
        deltas.extend(
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in _parts(call.arguments)
        )
    finish = {"tool_calls": "tool_calls", "length": "length", "refusal": "content_filter"}.get(reply.stop, "stop")
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    prompt = reply.usage.total_tokens - reply.usage.output_tokens
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": reply.usage.output_tokens,
        "total_tokens": reply.usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": reply.usage.cache_read_tokens,
            "cache_write_tokens": reply.usage.cache_write_tokens,
        },
    }
    shared: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_770_000_000,
        "model": model,
    }
    chunks: list[dict[str, Any]] = [shared | {"choices": [choice], "usage": None} for choice in choices]
    chunks.append(shared | {"choices": [], "usage": usage})
    return (*(b"data: %b\n\n" % _json(chunk) for chunk in chunks), b"data: [DONE]\n\n")


def _parts(text: str) -> list[str]:
    return [text[start : start + DELTA_CHARACTERS] for start in range(0, len(text), DELTA_CHARACTERS)]


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
