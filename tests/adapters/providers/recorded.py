"""What the tests of providers share: recorded streams, and providers that answer without a network."""

from pathlib import Path
from typing import Any

import httpx2

from ostler.adapters.providers.anthropic import Anthropic
from ostler.adapters.providers.openai import OpenAI
from ostler.kernel.errors import IncompleteReply
from ostler.testing.contracts.model_provider import request

CASSETTES = Path(__file__).parent / "cassettes"
KEY = "sk-test-4f1c5e8a90b7d236"
DIALECTS: dict[str, type[Anthropic] | type[OpenAI]] = {"anthropic": Anthropic, "openai": OpenAI}
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def cassette(name: str) -> bytes:
    """A stream as it was on the wire."""
    return (CASSETTES / f"{name}.sse").read_bytes()


def offline(dialect: str, body: bytes = b"", *, status: int = 200, headers: Any = None) -> Anthropic | OpenAI:
    """A provider of this dialect that gets one and the same answer to everything."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=EVENT_STREAM if headers is None else headers, content=body)

    return DIALECTS[dialect](api_key=KEY, transport=httpx2.MockTransport(answer))


async def cut_everywhere(dialect: str, body: bytes) -> int:
    """Cut a stream before each of its bytes; how many of the beginnings yielded `IncompleteReply` and nothing else."""
    ends = iter(range(len(body)))

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=EVENT_STREAM, content=body[: next(ends)])

    provider = DIALECTS[dialect](api_key=KEY, transport=httpx2.MockTransport(answer))
    asked = request()
    refused = 0
    for _ in body:
        try:
            await provider.complete(asked, ignore)
        except IncompleteReply:
            refused += 1
    return refused


def ignore(text: str) -> None:
    """For replies whose text nobody watches."""
