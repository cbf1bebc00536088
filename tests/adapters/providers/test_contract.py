"""All dialects keep the contract of the port, over real connections to a server that speaks their wire format."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from ostler.domain.model import AskedCall, Reasoning, Reply
from ostler.kernel.errors import ProviderGarbled
from ostler.ports import ModelProvider
from ostler.testing.contracts.model_provider import BreaksOff, Fails, GoesQuiet, Outcome, WireProviderContract, request
from ostler.testing.wire import JSON, Answer, Asked, WireServer, stream
from tests.adapters.providers.recorded import DIALECTS, KEY

PATHS = {
    "anthropic": "/v1/messages",
    "google": "/v1/models/model-1:streamGenerateContent?alt=sse",
    "openai": "/chat/completions",
    "openai-responses": "/responses",
}


class OverTheWire(WireProviderContract):
    """A dialect against a server that speaks it."""

    dialect: str
    requests: list[Asked]

    @asynccontextmanager
    async def provider(self, *outcomes: Outcome) -> AsyncIterator[ModelProvider]:
        async with WireServer() as server:
            self.requests = server.asked
            server.answers(*(answer(self.dialect, outcome) for outcome in outcomes))
            provider = DIALECTS[self.dialect](api_key=KEY, base_url=server.url)
            try:
                yield provider
            finally:
                await provider.close()

    def sent(self) -> list[Any]:
        return [asked.body for asked in self.requests]


def answer(dialect: str, outcome: Outcome) -> Answer | Reply:
    match outcome:
        case Reply():
            return outcome
        case BreaksOff(reply=reply):
            return Answer(chunks=chunks(dialect, reply)[:-1], then="cut")
        case GoesQuiet(reply=reply):
            return Answer(chunks=chunks(dialect, reply)[:-1], then="silence")
        case Fails(error=error):
            wait = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
            body = msgspec.json.encode({"error": {"message": error.message}})
            return Answer(status=error.status, content_type=JSON, headers=wait, chunks=(body,))


def chunks(dialect: str, reply: Reply) -> tuple[bytes, ...]:
    return stream(reply, Asked("POST", PATHS[dialect], {}, msgspec.json.encode({"model": request().model.name})))


class TestAnthropic(OverTheWire):
    dialect = "anthropic"

    def thought(self) -> Reasoning:
        raw = '{"type":"thinking","thinking":"They want stock: look.","signature":"EqQBCgIYAhIkYzQ0OTk4ZTA="}'
        return Reasoning("anthropic", "model-1", raw, "They want stock: look.")


class TestOpenAI(OverTheWire):
    dialect = "openai"

    def thought(self) -> Reasoning:
        return Reasoning(
            "openai-chat", "model-1", '{"reasoning_content":"They want stock: look."}', "They want stock: look."
        )


class TestOpenAIResponses(OverTheWire):
    dialect = "openai-responses"

    def thought(self) -> Reasoning:
        raw = (
            '{"id":"rs_0825a1b2c3d4","type":"reasoning","summary":[{"type":"summary_text","text":"They want stock: '
            'look."}],"encrypted_content":"gAAAAABoISQ24OyVRYbkYfukdJoqdzWT"}'
        )
        return Reasoning("openai-responses", "model-1", raw, "They want stock: look.")


class TestGoogle(OverTheWire):
    dialect = "google"

    def thought(self) -> Reasoning:
        return Reasoning("google", "model-1", '{"thoughtSignature":"CiQB0e2Kb1hpZGRlbiB0aG91Z2h0","call":0}')

    async def test_arguments_that_are_no_json_arrive_as_the_model_wrote_them(self) -> None:
        """They do not: Google withholds them with the whole reply, which is then an error that may be tried again."""
        calls = (AskedCall(id="one", name="search", arguments='{"query": oops'),)
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            with pytest.raises(ProviderGarbled, match="MALFORMED_FUNCTION_CALL"):
                await provider.complete(request(), lambda text: None)
