"""What every `ModelProvider` must do, as tests: subclass `ModelProviderContract` and say how to make yours."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from ostler.domain.model import (
    AskedCall,
    AssistantMessage,
    ModelRef,
    ModelRequest,
    ModelSettings,
    Reply,
    ToolMessage,
    Usage,
    UserMessage,
)
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import (
    IncompleteReply,
    ProviderError,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    RateLimited,
)
from ostler.ports import ModelProvider


class BreaksOff(msgspec.Struct, frozen=True):
    """The provider begins with this reply and breaks off before it is complete."""

    reply: Reply


class Fails(msgspec.Struct, frozen=True):
    """The provider fails like this."""

    error: Any


class GoesQuiet(msgspec.Struct, frozen=True):
    """The provider begins with this reply and then says nothing more, without ending."""

    reply: Reply


Outcome = Reply | BreaksOff | Fails | GoesQuiet

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ = ToolSpec(name="files.read", description="Read a file.", parameters=SCHEMA, effect="read")
SEARCH = ToolSpec(name="search", description="Search the web.", parameters={"type": "object", "properties": {}})
ANSWER = Reply(
    text="Four of A-17 are left. Grüße, 世界 🌍!", usage=Usage(input_tokens=12, output_tokens=9), model="model-1"
)


def request(**changes: Any) -> ModelRequest:
    """A question in the middle of a session, changed as given."""
    plain = ModelRequest(
        model=ModelRef(kind="live", provider="any", name="model-1"),
        system="You are a clerk.",
        messages=(
            UserMessage(text="How many A-17 are left?"),
            AssistantMessage(
                text="Let me look.", calls=(AskedCall(id="1.1", name="files.read", arguments='{"path":"a"}'),)
            ),
            ToolMessage(call="1.1", name="files.read", text='{"ok":true,"data":"4"}'),
        ),
        tools=(READ, SEARCH),
        settings=ModelSettings(timeout_s=30.0),
        key="ses_1/2",
    )
    return msgspec.structs.replace(plain, **changes)


class ModelProviderContract(ABC):
    """What every provider must do; a subclass says how its server is made to answer."""

    @abstractmethod
    def provider(self, *outcomes: Outcome) -> AbstractAsyncContextManager[ModelProvider]:
        """A provider, closed at the end, that answers the first request with the first outcome, and so on."""

    async def test_a_reply_arrives_whole(self) -> None:
        async with self.provider(ANSWER) as provider:
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_text_is_shown_as_it_arrives_and_adds_up_to_the_reply(self) -> None:
        seen: list[str] = []
        async with self.provider(ANSWER) as provider:
            await provider.complete(request(), seen.append)
        assert "".join(seen) == ANSWER.text

    async def test_calls_keep_their_order_names_and_arguments(self) -> None:
        calls = (
            AskedCall(id="one", name="files.read", arguments='{"path": "a b.txt", "é": [1, 2.50]}'),
            AskedCall(id="two", name="search", arguments="{}"),
            AskedCall(id="three", name="files.read", arguments='{"path":"c"}'),
        )
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert [(call.name, call.arguments) for call in reply.calls] == [(call.name, call.arguments) for call in calls]
        assert reply.stop == "tool_calls"

    async def test_arguments_that_are_no_json_arrive_as_the_model_wrote_them(self) -> None:
        calls = (AskedCall(id="one", name="search", arguments='{"query": oops'),)
        async with self.provider(Reply(text="", calls=calls, stop="tool_calls")) as provider:
            reply = await provider.complete(request(), _ignore)
        assert reply.calls[0].arguments == '{"query": oops'

    async def test_a_reply_at_its_length_limit_says_so(self) -> None:
        async with self.provider(msgspec.structs.replace(ANSWER, stop="length")) as provider:
            assert (await provider.complete(request(), _ignore)).stop == "length"

    async def test_half_of_a_reply_is_never_returned(self) -> None:
        calls = (AskedCall(id="one", name="search", arguments="{}"),)
        async with self.provider(BreaksOff(Reply(text="I will", calls=calls, stop="tool_calls"))) as provider:
            with pytest.raises(IncompleteReply):
                await provider.complete(request(), _ignore)

    @pytest.mark.parametrize(
        "error",
        [
            RateLimited("Slow down.", status=429, retry_after_s=7.5),
            ProviderOverloaded("Try later.", status=503),
            ProviderRejected("No such model.", status=404),
        ],
        ids=lambda error: error.code,
    )
    async def test_a_failure_keeps_its_kind_status_and_words(self, error: ProviderError) -> None:
        async with self.provider(Fails(error)) as provider:
            with pytest.raises(type(error)) as caught:
                await provider.complete(request(), _ignore)
        assert type(caught.value) is type(error)
        assert (caught.value.message, caught.value.status) == (error.message, error.status)
        assert caught.value.retry_after_s == error.retry_after_s

    async def test_nothing_is_retried_within(self) -> None:
        async with self.provider(Fails(ProviderOverloaded("Try later.", status=503)), ANSWER) as provider:
            with pytest.raises(ProviderOverloaded):
                await provider.complete(request(), _ignore)
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_a_provider_that_goes_quiet_is_left_at_the_deadline(self) -> None:
        async with self.provider(GoesQuiet(ANSWER)) as provider:
            with pytest.raises(ProviderTimeout):
                await provider.complete(request(settings=ModelSettings(timeout_s=0.05)), _ignore)

    async def test_cancelling_ends_the_call_and_harms_no_other(self) -> None:
        has_begun = asyncio.Event()
        async with self.provider(GoesQuiet(ANSWER), ANSWER) as provider:
            call = asyncio.create_task(provider.complete(request(), lambda _: has_begun.set()))
            await has_begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await provider.complete(request(), _ignore) == ANSWER

    async def test_calls_at_the_same_time_get_a_reply_each(self) -> None:
        replies = [Reply(text=f"Reply {number}", model="model-1") for number in range(8)]
        async with self.provider(*replies) as provider:
            got = await asyncio.gather(*(provider.complete(request(), _ignore) for _ in replies))
        assert sorted(got, key=lambda reply: reply.text) == replies

    async def test_the_request_is_left_as_it_was(self) -> None:
        asked = request()
        before = msgspec.json.encode(asked)
        async with self.provider(ANSWER) as provider:
            await provider.complete(asked, _ignore)
        assert msgspec.json.encode(asked) == before

    async def test_closing_twice_is_no_mistake(self) -> None:
        async with self.provider(ANSWER) as provider:
            reply = await provider.complete(request(), _ignore)
            await provider.close()
            await provider.close()
        assert reply.text == ANSWER.text


def _ignore(text: str) -> None:
    """For calls whose text nobody watches."""
