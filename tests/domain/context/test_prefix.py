"""What was sent once is sent again as it was, so that providers find it in their caches."""

from itertools import pairwise
from typing import Any

import httpx2
import msgspec
import pytest

from ostler.adapters.providers.anthropic import Anthropic
from ostler.adapters.providers.google import Google
from ostler.adapters.providers.openai import OpenAI
from ostler.adapters.providers.openai_responses import OpenAIResponses
from ostler.domain import context
from ostler.domain.agent import ContextSettings, Limits
from ostler.domain.model import ModelRef, ModelRequest
from ostler.domain.session import commands as command
from ostler.kernel.errors import ProviderRejected
from tests.domain.context import crowded
from tests.domain.context.crowded import compactions, requests, text_of
from tests.domain.session.story import Story

STEPS = 200
DIALECTS: dict[str, Any] = {
    "anthropic": Anthropic,
    "google": Google,
    "openai": OpenAI,
    "openai-responses": OpenAIResponses,
}
LEADING = ("tools", "system", "systemInstruction", "system_instruction", "instructions")
MESSAGES = ("messages", "input", "contents")


def long_session(settings: ContextSettings) -> Story:
    """A session of 200 steps with parallel calls, refused ones, defects and people who say something."""
    story = crowded.crowded(settings, limits=Limits(steps=None)).start(crowded.GOAL)
    for turn in range(1, STEPS):
        if turn % 20 == 0:
            story.reply(text="")
        elif turn % 7 == 0:
            story.reply(("gone", {}), ("look", {"n": turn}))
            story.returned(f"{turn}.2", text_of(40))
        else:
            story.reply(("look", {"n": turn}), ("look", {"n": -turn}), text="I look at two.")
            story.returned(f"{turn}.2", text_of(60))
            if turn % 11 == 0:
                story.do(command.Send(story.us, "Go on.", story.by))
            story.returned(f"{turn}.1", text_of(80))
    return story


async def sent(dialect: str, asked: ModelRequest) -> bytes:
    """Tools, system prompt and messages as they go over the wire, in the order in which providers cache them."""
    bodies: list[dict[str, Any]] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        bodies.append(msgspec.json.decode(request.content))
        return httpx2.Response(400, json={"error": {"message": "no", "type": "invalid_request_error"}})

    provider = DIALECTS[dialect](api_key="key", transport=httpx2.MockTransport(refuse))
    with pytest.raises(ProviderRejected):
        await provider.complete(asked, lambda text: None)
    await provider.close()
    (body,) = bodies
    head = [body[part] for part in LEADING if part in body]
    return b"".join(msgspec.json.encode(without_marks(item)) for item in [*head, *_messages(body)])


def _messages(body: dict[str, Any]) -> list[Any]:
    (found,) = (body[part] for part in MESSAGES if part in body)
    return list(found)


def without_marks(value: Any) -> Any:
    """Where a cache is to end is said to the provider, and is no part of what it caches."""
    if isinstance(value, dict):
        return {key: without_marks(inner) for key, inner in value.items() if key != "cache_control"}
    return [without_marks(inner) for inner in value] if isinstance(value, list) else value


def shared(before: bytes, after: bytes) -> int:
    """How many bytes both begin with."""
    if after.startswith(before):
        return len(before)
    return next(place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_from_step_to_step_the_request_begins_as_the_last_one_did(dialect: str) -> None:
    story = long_session(ContextSettings(window_tokens=20_000))
    model = ModelRef("live", dialect, "model", dialect=dialect)
    asked = []
    for state, _ in requests(story):
        request = context.request(state, state.open[0])
        asked.append((state.context.compactions, msgspec.structs.replace(request, model=model)))
    assert len(asked) == STEPS
    assert 1 <= len(compactions(story)) <= 10
    bodies = [(compacted, await sent(dialect, request)) for compacted, request in asked]
    shares = [
        shared(before, after) / len(before)
        for (earlier, before), (later, after) in pairwise(bodies)
        if earlier == later
    ]
    assert len(shares) > STEPS - 12
    assert min(shares) >= 0.95
