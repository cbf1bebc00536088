"""Both dialects keep the contract of the port, over real connections to a server that speaks their wire format."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from ostler.domain.model import Reply
from ostler.ports import ModelProvider
from ostler.testing.contracts.model_provider import BreaksOff, Fails, GoesQuiet, ModelProviderContract, Outcome, request
from ostler.testing.wire import JSON, Answer, Asked, WireServer, stream
from tests.adapters.providers.recorded import DIALECTS, KEY

PATHS = {"anthropic": "/v1/messages", "openai": "/chat/completions"}


@asynccontextmanager
async def serving(dialect: str, outcomes: tuple[Outcome, ...]) -> AsyncIterator[ModelProvider]:
    async with WireServer() as server:
        server.answers(*(answer(dialect, outcome) for outcome in outcomes))
        provider = DIALECTS[dialect](api_key=KEY, base_url=server.url)
        try:
            yield provider
        finally:
            await provider.close()


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


class TestAnthropic(ModelProviderContract):
    def provider(self, *outcomes: Outcome) -> AbstractAsyncContextManager[ModelProvider]:
        return serving("anthropic", outcomes)


class TestOpenAI(ModelProviderContract):
    def provider(self, *outcomes: Outcome) -> AbstractAsyncContextManager[ModelProvider]:
        return serving("openai", outcomes)
