"""What the tests of providers share: recorded streams, and providers that answer without a network."""

from pathlib import Path
from typing import Any

import httpx2

from ostler.adapters.providers.anthropic import Anthropic
from ostler.adapters.providers.google import Google
from ostler.adapters.providers.openai import OpenAI
from ostler.adapters.providers.openai_responses import OpenAIResponses
from ostler.kernel.errors import ProviderError
from ostler.ports import ModelProvider
from ostler.testing.contracts.model_provider import request

CASSETTES = Path(__file__).parent / "cassettes"
ASKED = request()
KEY = "sk-test-4f1c5e8a90b7d236"
Provider = Anthropic | Google | OpenAI | OpenAIResponses
DIALECTS: dict[str, type[Provider]] = {
    "anthropic": Anthropic,
    "google": Google,
    "openai": OpenAI,
    "openai-responses": OpenAIResponses,
}
SPOKEN_BY = {
    "anthropic": "anthropic",
    "google": "google",
    "openai": "openai",
    "openai-responses": "openai-responses",
    "deepseek": "openai",
    "llamacpp": "openai",
    "ollama": "openai",
    "vllm": "openai",
}
"""The dialect of each server of which there are recordings."""
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def cassette(name: str) -> bytes:
    """A stream as it was on the wire."""
    return (CASSETTES / f"{name}.sse").read_bytes()


def begun(dialect: str) -> bytes:
    """The beginning of a reply, with its first text."""
    body = cassette(f"{dialect}_text")
    end = body.index(b"\n\n", body.index(b"Four"))
    return body[: end + 2]


def cassettes() -> list[tuple[str, str]]:
    """The dialect and the name of every recording."""
    names = sorted(path.stem for path in CASSETTES.glob("*.sse"))
    servers = [(SPOKEN_BY.get(name.partition("_")[0]), name) for name in names]
    return [(dialect, name) for dialect, name in servers if dialect is not None]


def offline(dialect: str, body: bytes = b"", *, status: int = 200, headers: Any = None) -> Provider:
    """A provider of this dialect that gets one and the same answer to everything."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=EVENT_STREAM if headers is None else headers, content=body)

    return DIALECTS[dialect](api_key=KEY, transport=httpx2.MockTransport(answer))


async def cut_everywhere(dialect: str, body: bytes) -> list[str]:
    """Cut a stream before each of its bytes; what the beginnings yielded: codes of errors, or `reply`."""
    ends = iter(range(len(body)))

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=EVENT_STREAM, content=body[: next(ends)])

    provider = DIALECTS[dialect](api_key=KEY, transport=httpx2.MockTransport(answer))
    return [await outcome(provider) for _ in body]


async def outcome(provider: ModelProvider) -> str:
    """The code of the error that the next answer leads to, or `reply`."""
    try:
        await provider.complete(ASKED, ignore)
    except ProviderError as error:
        return error.code
    return "reply"


def ignore(text: str) -> None:
    """For replies whose text nobody watches."""
