"""What a provider costs over a bare client that reads the same stream from the same server: CPU time, medians.

`python -m benchmarks.streaming [--json]`. The bare client is httpx2 alone: it has its request ready as a dict, encodes
it, reads the lines and decodes the JSON of each event. Ours makes its request from a conversation of 20 turns and ten
tools, and checks, orders and translates what comes. Both run in one thread of one process, turn about; the server has
a thread of its own, which does not count.
"""

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import msgspec

from ostler.adapters.providers.anthropic import Anthropic
from ostler.adapters.providers.google import Google
from ostler.adapters.providers.openai import OpenAI
from ostler.adapters.providers.openai_responses import OpenAIResponses
from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    Message,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reply,
    ToolMessage,
    UserMessage,
)
from ostler.domain.tool import ToolSpec
from ostler.testing.wire import WireServer

TOKENS = 500
ROUNDS = 60
Provider = Anthropic | Google | OpenAI | OpenAIResponses
DIALECTS: dict[str, tuple[Callable[..., Provider], str]] = {
    "anthropic": (Anthropic, "/v1/messages"),
    "google": (Google, "/models/model-1:streamGenerateContent?alt=sse"),
    "openai-chat": (OpenAI, "/chat/completions"),
    "openai-responses": (OpenAIResponses, "/responses"),
}


class Cost(msgspec.Struct):
    """CPU microseconds until the first token, and for each one after it."""

    first_us: float
    token_us: float


class Measured(msgspec.Struct):
    dialect: str
    ours: Cost
    bare: Cost

    @property
    def more(self) -> Cost:
        """What ours costs on top."""
        return Cost(self.ours.first_us - self.bare.first_us, self.ours.token_us - self.bare.token_us)


def question(name: str) -> ModelRequest:
    """A question in the middle of a session: 20 turns, ten tools."""
    parameters = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = tuple([ToolSpec(f"files.tool{n}", "Does something to a file.", parameters) for n in range(10)])
    messages: list[Message] = [UserMessage("Repair the tests.")]
    for turn in range(20):
        call = AskedCall(f"{turn}.1", "files.tool1", f'{{"path":"src/module_{turn}.py"}}')
        messages.append(AssistantMessage(f"I look at module {turn}.", (call,)))
        messages.append(ToolMessage(call.id, call.name, '{"ok":true,"data":"' + "x" * 400 + '"}'))
    return ModelRequest(
        ModelRef("live", "any", name), "You repair programs.", messages, tools, ModelSettings(), "ses_1/20"
    )


@contextmanager
def serving() -> Iterator[tuple[WireServer, asyncio.AbstractEventLoop]]:
    """A server in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = WireServer()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server, loop
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Watch:
    """CPU time of this thread until the first piece of text, and from there to the end."""

    def __init__(self) -> None:
        self._begun = time.thread_time()
        self._first = 0.0
        self._pieces = 0

    def saw(self, text: str) -> None:
        if not self._pieces:
            self._first = time.thread_time()
        self._pieces += 1

    def cost(self) -> Cost:
        ended = time.thread_time()
        return Cost((self._first - self._begun) * 1e6, (ended - self._first) / (self._pieces - 1) * 1e6)


async def ours(provider: Provider, asked: ModelRequest) -> Cost:
    watch = Watch()
    await provider.complete(asked, watch.saw)
    return watch.cost()


def said(event: dict[str, Any]) -> Any:
    """The text of one event, in whichever dialect."""
    if candidates := event.get("candidates"):
        parts = candidates[0].get("content", {}).get("parts") or [{}]
        return parts[0].get("text")
    choices = event.get("choices") or [event]
    delta = choices[0].get("delta") or {}
    return delta if isinstance(delta, str) else delta.get("content") or delta.get("text")


async def bare(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> Cost:
    watch = Watch()
    async with client.stream("POST", url, content=json.dumps(body)) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                event = json.loads(line[6:])
                if text := said(event):
                    watch.saw(text)
    return watch.cost()


async def compare(dialect: str, server: WireServer, *, rounds: int, tokens: int) -> Measured:
    make, path = DIALECTS[dialect]
    asked = question("model-1")
    reply = Reply("0123456789a " * tokens)
    mine: list[Cost] = []
    others: list[Cost] = []
    provider = make(api_key="none", base_url=server.url)
    async with httpx2.AsyncClient(timeout=None, verify=False) as client:
        for _ in range(rounds + 3):
            server.answers(reply, reply)
            mine.append(await ours(provider, asked))
            others.append(await bare(client, server.url + path, server.asked[-1].body))
    await provider.close()
    return Measured(dialect, _median(mine[3:]), _median(others[3:]))  # the first ones open the connections


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in Cost.__struct_fields__))


def measure(*, rounds: int = ROUNDS, tokens: int = TOKENS) -> list[Measured]:
    with serving() as (server, _):
        return [asyncio.run(compare(dialect, server, rounds=rounds, tokens=tokens)) for dialect in DIALECTS]


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args()
    found = measure(rounds=options.rounds)
    if options.json:
        print(msgspec.json.encode(found).decode())
        return
    print("CPU µs          to the first token           for each token")
    print("dialect             ours    bare    more       ours   bare   more    (at most 1000 and 20 more)")
    for one in found:
        mine, other, more = one.ours, one.bare, one.more
        print(
            f"{one.dialect:16} {mine.first_us:7.0f} {other.first_us:7.0f} {more.first_us:7.0f}"
            f" {mine.token_us:10.1f} {other.token_us:6.1f} {more.token_us:6.1f}"
        )


if __name__ == "__main__":
    main()
